"""Training steps that do not wait for a GPU, and recorded ones: the same steps, as far as a CPU can tell."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import lightning as L
import pytest
import recorder
import torch
from conftest import CELLS, IMAGE_SHAPE, on_a_gpu, run_ahead
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from interp_lightning.commands.explain import explain
from interp_lightning.data.digits import Digits
from interp_lightning.errors import ConfigError, Diverged
from interp_lightning.models.base import Autoencoder
from interp_lightning.penalties.base import Penalty
from interp_lightning.runs.build import build_model
from interp_lightning.steps import cuda_graphs
from interp_lightning.steps.guard import Turn
from interp_lightning.system.conf import CONF

BATCH, BATCHES = 8, 10
# Where the defaults would show less, or nothing.
SETTINGS = {"gan": ["penalty.lr=0.001"], "wasserstein": ["penalty.queue=20"], "cramer_wold": ["latent_dim=20"]}


@pytest.fixture
def ahead(monkeypatch) -> None:
    """Treat this CPU as a device that the host does not wait for."""
    run_ahead(monkeypatch)


@pytest.fixture
def emulated(ahead, monkeypatch) -> None:
    recorder.install(monkeypatch)


def model_of(kind: str, penalty: str, guard: str = "stop") -> Autoencoder:
    GlobalHydra.instance().clear()
    settings = [f"model={kind}", f"penalty={penalty}", f"guard={guard}", "network.depth=2", "latent_dim=4"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", settings + SETTINGS.get(penalty, []))
    torch.manual_seed(0)
    model = build_model(cfg, Digits(BATCH))
    model.schedule = lambda epoch, epochs: 1 - epoch / 2
    return model


def train(model: Autoencoder, *callbacks: L.Callback, every: int = 100, broken: int = 0, **options: Any) -> L.Trainer:
    """Train on a few batches; the images of the broken one, from 1, are no numbers."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(BATCHES, BATCH, *IMAGE_SHAPE, generator=generator) * 2 - 1
    if broken:
        images[broken - 1] = torch.nan
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    options = {"accelerator": "cpu", "devices": 1, "max_epochs": 1, "log_every_n_steps": every} | quiet | options
    trainer = L.Trainer(callbacks=list(callbacks), **options)
    trainer.fit(model, DataLoader(TensorDataset(images.flatten(0, 1), torch.zeros(BATCHES * BATCH)), batch_size=BATCH))
    return trainer


class Waiting(TorchDispatchMode):
    """Refuses what would make the host wait for a GPU, and numbers of its own, which it would have to send there."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique2", "lift_fresh")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.WAITS or "linalg" in name:
            assert "vector_norm" in name, f"the host waits for {name}"
        return func(*args, **(kwargs or {}))


class Unwatched(L.Callback):
    """Lets nobody wait in training steps, as long as nothing is logged."""

    def __init__(self) -> None:
        self.steps = 0

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        step = pl_module.training_step

        def watched(batch: Any, batch_idx: int) -> None:
            if trainer.is_last_batch:
                return step(batch, batch_idx)
            self.steps += 1
            with Waiting():
                return step(batch, batch_idx)

        pl_module.training_step = watched


class Waits(Penalty):
    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return torch.linalg.svdvals(z).sum()


@pytest.mark.parametrize(("kind", "penalty"), CELLS)
def test_no_training_step_waits(kind, penalty, ahead):
    unwatched = Unwatched()
    train(model_of(kind, penalty), unwatched)
    assert unwatched.steps == BATCHES - 1


def test_it_would_be_noticed(monkeypatch):
    with pytest.raises(AssertionError, match="the host waits for _local_scalar_dense"):
        train(model_of("ae", "none"), Unwatched())
    run_ahead(monkeypatch)
    model = model_of("ae", "none")
    model.penalty = Waits(lam=1.0)  # as nothing of ours does
    with pytest.raises(AssertionError, match="the host waits for _linalg_svd"):
        train(model, Unwatched())


@pytest.mark.parametrize(("kind", "penalty"), CELLS)
def test_recorded_steps_are_the_same_steps(kind, penalty, emulated):
    one, other = model_of(kind, penalty), model_of(kind, penalty)
    other.cuda_graphs = True
    # In double precision: in single, a rounding error can switch an activation, which changes the gradient visibly.
    trainers = [train(model, every=4, precision="64-true") for model in (one, other)]
    assert other.state_dict().keys() == one.state_dict().keys()
    torch.testing.assert_close(other.state_dict(), one.state_dict(), rtol=0, atol=1e-5)  # 1 % of a step
    assert trainers[0].global_step == trainers[1].global_step == BATCHES * len(trainers[0].optimizers)
    logged = [{k: float(v) for k, v in trainer.callback_metrics.items()} for trainer in trainers]
    assert logged[1] == pytest.approx(logged[0], rel=1e-4)


def test_recorded_steps_repeat_nothing_that_was_frozen(emulated):
    """Each replay has its own images, prior, α and learning rate, and leaves its own trace in the queue."""
    model = model_of("acai", "wasserstein")
    model.cuda_graphs = True
    seen = Seen()
    train(model, seen, every=1)
    replayed = range(cuda_graphs.WARM_UP, BATCHES)
    for name, values in seen.values.items():
        assert len({values[i] for i in replayed}) == len(replayed), name


class Seen(L.Callback):
    """What each batch had, by its name."""

    def __init__(self) -> None:
        self.values: dict[str, list[Any]] = {}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        (rate,) = {float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups}
        losses = {name: float(value) for name, value in trainer.callback_metrics.items()}
        newest = pl_module.penalty.queue[-1].sum().item()
        for name, value in {"rate": rate, "queue": newest, **losses}.items():
            self.values.setdefault(name, []).append(value)


@pytest.mark.parametrize("graphs", [False, True])
def test_a_broken_batch_stops_training_with_the_weights_of_before(graphs, emulated):
    class Before(L.Callback):
        def on_train_batch_end(
            self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            if batch_idx == 5:
                self.state = {name: value.clone() for name, value in pl_module.state_dict().items()}

    model, before = model_of("acai", "wasserstein"), Before()
    model.cuda_graphs = graphs
    with pytest.raises(Diverged, match=r"train/autoencoder/reconstruction \(=nan\).* at batch 7 "):
        train(model, before, broken=7)  # which nobody looks at before batch 10
    assert model.batches_seen == BATCHES
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before.state[name]), name


@pytest.mark.parametrize("graphs", [False, True])
def test_a_broken_batch_is_left_out_and_counted(graphs, emulated, caplog):
    model = model_of("acai", "wasserstein", guard="skip")
    model.cuda_graphs = graphs
    train(model, broken=7)
    assert model.guard.skipped == 2
    assert "number 1: train/autoencoder/reconstruction (=nan)" in caplog.text
    assert all(value.isfinite().all() for value in model.state_dict().values())
    others = model_of("acai", "wasserstein", guard="skip")
    train(others, broken=7)
    torch.testing.assert_close(model.state_dict(), others.state_dict(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("graphs", [False, True])
def test_nothing_is_saved_of_what_nobody_has_looked_at(graphs, emulated, tmp_path):
    class Save(L.Callback):
        def on_train_batch_end(
            self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
        ) -> None:
            if batch_idx == 7:
                trainer.save_checkpoint(tmp_path / "late.ckpt")

    model = model_of("acai", "wasserstein")
    model.cuda_graphs = graphs
    with pytest.raises(Diverged, match="at batch 7 "):
        train(model, Save(), broken=7)
    assert not (tmp_path / "late.ckpt").exists()


def test_a_first_step_that_a_fused_sgd_leaves_out(ahead):
    """It would leave its momentum uninitialised, so that the host has to wait."""
    models = [model_of("ae", "none", guard="skip") for _ in range(2)]
    for model, fused in zip(models, (True, False), strict=True):
        model.optimizer = lambda groups, fused=fused: torch.optim.SGD(groups, lr=1e-3, momentum=0.9, fused=fused)
        train(model, broken=1)
        assert model.guard.skipped == 1
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict())


@pytest.mark.parametrize("rate", [1, 1.0])
def test_learning_rates_may_be_integers(rate, emulated):
    model = model_of("ae", "none", guard="skip")
    model.cuda_graphs = True
    model.optimizer = lambda groups: torch.optim.Adam(groups, lr=rate, eps=1e6, fused=True)  # small steps all the same
    trainer = train(model)
    assert float(trainer.optimizers[0].param_groups[0]["lr"]) == pytest.approx(0.55)


def test_deterministic_training_can_be_recorded(emulated):
    """It has new memory filled, which a replay must not do to what was sent there."""
    one, other = model_of("acai", "mmd"), model_of("acai", "mmd")
    other.cuda_graphs = True
    try:
        for model in (one, other):
            train(model, deterministic="warn")
        assert torch.utils.deterministic.fill_uninitialized_memory
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(other.state_dict(), one.state_dict(), rtol=0, atol=1e-6)


def test_optimizers_that_cannot_leave_out_steps_are_waited_for(ahead):
    model = model_of("ae", "none", guard="skip")
    model.optimizer = lambda groups: torch.optim.Adagrad(groups, lr=1e-3, foreach=True)
    train(model, broken=7)
    assert model.guard.skipped == 1
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_what_cannot_be_recorded_is_named(ahead, monkeypatch):
    def refuse(work: Callable[[], Any]) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    recorder.install(monkeypatch, refuse)
    model = model_of("ae", "none")
    model.cuda_graphs = True
    with pytest.raises(ConfigError, match=r"`cuda_graphs` \(=true\).*when stream is capturing; .*cuda_graphs=false"):
        train(model)


def test_a_batch_of_another_size_is_not_replayed(emulated):
    done, counted = [], []

    def step(x: Tensor) -> list[Turn]:
        done.append(len(x))
        return [Turn("autoencoder", (), x.sum()[None])]

    recorded = cuda_graphs.Recorded(step, lambda generator: None, lambda: counted.append(1))
    sizes = [8, 8, 8, 8, 8, 5, 8]
    sums = [recorded(torch.full((n,), float(i)))[0].numbers.item() for i, n in enumerate(sizes)]
    assert sums == [i * n for i, n in enumerate(sizes)]
    assert done == [8, 8, 8, 8, 5]  # to warm up, to record, and the one of another size
    assert len(counted) == 2


@pytest.fixture
def exact(monkeypatch) -> None:
    """The same kernels each time, and no TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


class Refusing(L.Callback):
    """Lets torch refuse to wait for the GPU in training steps, as long as nothing is logged."""

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default" if trainer.is_last_batch else "error")

    def on_train_batch_end(self, *_: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


@on_a_gpu
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize(("kind", "penalty"), CELLS)
def test_steps_on_a_gpu_wait_for_nothing_and_can_be_recorded(kind, penalty, precision, exact):
    one, other = model_of(kind, penalty), model_of(kind, penalty)
    other.cuda_graphs = True
    waits = train(one, Refusing(), precision=precision, accelerator="gpu")
    recorded = train(other, precision=precision, accelerator="gpu")
    torch.testing.assert_close(other.state_dict(), one.state_dict(), rtol=0, atol=1e-5)
    assert recorded.global_step == waits.global_step


@on_a_gpu
@pytest.mark.parametrize(("kind", "penalty"), CELLS)
def test_a_gpu_does_what_a_cpu_does(kind, penalty, exact):
    losses = []
    for device in ("cpu", "gpu"):
        trainer = train(model_of(kind, penalty), accelerator=device)
        losses.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    assert losses[1] == pytest.approx(losses[0], rel=2e-2, abs=1e-4)  # rounding grows over ten batches


@on_a_gpu
@pytest.mark.parametrize("guard", ["stop", "skip"])
@pytest.mark.parametrize("graphs", [False, True])
def test_a_gpu_leaves_out_a_broken_batch(guard, graphs):
    model = model_of("acai", "wasserstein", guard=guard)
    model.cuda_graphs = graphs
    if guard == "stop":
        with pytest.raises(Diverged, match="at batch 7 "):
            train(model, broken=7, accelerator="gpu")
    else:
        train(model, broken=7, accelerator="gpu")
        assert model.guard.skipped == 2
    assert all(value.isfinite().all() for value in model.state_dict().values())


@on_a_gpu
def test_what_waits_for_the_gpu_is_not_recorded():
    """In a process of its own, as CUDA is of no use any more after a recording that has failed."""
    context = multiprocessing.get_context("spawn")
    said, saying = context.Pipe(duplex=False)
    process = context.Process(target=wait_in_a_recording, args=(saying,))
    process.start()
    assert "`cuda_graphs` (=true) cannot record these training steps: " in said.recv()
    process.join()


def wait_in_a_recording(saying: Any) -> None:
    model = model_of("ae", "none")
    losses, model.cuda_graphs = model.autoencoder_losses, True
    model.autoencoder_losses = lambda p: {name: loss * (1 + 0 * loss.item()) for name, loss in losses(p).items()}
    try:
        train(model, accelerator="gpu")
    except BaseException as error:
        saying.send(explain(error) or repr(error))
