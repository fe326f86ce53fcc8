"""Full disks, signals to several processes, and numbers that break on one device of several."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, at_batch, draw
from tensorboard.summary.writer.record_writer import RecordWriter

from interp_lightning.errors import ConfigError
from interp_lightning.evaluation.protocol import Evaluation
from interp_lightning.runs.checkpoints import read_checkpoint
from interp_lightning.runs.folders import locked
from interp_lightning.system.disk import write_whole
from interp_lightning.training.tensorboard import TensorBoard

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 4 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    mount = subprocess.run(command, capture_output=True, text=True, check=False)
    if mount.returncode:
        pytest.skip(f"cannot mount a small disk here: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Write until nothing more goes in."""
    path = disk / "full"
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            os.write(file, bytes(4096))
    except OSError:
        os.close(file)
    return path


def test_a_disk_that_fills_up_costs_no_checkpoint(small_disk, invoke, monkeypatch):
    options = [*TINY, f"outputs={small_disk}", "trainer.limit_train_batches=8", "checkpoint.every_minutes=0"]
    options += ["model=ae", "penalty=none"]
    status, output = invoke(*options, before=lambda: at_batch(monkeypatch, 4, lambda _: fill(small_disk)))
    assert status == 1
    assert "last.ckpt` cannot be written (No space left on device)" in output
    assert "make room, or remove what is in the way, and resume with ckpt_path=last" in output
    assert "Traceback" not in output
    (run,) = small_disk.glob("*/*")
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["batches_seen"] == 3

    (small_disk / "full").unlink()
    status, output = invoke(*options, "ckpt_path=last")
    assert status == 0, output
    assert json.loads((run / "results.json").read_text())["budget"]["images"] == 8 * 64


@pytest.mark.pictures
def test_without_room_for_curves_and_pictures_training_goes_on(small_disk, invoke, monkeypatch):
    at_batch(monkeypatch, 4, lambda _: fill(small_disk))
    at_batch(monkeypatch, 5, draw)
    at_batch(monkeypatch, 7, lambda _: (small_disk / "full").unlink())
    options = [*TINY, f"outputs={small_disk}", "trainer.limit_train_batches=8", "trainer.log_every_n_steps=1"]
    status, output = invoke(*options, "model=ae", "penalty=none")
    assert status == 0, output
    assert "could not be written (No space left on device); the run continues" in output
    assert "Traceback" not in output
    (run,) = small_disk.glob("*/*")
    assert (run / "results.json").is_file()


def test_curves_are_given_up_with_one_sentence(small_disk, caplog, capfd):
    logger = TensorBoard(small_disk, name="curves", version="")
    logger.log_metrics({"loss": 1.0}, 0)
    logger.experiment.flush()
    fill(small_disk)
    for _ in range(3):
        for step in range(2_000):
            logger.log_metrics({"loss": 1.0}, step)
        logger.experiment.flush()
    logger.finalize("success")
    logger.log_hyperparams({"lam": 1}, {"loss": 2.0})
    logger.finalize("success")
    lost = [message for message in caplog.messages if message.startswith("TensorBoard's files in ")]
    assert len(lost) == 1
    assert "(No space left on device); the run continues without further curves" in lost[0]
    assert "Traceback" not in capfd.readouterr().err


def test_errors_of_tensorflow_end_the_curves_only(tmp_path, caplog, monkeypatch):
    class OpError(Exception):
        """As tensorflow.errors.OpError: no OSError."""

    def fail(*arguments: object) -> None:
        raise OpError("RESOURCE_EXHAUSTED: no space")

    logger = TensorBoard(tmp_path, name="curves", version="")
    logger.log_metrics({"loss": 1.0}, 0)
    logger.experiment.flush()
    monkeypatch.setattr(RecordWriter, "write", fail)
    for step in range(100):
        logger.log_metrics({"loss": 1.0}, step)
    logger.finalize("success")
    (lost,) = [message for message in caplog.messages if message.startswith("TensorBoard's files in ")]
    assert "(RESOURCE_EXHAUSTED: no space); the run continues" in lost


def test_a_file_that_cannot_be_written_whole_is_left_as_it_was(small_disk):
    write_whole(small_disk / "it", "before")
    fill(small_disk)
    with pytest.raises(ConfigError, match=r"it` cannot be written \(No space left on device\); make room"):
        write_whole(small_disk / "it", "after" * 10_000)
    assert (small_disk / "it").read_text() == "before"
    assert {path.name for path in small_disk.iterdir()} == {"it", "full"}


# Several devices

DDP = [*TINY, "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]
MINE = '''
import lightning
import torch
from interp_lightning.penalties import Penalty


class Breaks(Penalty):
    """NaN in the third batch, in the process of one device only."""

    calls = 0

    def forward(self, z, prior):
        if self.training and z.requires_grad:
            self.calls += 1
        one = torch.distributed.is_initialized() and torch.distributed.get_rank() == 1
        return z.square().mean() * (torch.nan if one and self.calls == 3 else 1.0)


class Breaks16(Breaks):
    """The same where gradients are not looked at, as with trainer.precision=16-mixed, which a CPU lacks."""

    def __init__(self, lam):
        super().__init__(lam)
        lightning.Trainer.precision = "16-mixed"
'''


@pytest.fixture
def begin(tmp_path) -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a command line as a process group of its own."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "my_conf" / "penalty").mkdir(parents=True)
    for name in ("Breaks", "Breaks16"):
        path = tmp_path / "my_conf" / "penalty" / f"{name.lower()}.yaml"
        path.write_text(f"_target_: mine.{name}\nlam: 0.1\n")
    begun = []

    def start(*arguments: str) -> subprocess.Popen:
        environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{tmp_path}"}
        process = subprocess.Popen(
            [sys.executable, "-m", "interp_lightning", *arguments],
            cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        begun.append(process)
        return process

    yield start
    for process in begun:
        process.poll()
        if alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def alive(group: int) -> list[int]:
    """The processes of a group that have not ended (ended ones may stay listed until somebody asks)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, its_group = path.read_text().rsplit(")", 1)[1].split()[:3]
            if int(its_group) == group and state != "Z":
                found.append(int(path.parent.name))
    return found


def all_end(group: int, seconds: float = 10) -> bool:
    """Wait a little for the other processes of a group."""
    until = time.monotonic() + seconds
    while alive(group) and time.monotonic() < until:
        time.sleep(0.1)
    return not alive(group)


def wait_for(process: subprocess.Popen, tmp_path: Path) -> Path:
    """Wait until training has begun: until there is a checkpoint."""
    while not (found := list(tmp_path.glob("outputs/*/*/checkpoints/last.ckpt"))):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    return found[0]


@pytest.mark.parametrize(
    ("number", "whom", "status"),
    [(signal.SIGINT, "all", 130), (signal.SIGTERM, "first", 143), (signal.SIGTERM, "other", 143)],
)
def test_all_devices_end_together(number, whom, status, begin, tmp_path):
    """As by Ctrl-C, which reaches the whole process group, and as by a scheduler, which signals the parent or any."""
    process = begin(*DDP, "trainer.max_epochs=1000")
    checkpoint = wait_for(process, tmp_path)
    (other,) = set(alive(process.pid)) - {process.pid}
    (os.killpg if whom == "all" else os.kill)(other if whom == "other" else process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    assert str(checkpoint.relative_to(tmp_path)) in errors
    assert read_checkpoint(checkpoint)["batches_seen"] > 0
    assert all_end(process.pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(number, invoke, monkeypatch, tmp_path):
    at_batch(monkeypatch, 1, lambda _: [os.kill(os.getpid(), number) for _ in range(2)])
    status, output = invoke(*TINY)
    assert status == -number
    assert "Stopping after this batch; press Ctrl-C again to stop at once." in output
    (checkpoint,) = tmp_path.glob("outputs/*/*/checkpoints/*")  # of the start
    assert read_checkpoint(checkpoint)["batches_seen"] == 0


class Signalled(Evaluation):
    """Gets a signal at its start, and takes its time."""

    def __init__(self, number: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.number = number

    def __call__(self, *_: Any) -> Any:
        os.kill(os.getpid(), self.number)
        time.sleep(60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_evaluation_ends_the_run(number, invoke):
    status, output = invoke(*TINY, f"metrics._target_={__name__}.Signalled", f"+metrics.number={int(number)}")
    assert status == 128 + number
    assert "Interrupted" in output
    assert "Traceback" not in output


def test_a_run_is_one_processes(invoke, tmp_path):
    status, output = invoke(*TINY)
    (run,) = tmp_path.glob("outputs/*/*")
    with locked(run):
        status, output = invoke(*TINY, "ckpt_path=last")
        assert status == 1
        assert f"another process is working on the run in {run}; wait" in output
    status, output = invoke(*TINY, "ckpt_path=last")
    assert status == 0, output


def test_a_device_ended_before_training_ends_the_other(begin):
    process = begin(*DDP, "trainer.max_epochs=1000")
    while "Initializing distributed: GLOBAL_RANK: 0" not in process.stderr.readline():
        assert process.poll() is None
    while len(alive(process.pid)) < 2:
        time.sleep(0.02)
    (other,) = set(alive(process.pid)) - {process.pid}
    os.kill(other, signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode not in (0, None)
    assert "Traceback" not in errors
    assert all_end(process.pid)


def test_a_device_killed_before_training_leaves_no_process(begin):
    process = begin(*DDP, "trainer.max_epochs=1000")
    while len(alive(process.pid)) < 2:  # the second device's process has been started
        assert process.poll() is None
        time.sleep(0.02)
    process.terminate()
    process.wait()
    assert all_end(process.pid, 60)


def test_a_device_that_is_killed_ends_the_other_with_a_sentence(begin, tmp_path):
    process = begin(*DDP, "trainer.max_epochs=1000")
    wait_for(process, tmp_path)
    (other,) = set(alive(process.pid)) - {process.pid}
    os.kill(other, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert "The process of another device has ended" in errors
    assert "Traceback" not in errors
    assert all_end(process.pid)


@pytest.mark.parametrize(("guard", "penalty"), [("stop", "breaks"), ("skip", "breaks"), ("skip", "breaks16")])
def test_a_number_that_breaks_on_one_device_is_everybodys(guard, penalty, begin, tmp_path):
    process = begin(
        "--config-dir", "my_conf", *DDP, f"penalty={penalty}", f"guard={guard}", "trainer.limit_train_batches=6"
    )
    _, errors = process.communicate(timeout=120)
    assert all_end(process.pid)
    if guard == "stop":
        assert process.returncode == 1
        assert "training has diverged: " in errors
        assert "Traceback" not in errors
    else:
        assert process.returncode == 0, errors
        (results,) = tmp_path.glob("outputs/*/*/results.json")
        assert json.loads(results.read_text())["budget"]["skipped_steps"] == 1
