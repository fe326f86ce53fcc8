"""A run killed at any moment and continued ends as the one that was not; no fault costs the checkpoint before it."""

import errno
import os
import random
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from conftest import FEW_CELLS, TINY, at_batch, train_in

from interp_lightning.errors import CheckpointError, ConfigError, Diverged
from interp_lightning.runs.checkpoints import newest_checkpoint, read_checkpoint
from interp_lightning.training.checkpoints import AtomicCheckpointIO

EPOCHS, BATCHES = 2, 1257 // 64
OPTIONS = [f"trainer.max_epochs={EPOCHS}"]


def same_end(ours: Path, theirs: Path) -> None:
    """Weights, optimizers and logged curves are equal to the last bit."""
    a, b = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (ours, theirs))
    assert a["batches_seen"] == b["batches_seen"]
    assert a["state_dict"].keys() == b["state_dict"].keys()
    assert all(torch.equal(value, b["state_dict"][name]) for name, value in a["state_dict"].items())
    for mine, other in zip(a["optimizer_states"], b["optimizer_states"], strict=True):
        assert mine["param_groups"] == other["param_groups"]
        for index, state in mine["state"].items():
            assert all(torch.equal(value, other["state"][index][name]) for name, value in state.items())
    curves = [next(c for key, c in end["callbacks"].items() if key.startswith("Recorder"))["history"] for end in (a, b)]
    assert curves[0] == curves[1]


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Callable[..., Path]:
    """The run with some settings that nothing has interrupted; tests must not write into it."""
    return cache(lambda *options: train_in(tmp_path_factory.mktemp("straight") / "run", [*TINY, *options]))


@pytest.mark.parametrize("number", [1, 7, BATCHES - 1, BATCHES, BATCHES + 1, 2 * BATCHES])
def test_stopped_by_a_signal_and_continued(number, launch, straight, monkeypatch):
    options = [*OPTIONS, "model=acai", "penalty=gan"]
    at_batch(monkeypatch, number, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as stop:
        launch(*options, folder="broken")
    assert stop.value.code == 143
    same_end(launch(*options, "ckpt_path=last", folder="broken"), straight(*options))


@pytest.mark.parametrize("limit", ["5", "0.3"])
@pytest.mark.parametrize("number", [2, 5])
def test_stopped_in_epochs_that_are_cut_short(limit, number, launch, straight, monkeypatch):
    options = [*OPTIONS, f"trainer.limit_train_batches={limit}"]
    at_batch(monkeypatch, number, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        launch(*options, folder="broken")
    same_end(launch(*options, "ckpt_path=last", folder="broken"), straight(*options))


@pytest.mark.parametrize(("model", "penalty"), FEW_CELLS)
def test_every_cell_stopped_in_the_middle_of_an_epoch(model, penalty, launch, straight, monkeypatch):
    options = [*OPTIONS, f"model={model}", f"penalty={penalty}"]
    at_batch(monkeypatch, BATCHES + 5, lambda _: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(SystemExit):
        launch(*options, folder="broken")
    same_end(launch(*options, "ckpt_path=last", folder="broken"), straight(*options))


def killed(work: Callable[[], object], before: Callable[[], None]) -> int:
    """Work in a process of its own; the signal that ended it, 0 if none did."""
    pid = os.fork()
    if pid == 0:
        try:
            before()
            work()
        finally:
            os._exit(0)
    return os.WTERMSIG(os.waitpid(pid, 0)[1])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_at_random_moments_again_and_again(killed_cell, launch, straight, tmp_path, pytestconfig):
    """At ends of batches, in validation, before, within and between the steps of writing a file, and at any time."""
    kills = pytestconfig.getoption("kills")
    model, penalty = killed_cell
    options = [*OPTIONS, f"trainer.max_epochs={3 + kills // 10}", f"model={model}", f"penalty={penalty}"]
    options += ["checkpoint.every_minutes=0"]
    generator, signals = random.Random(0), []
    moments = [
        (torch, "save"),
        (os, "fsync"),  # of a file, then of its folder
        (L.LightningModule, "on_train_batch_end"),
        (Path, "replace"),
    ]

    def arm(place: Any, name: str, count: int) -> None:
        original, calls = getattr(place, name), iter(range(count))

        def hook(*arguments: Any, **keywords: Any) -> Any:
            if next(calls, None) is None:
                die()
            return original(*arguments, **keywords)

        setattr(place, name, hook)

    def arm_clock(seconds: float) -> None:
        threading.Timer(seconds, die).start()

    for kill in range(kills):
        if kill % 10 == 5:
            moment = partial(arm, L.LightningModule, "on_validation_epoch_end", 0)
        elif kill % 3 == 2:
            moment = partial(arm_clock, generator.uniform(0.1, 0.8))
        else:
            moment = partial(arm, *generator.choice(moments), generator.randrange(4))
        begun = any((tmp_path / "broken").glob("checkpoints/*.ckpt"))
        go_on = [*options, "ckpt_path=last"] if begun else options
        signals.append(killed(partial(launch, *go_on, folder="broken"), moment))
    assert signals.count(signal.SIGKILL) >= kills // 2  # the rest came too late, to a run that had ended
    same_end(launch(*options, "ckpt_path=last", folder="broken"), straight(*options))


def test_a_damaged_checkpoint_costs_no_more_than_the_one_before(launch, straight, monkeypatch, caplog, tmp_path):
    options = [*OPTIONS, "model=ae", "penalty=none", "checkpoint.every_minutes=0"]
    at_batch(monkeypatch, BATCHES + 5, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        launch(*options, folder="broken")
    folder = tmp_path / "broken" / "checkpoints"
    last = folder / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-1000])
    path, state, skipped = newest_checkpoint(folder)
    assert (path.name, state["batches_seen"]) == ("previous.ckpt", BATCHES + 4)
    assert len(skipped) == 1
    same_end(launch(*options, "ckpt_path=last", folder="broken"), straight(*options))
    assert "Skipped: " in caplog.text
    assert "last.ckpt is not a readable checkpoint" in caplog.text

    for file in folder.iterdir():
        file.write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"\(=last\) names no checkpoint: .*last\.ckpt.*previous.*best.*; leave it"
    ):
        launch(*options, "ckpt_path=last", folder="broken")


def test_what_is_no_file_is_skipped_with_a_word(tmp_path):
    AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "previous.ckpt")
    (tmp_path / "last.ckpt").mkdir()
    with pytest.raises(
        CheckpointError, match=r"last.ckpt is not a checkpoint: it is not a file.*previous.ckpt is a checkpoint, but"
    ):
        newest_checkpoint(tmp_path)


def test_a_run_that_was_moved_keeps_its_best_checkpoint(launch, tmp_path, recwarn):
    options = ["model=ae", "penalty=none"]
    launch(*options, "trainer.max_epochs=2")
    (tmp_path / "run").rename(tmp_path / "moved")
    best = tmp_path / "moved" / "checkpoints" / "best.ckpt"
    before = best.read_bytes()
    worse = ["optimizer.lr=1", "trainer.max_epochs=3"]
    with suppress(Diverged):
        launch(*options, *worse, "ckpt_path=last", folder="moved")
    assert best.read_bytes() == before
    assert not [warning for warning in recwarn if "dirpath has changed" in str(warning.message)]


def test_going_on_takes_the_new_optimizers_settings(launch, tmp_path):
    options = [*OPTIONS, "model=acai", "penalty=gan", "schedule=constant"]
    launch(*options, "trainer.max_epochs=1")
    launch(
        *options,
        "trainer.max_epochs=2",
        "optimizer.lr=0.001",
        "penalty.lr=0.002",
        "optimizer.betas=[0.5,0.9]",
        "ckpt_path=last",
    )
    state = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    groups = [group for optimizer in state["optimizer_states"] for group in optimizer["param_groups"]]
    assert [group["lr"] for group in groups] == [0.001, 0.001, 0.002]
    assert all(list(group["betas"]) == [0.5, 0.9] for group in groups)


def test_going_on_with_other_settings_is_said(launch, caplog):
    launch(*OPTIONS, "model=ae", "penalty=mmd", "trainer.max_epochs=1")
    launch(*OPTIONS, "model=ae", "penalty=mmd", "trainer.max_epochs=2", "penalty.lam=1", "ckpt_path=last")
    (said,) = [message for message in caplog.messages if message.startswith("Resuming with other settings")]
    assert said.endswith("than before: penalty.lam=1 (was 0.03), trainer.max_epochs=2 (was 1)")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["data=lines", "trainer.max_epochs=2"],
            r"resumes a run on data=digits, but this one has data=lines; set it back",
        ),
        (
            ["trainer.max_epochs=1"],
            r"`trainer.max_epochs` \(=1\) must be ≥ 2, the epoch in which .*last.ckpt was written",
        ),
    ],
)
def test_going_on_where_that_makes_no_sense(changes, message, launch):
    options = [*OPTIONS, "model=ae", "penalty=none", "trainer.max_epochs=2"]
    launch(*options)
    with pytest.raises(ConfigError, match=message):
        launch(*options, *changes, "ckpt_path=last")


def test_a_full_disk_leaves_the_checkpoint_before_whole(tmp_path, monkeypatch):
    target = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"step": 1}, target)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        CheckpointError, match=r"last\.ckpt` cannot be written \(No space left on device\); .*make room"
    ):
        AtomicCheckpointIO().save_checkpoint({"step": 2}, target)
    assert torch.load(target) == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def test_the_last_two_generations_are_kept(tmp_path):
    for step in range(3):
        AtomicCheckpointIO().save_checkpoint({"step": step}, tmp_path / "last.ckpt")
        AtomicCheckpointIO().save_checkpoint({"step": step}, tmp_path / "best.ckpt")
    kept = {path.name: torch.load(path)["step"] for path in tmp_path.iterdir()}
    assert kept == {"last.ckpt": 2, "previous.ckpt": 1, "best.ckpt": 2}
