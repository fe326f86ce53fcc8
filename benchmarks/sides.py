"""The ways to train that the benchmark compares, each in a process of its own: same networks, same objective."""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.steps import WITHOUT, configuration
from interp_lightning.networks import layers
from interp_lightning.networks.folding import Folding, compile_networks
from interp_lightning.steps import cuda_graphs
from interp_lightning.system import machine
from interp_lightning.system.machine import prepare_cpu

# What makes this package fast, where it is, and what is put there to see what it is worth.
REPLACED: dict[str, tuple[object, str, Any]] = {
    "folding": (Folding, "forward", nn.Sequential.forward),
    "in_place": (layers, "leaky_relu", lambda: nn.LeakyReLU(layers.SLOPE)),
    "memory": (machine, "keep_memory", lambda: None),
    "denormals": (torch, "set_flush_denormal", lambda flush: None),
}

IMAGES, SHAPE = 55_000, (1, 32, 32)  # MNIST's number and size; what is on them does not matter


class Turns:
    """Says when to train: waits for a number of batches, and answers how fast they were trained on."""

    def __init__(self, batch: int, device: torch.device) -> None:
        self.batch, self.device = batch, device
        self._answers, sys.stdout = sys.stdout, sys.stderr
        self._asked = self._left = 0
        self._began = 0.0

    def next(self) -> None:
        """To be called before the first batch and after each."""
        self._left -= 1
        if self._left > 0:
            return
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        if self._asked:
            self._say(images_per_second=self._asked * self.batch / (time.perf_counter() - self._began))
        self._asked = self._left = int(sys.stdin.readline() or 0)
        if not self._asked:
            self._say(peak_mib=_peak(self.device))
            raise SystemExit
        self._began = time.perf_counter()

    def _say(self, **content: float) -> None:
        print(json.dumps(content), file=self._answers, flush=True)


def ours(given: dict[str, Any], turns: Turns) -> None:
    """This package's loop as a run has it, but for validation, checkpoints and pictures, which the others lack."""
    without = given["side"].removeprefix(WITHOUT)
    if without in REPLACED:
        setattr(*REPLACED[without])
    prepare_cpu(given["threads"])
    import tempfile
    from pathlib import Path

    import lightning as L

    from interp_lightning.data.base import ImageData
    from interp_lightning.data.sources import InMemory, OnDisk, Source
    from interp_lightning.runs.build import build_model
    from interp_lightning.training.callbacks.history import Recorder
    from interp_lightning.training.run import build_trainer

    class Noise(ImageData):
        name = "noise"
        image_shape, classes, epochs = SHAPE, 10, 1_000

        def load(self) -> tuple[Source, Source, Source]:
            images = torch.randint(0, 256, (IMAGES, *SHAPE), dtype=torch.uint8)
            labels = torch.zeros(IMAGES, dtype=torch.long)
            part: Source = InMemory(images, labels)
            if without == "data":
                part = OnDisk(TensorDataset(images, labels), workers=0)
            return part, part, part

    class Clock(L.Callback):
        def on_train_start(self, *_: Any) -> None:
            turns.next()

        def on_train_batch_end(self, *_: Any) -> None:
            turns.next()

    cfg = configuration(given)
    cfg.optimizer.fused = without != "fused"
    with tempfile.TemporaryDirectory() as folder:
        data = Noise(given["batch"])
        model = build_model(cfg, data)
        if without == "channels_last":
            model.to(memory_format=torch.contiguous_format)
        if given["side"] == "compiled":
            compile_networks(model)
        model.cuda_graphs = given["side"] == "recorded"
        model.save_hyperparameters(
            {"choices": given | {"data": "noise"}, "data_used": "noise", "data": {}}, logger=False
        )
        recorder = Recorder(Path(folder))
        trainer = build_trainer(cfg, data, Path(folder), recorder, None)
        trainer.callbacks.append(Clock())  # type: ignore[attr-defined]
        recorder._wait = float("inf")
        trainer.fit_loop.max_epochs = data.epochs
        trainer.fit(model, datamodule=data)


def plain(given: dict[str, Any], turns: Turns) -> None:
    """What one writes: floats in a DataLoader, layers as they are, every backward pass through everything."""
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
    """The least that a step can be with these networks: no framework, no copies, no gradient that nobody uses."""
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
    """A step as a CUDA graph, for items as many as in the example."""
    for _ in range(cuda_graphs.WARM_UP):
        cuda_graphs.aside(lambda: step(example))
    replay, _ = cuda_graphs.record(lambda: step(example))

    def recorded(items: Tensor) -> None:
        example.copy_(items)
        replay()

    return recorded


def pythae(given: dict[str, Any], turns: Turns) -> None:
    """pythae's trainer with the same networks and kernel: WAE-MMD."""
    import tempfile

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

    class Clock(TrainingCallback):
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
        BaseTrainer(WAE_MMD(config, encoder, decoder), images, training_config=training, callbacks=[Clock()]).train()


def _parts(given: dict[str, Any], device: torch.device, folded: bool) -> tuple[dict[str, nn.Module], Any, Any]:
    """The networks of a run of that cell, its penalty and its model's settings."""
    from hydra.utils import instantiate

    cfg = configuration(given)
    network = instantiate(cfg.network, image_shape=SHAPE, latent_dim=cfg.latent_dim)
    penalty = instantiate(cfg.penalty, _convert_="all")
    penalty(*torch.randn(2, 2 * cfg.latent_dim, cfg.latent_dim))  # which lets it see the size of a code
    parts = {"encoder": network.encoder(), "decoder": network.decoder()}
    parts["critic"] = network.critic() if given["model"] == "acai" else nn.Identity()
    for part in [*parts.values(), penalty]:
        part.to(device)
        if not folded:
            part.to(memory_format=torch.contiguous_format)
    if not folded:
        parts = {name: _unfolded(part) for name, part in parts.items()}
    return parts, penalty, cfg.model


def _unfolded(module: nn.Module) -> nn.Module:
    """The same layers as one writes them: one by one, and none in place."""
    if isinstance(module, nn.Sequential):
        return nn.Sequential(*map(_unfolded, module))
    return nn.LeakyReLU(module.negative_slope) if isinstance(module, nn.LeakyReLU) else module


def _objective(
    parts: dict[str, nn.Module], penalty: Any, settings: Any, x: Tensor, precision: str
) -> tuple[Tensor, Callable[[], Tensor]]:
    """The autoencoder's loss of a batch, and what gives the critics' once the autoencoder has taken its step."""
    encoder, decoder, critic = parts["encoder"], parts["decoder"], parts["critic"]
    adversarial = not isinstance(critic, nn.Identity)
    cast = torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16-mixed")
    with cast:
        z = encoder(x)
        x_hat = decoder(z)
        loss = F.mse_loss(x_hat, x)
        if adversarial:
            alpha = 0.5 * torch.rand(len(x), device=x.device)
            mixed = decoder(torch.lerp(z.flip(0), z, alpha[:, None].to(z)))
            loss = loss + settings.lam * critic(mixed).square().mean()
    codes = z.float()
    prior = torch.randn_like(codes)
    loss = loss + penalty.lam * penalty(codes, prior)

    def for_critic() -> Tensor:
        terms = list(penalty.critic_losses(codes.detach(), prior).values())
        if adversarial:
            with cast:
                unmixed = settings.gamma * x + (1 - settings.gamma) * x_hat.detach()
                terms += [F.mse_loss(critic(mixed.detach()).float(), alpha), critic(unmixed).square().mean()]
        return torch.stack(terms).sum()

    return loss, for_critic


def _peak(device: torch.device) -> float:
    """The most memory that this process has held, MiB: the GPU's, or the CPU's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / 2**10 if sys.platform != "darwin" else kilobytes / 2**20


def main() -> None:
    """One side: its settings as JSON in the only argument, then turns on stdin and answers on stdout."""
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    cuda = given["device"] != "cpu" and torch.cuda.is_available()
    given["accelerator"] = "gpu" if cuda else "cpu"
    torch.manual_seed(0)
    others = {"plain": plain, "bare": bare, "pythae": pythae}
    others.get(given["side"], ours)(given, Turns(given["batch"], torch.device("cuda" if cuda else "cpu")))


if __name__ == "__main__":
    main()
