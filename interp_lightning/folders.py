"""Where runs and sweeps are written, and how. Nothing here imports torch."""

import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from uuid import uuid4

from omegaconf import DictConfig, OmegaConf

from interp_lightning.cli import FIRST
from interp_lightning.disk import lock
from interp_lightning.errors import CheckpointError, ConfigError
from interp_lightning.settings import check, written_out

LOCK = ".lock"  # held by the process that works on a run
IN_PLACE = {"run.log", LOCK, "multirun.yaml"}  # what others write without replacing it
TIME = "%Y-%m-%d_%H-%M-%S"  # that names folders
PLAN = "plan.json"  # all jobs of a sweep, as a list of their own settings
SUMMARY = "summary.md"  # what became of a sweep's jobs
# What lies in a folder before anything is done.
BEFORE = {".hydra", "run.log", LOCK, "multirun.yaml", ".submitit", PLAN, SUMMARY}

new: set[Path] = set()  # the folders of runs and sweeps that this process has chosen, absolute
made: list[Path] = []  # the folders that this process has made for them, outermost first, absolute

# Variables by which a launcher tells a process its place among others.
PLACES = ("RANK", "LOCAL_RANK", "GROUP_RANK", "SLURM_PROCID", "SLURM_LOCALID", "JSM_NAMESPACE_RANK")


def run_dir(outputs: str, name: str, ckpt_path: str | None) -> str:
    """Return a new folder named by the time, or with ckpt_path=last that of the newest run.

    OmegaConf keeps the answer as long as the configuration that asks, so that each run has one folder of its own.
    """
    runs = Path(written_out("outputs", outputs)) / name
    if ckpt_path == "last" and (run := newest_run(runs)):
        check_links(run)
        return str(run)
    if rank():
        return _scratch().name
    return _new_folder(runs)


def newest_run(runs: Path) -> Path | None:
    """Return the run below a folder whose checkpoints are the newest, without counting copies of runs that are there.

    A copy is younger than its original, but it is a backup, and to resume it would leave the run itself behind.
    """
    newest = {file.parent.parent: file.stat().st_mtime for file in _by_time(runs.glob("**/checkpoints/*.ckpt"))}
    there = {run.resolve() for run in newest}
    return max((run for run in newest if not _is_copy(run, there)), key=newest.__getitem__, default=None)


def rank() -> int:
    """Return the number of this process among those that torchrun, srun or another launcher has started."""
    return max(_number("RANK"), 0) if launched() and "RANK" in os.environ else _srun_rank()


def forget_stray_ranks() -> list[str]:
    """Unset what a launcher has left in the environment of a process that it has not started; return the settings.

    Lightning believes such a variable, and a process that takes itself for the fourth of four writes no files.
    """
    if launched() or _srun_rank() or "SLURM_STEP_ID" in os.environ:
        return []
    return [f"{name}={os.environ.pop(name)}" for name in PLACES if name in os.environ]


def launched() -> bool:
    """Return whether torchrun, Lightning or a launcher like them has started this process, beside others."""
    if os.environ.get("TORCHELASTIC_RUN_ID") or FIRST in os.environ:
        return True
    several = _number("WORLD_SIZE") > 1 and "MASTER_ADDR" in os.environ
    return several and ("LOCAL_RANK" in os.environ or "NODE_RANK" in os.environ)


def _srun_rank() -> int:
    """Return this process's number among the tasks of srun, 0 outside of one."""
    several = _number("SLURM_NTASKS") > 1 and os.environ.get("SLURM_STEP_NUM_TASKS") == os.environ["SLURM_NTASKS"]
    return max(_number("SLURM_PROCID"), 0) if several else 0


def _number(variable: str) -> int:
    """Return an environment variable as a number, −1 if it is none."""
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else -1


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """Where a device's process that torchrun or SLURM has started has its log; the run's folder is the first one's.

    (Lightning tells those that it starts itself where the run's folder is.)
    """
    return tempfile.TemporaryDirectory(prefix="interp_lightning_")


def sweep_dir(outputs: str, name: str, resume: bool) -> str:
    """A new folder for a sweep, or with sweep.resume=true that of the newest one of this name."""
    runs = Path(written_out("outputs", outputs)) / name
    if resume is not True:
        return _new_folder(runs)
    sweeps = sorted(path.parent for path in runs.glob(f"*/{SUMMARY}"))
    if not sweeps:
        raise ConfigError(f"`sweep.resume` (=true) finds no sweep in {runs}; leave it out to start one")
    check_links(sweeps[-1])
    new.add(sweeps[-1].absolute())
    return str(sweeps[-1])


def run_name(name: str | None, choices: DictConfig) -> str:
    """What runs are filed under: the name given, the experiment, or the cell of the grid."""
    chosen = choices.get("experiment") or f"{choices.get('model')}_{choices.get('penalty')}"
    return check("name", chosen if name is None else name)


def record_dir(*, _root_: DictConfig) -> str:
    """Where in the run's folder Hydra keeps the configuration; a continuation leaves the first one alone."""
    begun = (Path(_root_.hydra.runtime.output_dir) / ".hydra").exists()
    return f".hydra/continued_{datetime.now():{TIME}}" if begun else ".hydra"


def forget(folder: Path) -> None:
    """Delete the folder of a run that was rejected before it started, if this process has made it."""
    if folder in made and folder.is_dir() and {path.name for path in folder.iterdir()} <= BEFORE:
        shutil.rmtree(folder)
    remove_empty()


def remove_empty() -> None:
    """Delete the folders that this process has made for runs, and that nothing has been written to."""
    for folder in reversed(made):
        with suppress(OSError):  # it holds something, or is no more
            folder.rmdir()


def claim(folder: Path, ckpt_path: str | None) -> None:
    """Make sure that a run overwrites no other, and nothing elsewhere if it resumes in a folder.

    Raises:
        ConfigError: another run is in the folder.
        CheckpointError: a link in it leads elsewhere.
    """
    around = next((each for each in folder.parents if has_checkpoints(each) and (each / ".hydra").is_dir()), None)
    if around is not None:
        raise ConfigError(f"{folder} lies in the run {around}; name a folder outside of it by hydra.run.dir=…")
    if ckpt_path != "last" and is_run(folder):
        raise ConfigError(
            f"{folder} holds another run, which this one would overwrite; name another folder by hydra.run.dir=…, "
            "leave that out to get a new one, or resume the run by ckpt_path=last"
        )
    if is_run(folder):
        check_links(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from working on the same run.

    Raises:
        ConfigError: one does.
    """

    def busy() -> None:
        raise ConfigError(f"another process is working on the run in {folder}; wait until it has ended, or stop it")

    with lock(folder / LOCK, busy):
        yield


def find_runs(paths: list[str]) -> list[Path]:
    """The runs in some folders, sorted by their names; each is a run itself or holds runs at any depth.

    A folder that cannot be looked into counts as a run, so that the command names it when it cannot use it.
    One that is reached in several ways, such as by a link, counts once; a link only where the run is not there itself.

    Raises:
        ConfigError: a folder does not exist or has no run in it.
    """
    runs: dict[tuple[int, int], Path] = {}  # by what tells folders apart on a disk
    for name in paths:
        folder = Path(name)
        if not folder.is_dir():
            hint = "; a checkpoint is named by ckpt=…" if folder.suffix == ".ckpt" else ""
            raise ConfigError(f"{name} is no folder; name a run's, such as outputs/acai_wasserstein/<time>{hint}")
        found = sorted(_runs_below(folder), key=lambda run: (run.is_symlink(), _natural(run)))
        if not found:
            raise ConfigError(
                f"{name} holds no run: no results.json and no checkpoints; name the folder above or below"
            )
        for run in found:
            runs.setdefault((run.stat().st_dev, run.stat().st_ino), run)
    return list(runs.values())


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, all or nothing.

    Raises:
        ConfigError: it cannot be written; what was there is whole.
    """
    try:
        replace(path, content)
    except OSError as error:
        raise ConfigError(
            f"`{path}` cannot be written ({error.strerror}); make room or make it writable, then go on with "
            "ckpt_path=last, or for a sweep sweep.resume=true"
        ) from error


def replace(path: Path, content: str | bytes) -> None:
    """Replace a file, all or nothing: a link in its place is replaced and not followed.

    Raises:
        OSError: it cannot be written; what was there is whole.
    """
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    try:
        with fresh(path.with_name(f".{uuid4().hex}.part"), data) as part:
            part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextmanager
def fresh(path: Path, content: bytes | memoryview, flush: bool = False) -> Iterator[Path]:
    """Write a file that is to replace another one; it is removed if it does not.

    Args:
        path: what lies there is removed. If it is a link, its target stays as it is.
        flush: wait until the content is on the disk.
    """
    path.unlink(missing_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
        with open(descriptor, "wb") as file:
            file.write(content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        yield path
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def within(folder: Path, path: Path) -> Path:
    """Return a path in a folder that someone else may have filled.

    Raises:
        CheckpointError: a link in the folder leads it elsewhere.
    """
    if not _lies_in(folder, path):
        raise CheckpointError(
            f"{path} leads out of the run's folder, to {os.path.realpath(path)}; with trust=true it is followed, if "
            "you know where the run comes from"
        )
    return path


def check_links(folder: Path) -> None:
    """Check that a folder to resume in, a run's or a sweep's, has only files of its own.

    Raises:
        CheckpointError: the run would write through a link in it to somewhere else.
    """
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *files)):
            # A file that is written in place can be another file by a second name, or a pipe that nobody reads.
            own = path.is_file() and path.stat().st_nlink == 1 if path.name in IN_PLACE else True
            if not own or not _lies_in(folder, path):
                raise CheckpointError(
                    f"{path} is a link or no ordinary file, so that the run would write elsewhere; replace it by a "
                    "copy of what it leads to, or start a run in a folder of its own"
                )


def _lies_in(folder: Path, path: Path) -> bool:
    """Return True if a path is in a folder once all links are followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _new_folder(runs: Path) -> str:
    """Make a folder named by the time, so that another process which begins in the same second takes another.

    One that cannot be made is only named: whatever goes to write there says why.
    """
    stem = f"{datetime.now():{TIME}}"
    for name in (stem, *(f"{stem}-{number}" for number in range(2, 1000))):
        folder = (runs / name).absolute()
        try:
            _make(folder)
        except FileExistsError:
            continue
        except OSError:
            pass
        break
    new.add(folder)
    return str(runs / name)


def _make(folder: Path) -> None:
    """Make a folder with those above it, and remember which of them are this process's own."""
    for each in (*reversed(folder.parents), folder):
        try:
            each.mkdir()
        except FileExistsError:
            if each == folder:
                raise
        else:
            made.append(each)


def is_run(folder: Path) -> bool:
    """Return whether a folder is a run's: it holds results or a checkpoint."""
    return (folder / "results.json").is_file() or has_checkpoints(folder)


def has_checkpoints(folder: Path) -> bool:
    """Return whether a folder is that of a run that has been trained, not only of results."""
    return any(folder.glob("checkpoints/*.ckpt"))


def _is_copy(run: Path, there: Collection[Path]) -> bool:
    """Return whether a run is a copy of one of those that are there, by the folder that Hydra has recorded for it."""
    try:
        record = (run / ".hydra" / "hydra.yaml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    recorded = re.search(r"^ +output_dir: (.+)$", record, re.MULTILINE)
    original = Path(recorded[1]).resolve() if recorded else run.resolve()
    return original in there and original != run.resolve()


def _by_time(files: Iterable[Path]) -> list[Path]:
    """Return the files that can be looked at, the oldest first."""
    known = []
    for file in files:
        with suppress(OSError):  # a link that leads nowhere
            known.append((file.stat().st_mtime, file))
    return [file for _, file in sorted(known)]


def _runs_below(folder: Path, below: bool = False) -> Iterator[Path]:
    """The folder itself if it is a run, or else the runs in it; what lies in a run belongs to it."""
    try:
        inner = None if is_run(folder) else [path for path in folder.iterdir() if path.is_dir()]
    except OSError:  # it cannot be looked into
        inner = None
    if inner is None:
        yield folder
    elif not (below and folder.is_symlink()):  # a link to a run is followed, but none that could lead round in circles
        for path in inner:
            yield from _runs_below(path, below=True)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts a sweep's 2 before its 10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in path.parts]


# Configurations ask: ${run_dir:…}. Registered by importing this, as in the processes that do a sweep's jobs.
for resolver in (run_name, record_dir):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
# Cached in the configuration by the text of their arguments: a run has one folder, and so have a sweep's jobs.
for cached in (run_dir, sweep_dir):
    OmegaConf.register_new_resolver(cached.__name__, cached, use_cache=True, replace=True)
