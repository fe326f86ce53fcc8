"""Whatever ends a run, last.ckpt is the model that was evaluated; what diverges replaces no good checkpoint."""

import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import at_batch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from interp_lightning.data.base import mean_image_error
from interp_lightning.data.digits import Digits
from interp_lightning.data.sources import InMemory
from interp_lightning.errors import ConfigError, Diverged
from interp_lightning.evaluation.protocol import Evaluation
from interp_lightning.models.acai import ACAI
from interp_lightning.runs.checkpoints import read_checkpoint
from interp_lightning.runs.load import load_run
from interp_lightning.runs.record import results_so_far
from interp_lightning.steps.guard import Guard, Turn
from interp_lightning.training.callbacks.saver import Saver, seconds
from interp_lightning.training.checkpoints import AtomicCheckpointIO

QUICK = ["schedule=constant", "network.depth=2", "data.batch_size=32"]


class Watched(Evaluation):
    """Keeps the weights of the models that it measures."""

    seen: list[dict[str, torch.Tensor]] = []  # noqa: RUF012

    def __call__(self, model, data):
        self.seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return super().__call__(model, data)


class Unvalidated(Digits):
    """Digits without any for validation."""

    def load(self):
        train, val, test = super().load()
        return train, InMemory(val.images[:0], val.labels[:0]), test


class Exploding(ACAI):
    """The decoder's last bias explodes after `start` batches, `factor` times a batch and that many times."""

    def __init__(self, start: int, factor: float = 3.0, times: int = 10**9, **settings: Any) -> None:
        super().__init__(**settings)
        self.start, self.factor, self.times = start, factor, times

    def training_step(self, batch, batch_idx):
        super().training_step(batch, batch_idx)
        if self.batches_seen >= self.start and self.times:
            self.times -= 1
            bias = [layer for layer in self.decoder.modules() if isinstance(layer, nn.Conv2d)][-1].bias
            with torch.no_grad():
                bias.mul_(self.factor).add_(0.3 * self.factor)


def out_of_time(trainer) -> None:
    next(callback for callback in trainer.callbacks if isinstance(callback, Saver)).elapsed = 1e9


ENDS = ("end", "out of time", "SIGTERM", "SIGINT")


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    every=st.sampled_from([1, 2, 10]),
    validated=st.sampled_from(["0", "1", "1.0", "empty"]),
    fast=st.sampled_from(["false", "false", "true", "2"]),
    epochs=st.integers(1, 3),
    batches=st.integers(1, 4),
    end=st.sampled_from(ENDS),
    when=st.integers(1, 12),
)
@example(every=10, validated="1.0", fast="false", epochs=3, batches=5, end="end", when=1)
@example(every=2, validated="1.0", fast="false", epochs=3, batches=4, end="end", when=1)
@example(every=1, validated="empty", fast="false", epochs=2, batches=3, end="out of time", when=4)
@example(every=1, validated="1.0", fast="true", epochs=1, batches=3, end="end", when=1)
def test_the_last_checkpoint_is_the_model_that_was_evaluated(
    launch, tmp_path, tmp_path_factory, every, validated, fast, epochs, batches, end, when
):
    Watched.seen.clear()
    name = tmp_path_factory.mktemp("run").name
    done = {"false": epochs * batches, "true": 1, "2": 2}[fast]
    early = end != "end" and when <= done
    with pytest.MonkeyPatch.context() as monkeypatch:
        if end == "out of time":
            at_batch(monkeypatch, when, out_of_time)
        elif end != "end":
            at_batch(monkeypatch, when, lambda _: os.kill(os.getpid(), getattr(signal, end)))
        options = [
            *QUICK, "model=acai", "penalty=wasserstein", f"trainer.max_epochs={epochs}",
            f"trainer.limit_train_batches={batches}", f"trainer.check_val_every_n_epoch={every}",
            f"trainer.limit_val_batches={'1.0' if validated == 'empty' else validated}",
            f"trainer.fast_dev_run={fast}", "trainer.max_time=00:01:00:00", f"metrics._target_={__name__}.Watched",
            *([f"data._target_={__name__}.Unvalidated"] if validated == "empty" else []),
        ]  # fmt: skip
        try:
            launch(*options, folder=name)
            stopped = None
        except SystemExit as error:
            stopped = error.code
    folder = tmp_path / name
    state = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert stopped == (128 + getattr(signal, end) if early and end.startswith("SIG") else None)
    assert state["batches_seen"] == (when if early else done)
    assert state["images_seen"] == 32 * state["batches_seen"]
    if stopped is not None:
        return
    (weights,) = Watched.seen
    assert all(torch.equal(value, state["state_dict"][name]) for name, value in weights.items() if value.numel())
    results = json.loads((folder / "results.json").read_text())
    run = load_run(folder, trust=True)
    again = Evaluation(restarts=1, images=100, pairs=8, steps=4, features=None)(run.model, run.datamodule)
    assert again.metrics == results["metrics"]
    described = results_so_far(folder)
    assert described == results
    assert described["budget"]["images"] == state["images_seen"]


@pytest.mark.parametrize("moment", [2, 4, 6])
def test_a_run_out_of_time_resumes_as_if_it_had_gone_on(launch, monkeypatch, moment, caplog):
    caplog.set_level("INFO")
    options = [*QUICK, "model=acai", "penalty=gan", "trainer.max_epochs=2", "trainer.limit_train_batches=4"]
    options += ["trainer.log_every_n_steps=1"]
    straight = launch(*options, folder="straight")
    with monkeypatch.context() as patch:
        at_batch(patch, moment, out_of_time)
        broken = launch(*options, "trainer.max_time=00:00:01:00", folder="broken")
    assert f"`trainer.max_time` (=00:00:01:00) is over after {32 * moment} images" in caplog.text
    with pytest.raises(ConfigError, match=r"`trainer.max_time` \(=00:00:01:00\) must be above 1,000,000,000 seconds"):
        launch(*options, "trainer.max_time=00:00:01:00", "ckpt_path=last", folder="broken")
    launch(*options, "ckpt_path=last", folder="broken")
    ours, theirs = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (broken, straight))
    assert all(torch.equal(value, theirs["state_dict"][name]) for name, value in ours["state_dict"].items())
    assert curves(broken) == curves(straight)


@pytest.mark.parametrize("every", [1, 2, 3])
def test_epochs_without_validation_resume_exactly(launch, monkeypatch, every):
    options = [*QUICK, "model=ae", "penalty=mmd", "trainer.max_epochs=4", "trainer.limit_train_batches=3"]
    options += [f"trainer.check_val_every_n_epoch={every}", "trainer.log_every_n_steps=1"]
    straight = launch(*options, folder="straight")
    for moment in (3, 6, 8, 9):
        with monkeypatch.context() as patch:
            at_batch(patch, moment, lambda _: os.kill(os.getpid(), signal.SIGTERM))
            with pytest.raises(SystemExit):
                launch(*options, *(["ckpt_path=last"] if moment > 3 else []), folder="broken")
    broken = launch(*options, "ckpt_path=last", folder="broken")
    ours, theirs = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (broken, straight))
    assert all(torch.equal(value, theirs["state_dict"][name]) for name, value in ours["state_dict"].items())
    assert ours["epochs_seen"] == theirs["epochs_seen"] == 4
    assert curves(broken) == curves(straight)


def curves(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of training and validation: (step, value) by name."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    names = [name for name in events.Tags()["scalars"] if name.startswith(("train/", "val/"))]
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in names}


# Divergence.


def turns(player: str, **losses: float) -> list[Turn]:
    return [Turn(player, tuple(losses), torch.tensor([*losses.values(), 1.0], dtype=torch.float64))]


def feed(
    guard: Guard, values: list[float], player: str = "autoencoder", name: str = "reconstruction", first: int = 1
) -> int | None:
    """Give a guard one loss after the other; the number of the batch at which it gives a reason, None for never."""
    for number, value in enumerate(values, first):
        guard.note(number, turns(player, **{name: value}))
        guard.look()
        if guard.reason:
            return number
    return None


@settings(max_examples=60)
@given(
    level=st.floats(1e-3, 0.1, allow_subnormal=False),
    noise=st.floats(0, 0.3, allow_subnormal=False),
    spike=st.floats(1, 100, allow_subnormal=False),
    calm=st.integers(100, 400),
    seed=st.integers(0, 99),
)
def test_noise_and_a_single_bad_batch_are_no_divergence(level, noise, spike, calm, seed):
    generator = torch.Generator().manual_seed(seed)
    learning = torch.linspace(1, level, 100)
    losses = torch.cat([learning, torch.full((calm,), level)]) * (
        1 + noise * (2 * torch.rand(100 + calm, generator=generator) - 1)
    )
    losses[-calm // 2] *= min(spike, 1 / level)
    for name in (("critic", "alpha"), ("autoencoder", "reconstruction")):
        guard = Guard("stop")
        guard.mean_image_error = 0.3
        assert feed(guard, losses.tolist(), *name) is None


@settings(max_examples=60)
@given(
    level=st.floats(1e-3, 0.2, allow_subnormal=False),
    growth=st.floats(1.02, 3, allow_subnormal=False),
    calm=st.integers(1, 500),
    critic=st.booleans(),
)
def test_any_exponential_growth_is_noticed(level, growth, calm, critic):
    guard = Guard("stop")
    guard.mean_image_error = 0.3
    name = ("critic", "alpha") if critic else ("autoencoder", "reconstruction")
    assert feed(guard, [level] * calm, *name) is None
    rising = [level * growth**step for step in range(1, 1 + math.ceil(math.log(1e6 / level, growth)))]
    found = feed(guard, rising, *name)
    assert found is not None
    assert rising[found - 1] < 5e4  # long before the numbers overflow


def test_a_model_that_has_never_learned_gets_one_warning_and_is_not_called_diverged(caplog):
    guard = Guard("stop")
    guard.mean_image_error = 0.3
    assert feed(guard, [1.0, 1.2, 0.9] * 333) is None
    assert not caplog.messages
    assert feed(guard, [1.0, 1.2, 0.9] * 333, first=1_000) is None
    (message,) = caplog.messages
    assert "not learning: after 1,000 batches" in message
    assert "mean image (0.3)" in message


def test_a_model_that_has_learned_gets_no_warning(caplog):
    guard = Guard("stop")
    guard.mean_image_error = 0.3
    assert feed(guard, [1.0] * 500 + [0.2] * 1_000) is None
    assert not caplog.messages


LEARNS = ["optimizer.lr=3e-3", "network.depth=8", "schedule=constant", "data.batch_size=32", "penalty=none",
          "checkpoint.every_minutes=0", f"model._target_={__name__}.Exploding", "+model.start=100"]  # fmt: skip


def test_a_run_that_explodes_stops_and_keeps_its_good_checkpoints(launch, tmp_path):
    with pytest.raises(
        Diverged, match=r"training has diverged: .* (mean image|times as high) .*ckpt_path=last.*rollback"
    ):
        launch(*LEARNS, "trainer.max_epochs=3")
    folder = tmp_path / "run" / "checkpoints"
    data = Digits(32)
    for path in folder.iterdir():
        run = load_run(path, trust=True)
        x = data.test.batch(data.test.all())[0] / 127.5 - 1
        with torch.no_grad():
            error = (run.model.decode(run.model.encode(x)) - x).square().mean()
        assert error < mean_image_error(data.train), path
    assert {path.name for path in folder.iterdir()} == {"last.ckpt", "best.ckpt"} | {
        path.name for path in folder.glob("previous.ckpt")
    }


def test_a_rollback_restores_the_good_weights_and_goes_on(launch, caplog):
    folder = launch(*LEARNS, "+model.factor=100.0", "+model.times=1", "trainer.max_epochs=3", "guard=rollback")
    assert "Training has diverged: " in caplog.text
    assert "all learning rates are now 0.5 times as high" in caplog.text
    results = json.loads((folder / "results.json").read_text())
    assert results["budget"]["rollbacks"] == 1
    assert results["budget"]["images"] == 3 * (1257 // 32) * 32
    assert results["metrics"]["reconstruction_mse"] < mean_image_error(Digits(32).train)
    state = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert [group["lr"] for group in state["optimizer_states"][0]["param_groups"]] == [1.5e-3]


def test_rollbacks_end_after_five(launch):
    with pytest.raises(Diverged):
        launch(*LEARNS, "trainer.max_epochs=10", "guard=rollback")


def test_a_bad_checkpoint_replaces_no_good_one(tmp_path):
    io, last = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    for step, calm in enumerate([True, True, False, False, True, True]):
        io.save_checkpoint({"step": step, "guard": {"calm": calm}}, last)
        kept = {path.stem: torch.load(path)["step"] for path in tmp_path.iterdir()}
        assert kept == [
            {"last": 0}, {"last": 1, "previous": 0}, {"last": 2, "previous": 1}, {"last": 3, "previous": 1},
            {"last": 4, "previous": 1}, {"last": 5, "previous": 4},
        ][step]  # fmt: skip


@pytest.mark.parametrize(("text", "number"), [("00:00:00:07", 7), ("01:02:03:04", 93784)])
def test_a_time_in_seconds(text, number):
    assert seconds(text) == number


def test_the_error_of_the_mean_image():
    images = torch.tensor([0, 255], dtype=torch.uint8).repeat(50)[:, None, None, None].expand(100, 1, 4, 4)
    assert mean_image_error(InMemory(images, torch.zeros(100))) == pytest.approx(1.0)
