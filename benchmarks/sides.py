"""The ways to train that the benchmark compares: same networks, same objective, one process each."""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.steps import WITHOUT, configuration
from interp_lightning.data.base import ImageData
from interp_lightning.data.sources import InMemory, OnDisk, Source
from interp_lightning.models.base import Autoencoder
from interp_lightning.networks.folding import compile_networks
from interp_lightning.runs.build import build_model
from interp_lightning.steps import cuda_graphs
from interp_lightning.system.machine import prepare_cpu
from interp_lightning.training.callbacks.history import Recorder
from interp_lightning.training.trainer import build_trainer

IMAGES, SHAPE = 55_000, (1, 32, 32)  # MNIST's number and size; the content does not matter


class Turns:
    """Pace one contender: read a number of batches from stdin, train on them, report images per second.

    Args:
        batch: images per step.
        device: the device that trains.
    """

    def __init__(self, batch: int, device: torch.device) -> None:
        self.batch, self.device = batch, device
        self._reports, sys.stdout = sys.stdout, sys.stderr
        self._asked = self._left = 0
        self._began = 0.0

    def next(self) -> None:
        """Count one batch. Call it before the first batch and after each."""
        self._left -= 1
        if self._left > 0:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        if self._asked:
            self._report(images_per_second=self._asked * self.batch / (time.perf_counter() - self._began))
        self._asked = self._left = int(sys.stdin.readline() or 0)
        if not self._asked:
            self._report(peak_mib=_peak(self.device))
            raise SystemExit
        self._began = time.perf_counter()

    def _report(self, **content: float) -> None:
        print(json.dumps(content), file=self._reports, flush=True)


class Clock(L.Callback):
    """Count the batches of a Trainer."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_start(self, *_: Any) -> None:
        self.turns.next()

    def on_train_batch_end(self, *_: Any) -> None:
        self.turns.next()


class NoPictures(Recorder):
    """Record losses and speed, but draw nothing: the other sides do not draw either."""

    def draw_images(self) -> None:
        pass


class Noise(ImageData):
    """Random images in memory, or read one by one through a DataLoader."""

    name = "noise"
    image_shape, classes, epochs = SHAPE, 10, 1

    def __init__(self, batch_size: int, one_by_one: bool = False) -> None:
        super().__init__(batch_size)
        self.one_by_one = one_by_one

    def load(self) -> tuple[Source, Source, Source]:
        images = torch.randint(0, 256, (IMAGES, *SHAPE), dtype=torch.uint8)
        labels = torch.zeros(IMAGES, dtype=torch.long)
        part: Source = InMemory(images, labels)
        if self.one_by_one:
            part = OnDisk(TensorDataset(images, labels), workers=0)
        return part, part, part


def ours(given: dict[str, Any], turns: Turns) -> None:
    """Train by this package, without validation, checkpoints and pictures, which the other sides lack."""
    with tempfile.TemporaryDirectory() as folder:
        trainer, model, data = assemble(given, Path(folder))
        trainer.callbacks.append(Clock(turns))  # type: ignore[attr-defined]
        trainer.fit(model, datamodule=data)


def assemble(given: dict[str, Any], folder: Path) -> tuple[L.Trainer, Autoencoder, ImageData]:
    """Build this package's trainer, model and data, and omit one optimisation if the side's name says so."""
    without = given["side"].removeprefix(WITHOUT)
    prepare_cpu(given["threads"], flush_denormal=without != "denormals", keep_memory=without != "memory")
    cfg = configuration(given)
    cfg.optimizer.fused = without != "fused"
    data = Noise(given["batch"], one_by_one=without == "data")
    model = build_model(cfg, data)
    for name, part in list(model.named_children()):
        if name in ("encoder", "decoder", "critic"):
            setattr(model, name, _rebuilt(part, folded=without != "folding", in_place=without != "in_place"))
    if without == "channels_last":
        model.to(memory_format=torch.contiguous_format)
    if given["side"] == "compiled":
        compile_networks(model)
    model.cuda_graphs = given["side"] == "recorded"
    model.save_hyperparameters({"choices": given | {"data": "noise"}, "data_used": "noise", "data": {}}, logger=False)
    return build_trainer(cfg, data, folder, [NoPictures(folder)], None), model, data


def plain(given: dict[str, Any], turns: Turns) -> None:
    """Train by the loop that one writes by hand: floats in a DataLoader, plain layers, full backward passes."""
    parts, penalty, settings = _parts(given, turns.device, folded=False)
    images = torch.rand(IMAGES, *SHAPE) * 2 - 1
    loader = DataLoader(
        TensorDataset(images, torch.zeros(IMAGES)), batch_size=given["batch"], shuffle=True, drop_last=True
    )
    critics = [*parts["critic"].parameters(), *penalty.parameters()]
    autoencoder = torch.optim.Adam([*parts["encoder"].parameters(), *parts["decoder"].parameters()], lr=1e-4)
    critic = torch.optim.Adam(critics, lr=1e-4) if critics else None
    turns.next()
    while True:
        for x, _ in loader:
            losses, for_critic = _objective(parts, penalty, settings, x.to(turns.device), given["precision"])
            autoencoder.zero_grad()
            losses.backward()
            autoencoder.step()
            if critic is not None:
                critic.zero_grad()
                for_critic().backward()
                critic.step()
            turns.next()


def bare(given: dict[str, Any], turns: Turns) -> None:
    """Train by the cheapest loop with these networks: no framework, no copies, no unused gradients."""
    prepare_cpu(given["threads"])
    parts, penalty, settings = _parts(given, turns.device, folded=True)
    images = torch.randint(0, 256, (IMAGES, *SHAPE), dtype=torch.uint8, device=turns.device)
    mine = [*parts["encoder"].parameters(), *parts["decoder"].parameters()]
    critics = [*parts["critic"].parameters(), *penalty.parameters()]
    cuda = turns.device.type == "cuda"
    autoencoder = torch.optim.Adam(mine, lr=1e-4, fused=True, capturable=cuda)
    critic = torch.optim.Adam(critics, lr=1e-4, fused=True, capturable=cuda) if critics else None

    def step(items: Tensor) -> None:
        x = images[items].float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)
        losses, for_critic = _objective(parts, penalty, settings, x, given["precision"])
        autoencoder.zero_grad()
        losses.backward(inputs=mine)
        autoencoder.step()
        if critic is not None:
            critic.zero_grad()
            for_critic().backward(inputs=critics)
            critic.step()

    launch = _recorded(step, torch.arange(given["batch"], device=turns.device)) if cuda else step
    turns.next()
    while True:
        for items in torch.randperm(IMAGES, device=turns.device).split(given["batch"])[:-1]:
            launch(items)
            turns.next()


def _recorded(step: Callable[[Tensor], None], example: Tensor) -> Callable[[Tensor], None]:
    """Capture a step as a CUDA graph, for batches of the example's size."""
    for _ in range(cuda_graphs.WARM_UP):
        cuda_graphs.aside(lambda: step(example))
    replay, _ = cuda_graphs.record(lambda: step(example))

    def recorded(items: Tensor) -> None:
        example.copy_(items)
        replay()

    return recorded


def pythae(given: dict[str, Any], turns: Turns) -> None:
    """Train WAE-MMD by pythae's trainer, with the same networks and kernel."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import WAE_MMD, WAE_MMD_Config
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from pythae.trainers.training_callbacks import TrainingCallback

    parts, penalty, _ = _parts(given, turns.device, folded=False)

    def adapted(base: type, layers: nn.Module, output: str) -> nn.Module:
        class Adapted(base):
            def __init__(self) -> None:
                super().__init__()
                self.layers = layers

            def forward(self, x: Tensor) -> Any:
                return ModelOutput(**{output: self.layers(x)})

        return Adapted()

    class Ticks(TrainingCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            turns.next()

        def on_train_step_end(self, *_: Any, **__: Any) -> None:
            turns.next()

    config = WAE_MMD_Config(input_dim=SHAPE, latent_dim=given["latent_dim"], reg_weight=penalty.lam)
    images = BaseDataset(torch.rand(IMAGES, *SHAPE) * 2 - 1, torch.zeros(IMAGES))
    with tempfile.TemporaryDirectory() as folder:
        training = BaseTrainerConfig(
            output_dir=folder, per_device_train_batch_size=given["batch"], num_epochs=1_000,
            no_cuda=turns.device.type != "cuda",
        )  # fmt: skip
        encoder = adapted(BaseEncoder, parts["encoder"], "embedding")
        decoder = adapted(BaseDecoder, parts["decoder"], "reconstruction")
        BaseTrainer(WAE_MMD(config, encoder, decoder), images, training_config=training, callbacks=[Ticks()]).train()


def _parts(given: dict[str, Any], device: torch.device, folded: bool) -> tuple[dict[str, nn.Module], Any, Any]:
    """Build the networks and the penalty of a cell; return them with the model's settings."""
    from hydra.utils import instantiate

    cfg = configuration(given)
    network = instantiate(cfg.network, image_shape=SHAPE, latent_dim=cfg.latent_dim)
    penalty = instantiate(cfg.penalty, _convert_="all")
    penalty(*torch.randn(2, 2 * cfg.latent_dim, cfg.latent_dim))  # lazy layers take their size from the first codes
    parts = {"encoder": network.encoder(), "decoder": network.decoder()}
    parts["critic"] = network.critic() if given["model"] == "acai" else nn.Identity()
    for part in [*parts.values(), penalty]:
        part.to(device)
        if not folded:
            part.to(memory_format=torch.contiguous_format)
    if not folded:
        parts = {name: _rebuilt(part, folded=False, in_place=False) for name, part in parts.items()}
    return parts, penalty, cfg.model


def _rebuilt(module: nn.Module, folded: bool, in_place: bool) -> nn.Module:
    """Return the same layers with the same parameters, folded or one by one, with activations in place or not."""
    if isinstance(module, nn.Sequential):
        kind = type(module) if folded else nn.Sequential
        return kind(*(_rebuilt(layer, folded, in_place) for layer in module))
    if isinstance(module, nn.LeakyReLU):
        return nn.LeakyReLU(module.negative_slope, inplace=module.inplace and in_place)
    return module


def _objective(
    parts: dict[str, nn.Module], penalty: Any, settings: Any, x: Tensor, precision: str
) -> tuple[Tensor, Callable[[], Tensor]]:
    """Return the autoencoder's loss of a batch, and a function for the critics' loss after the autoencoder's step."""
    encoder, decoder, critic = parts["encoder"], parts["decoder"], parts["critic"]
    adversarial = not isinstance(critic, nn.Identity)
    cast = torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16-mixed")
    with cast:
        z = encoder(x)
        if adversarial:
            alpha = 0.5 * torch.rand(len(x), device=x.device)
            x_hat, mixed = decoder(torch.cat([z, torch.lerp(z.flip(0), z, alpha[:, None].to(z))])).chunk(2)
            loss = F.mse_loss(x_hat, x) + settings.lam * critic(mixed).square().mean()
        else:
            x_hat = decoder(z)
            loss = F.mse_loss(x_hat, x)
    codes = z.float()
    prior = torch.randn_like(codes)
    loss = loss + penalty.lam * penalty(codes, prior)

    def for_critic() -> Tensor:
        terms = list(penalty.critic_losses(codes.detach(), prior).values())
        if adversarial:
            with cast:
                unmixed = settings.gamma * x + (1 - settings.gamma) * x_hat.detach()
                on_mixed, on_unmixed = critic(torch.cat([mixed.detach(), unmixed])).chunk(2)
                terms += [F.mse_loss(on_mixed.float(), alpha), on_unmixed.square().mean()]
        return torch.stack(terms).sum()

    return loss, for_critic


def _peak(device: torch.device) -> float:
    """Return this process's peak memory in MiB: the GPU's, or the CPU's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / 2**10 if sys.platform != "darwin" else kilobytes / 2**20


def main() -> None:
    """Run one side: settings as JSON in the only argument, numbers of batches on stdin, reports on stdout."""
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    cuda = given["device"] != "cpu" and torch.cuda.is_available()
    given["accelerator"] = "gpu" if cuda else "cpu"
    torch.backends.cudnn.benchmark = True  # on a GPU, as trainer=gpu does
    torch.manual_seed(0)
    others = {"plain": plain, "bare": bare, "pythae": pythae}
    others.get(given["side"], ours)(given, Turns(given["batch"], torch.device("cuda" if cuda else "cpu")))


if __name__ == "__main__":
    main()
