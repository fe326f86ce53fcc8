"""Where runs and sweeps are written, and how. Nothing here imports torch."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from interp_lightning.errors import ConfigError
from interp_lightning.settings import check

LOCK = ".lock"  # held by the process that works on a run
BEFORE = {".hydra", "run.log", LOCK, "multirun.yaml", ".submitit"}  # what lies in a folder before anything is done
SUMMARY = "summary.md"  # what became of a sweep's jobs

new: set[Path] = set()  # what this process has chosen to write to, absolute


@cache  # asked for many times over, and the answer is where this run writes
def run_dir(outputs: str, name: str, ckpt_path: str | None) -> str:
    """A new folder named by the time, or with ckpt_path=last the folder of the run to go on with."""
    runs = Path(check("outputs", outputs)) / name
    if ckpt_path == "last":
        checkpoints = sorted(runs.glob("**/checkpoints/*.ckpt"), key=lambda file: file.stat().st_mtime)
        if checkpoints:
            return str(checkpoints[-1].parent.parent)
    if rank():
        return _scratch().name
    return _new_folder(runs)


def rank() -> int:
    """The number of this process among those that torchrun or SLURM has started."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0)))


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """Where a device's process that torchrun or SLURM has started has its log; the run's folder is the first one's.

    (Lightning tells those that it starts itself where the run's folder is.)
    """
    return tempfile.TemporaryDirectory(prefix="interp_lightning_")


def sweep_dir(outputs: str, name: str, resume: bool) -> str:
    """A new folder for a sweep, or with sweep.resume=true that of the newest one of this name."""
    runs = Path(check("outputs", outputs)) / name
    if resume is not True:
        return _new_folder(runs)
    sweeps = sorted(path.parent for path in runs.glob(f"*/{SUMMARY}"))
    if not sweeps:
        raise ConfigError(f"`sweep.resume` (=true) finds no sweep in {runs}; leave it out to start one")
    new.add(sweeps[-1].absolute())
    return str(sweeps[-1])


def run_name(name: str | None, choices: DictConfig) -> str:
    """What runs are filed under: the name given, the experiment, or the cell of the grid."""
    return check("name", name) or choices.get("experiment") or f"{choices.get('model')}_{choices.get('penalty')}"


def record_dir(*, _root_: DictConfig) -> str:
    """Where in the run's folder Hydra keeps the configuration; a continuation leaves the first one alone."""
    begun = (Path(_root_.hydra.runtime.output_dir) / ".hydra").exists()
    return f".hydra/continued_{datetime.now():%Y-%m-%d_%H-%M-%S}" if begun else ".hydra"


def forget(folder: Path) -> None:
    """Remove the folder of a run that was refused before it began, so that only runs are among the runs."""
    if folder in new and folder.is_dir() and {path.name for path in folder.iterdir()} <= BEFORE:
        shutil.rmtree(folder)
        _remove_if_empty(folder.parent, folder.parent.parent)


def remove_empty() -> None:
    """Remove what this process has chosen to write to, and has not written to."""
    for folder in new:
        _remove_if_empty(folder, folder.parent, folder.parent.parent)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from working on the same run.

    Raises:
        ConfigError: one does.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(
            f"another process is working on the run in {folder}; wait until it has ended, or stop it"
        ) from None
    except OSError:  # the folder's file system knows no locks
        pass
    try:
        yield
    finally:
        lock.release()


def find_runs(paths: list[str]) -> list[Path]:
    """The runs in some folders, sorted by their names; each is a run itself or holds runs at any depth.

    Raises:
        ConfigError: a folder does not exist or has no run in it.
    """
    runs: list[Path] = []
    for name in paths:
        folder = Path(name)
        if not folder.is_dir():
            hint = "; a checkpoint is named by ckpt=…" if folder.suffix == ".ckpt" else ""
            raise ConfigError(f"{name} is no folder; name a run's, such as outputs/acai_wasserstein/<time>{hint}")
        found = sorted(_runs_below(folder), key=_natural)
        if not found:
            raise ConfigError(
                f"{name} holds no run: no results.json and no checkpoints; name the folder above or below"
            )
        runs += [run for run in found if run not in runs]
    return runs


def write_whole(path: Path, text: str) -> None:
    """Write a file, all or nothing.

    Raises:
        ConfigError: it cannot be written; what was there is whole.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text)
        part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise ConfigError(
            f"`{path}` cannot be written ({error.strerror}); make room or make it writable, then go on with "
            "ckpt_path=last, or for a sweep sweep.resume=true"
        ) from error


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names, as on the command line."""
    settings: dict[str, Any] = {}
    for key, value in config.items():
        settings |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return settings


def _new_folder(runs: Path) -> str:
    """A folder named by the time, made at once, so that another process which begins in the same second takes another.

    One that cannot be made is only named: whatever goes to write there says why.
    """
    stem = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for name in (stem, *(f"{stem}-{number}" for number in range(2, 1000))):
        folder = runs / name
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError:
            pass
        break
    new.add(folder.absolute())
    return str(folder)


def _remove_if_empty(*folders: Path) -> None:
    for folder in folders:
        with suppress(OSError):  # it holds something, or is no more
            folder.rmdir()


def _runs_below(folder: Path, below: bool = False) -> Iterator[Path]:
    """The folder itself if it is a run, or else the runs in it; what lies in a run belongs to it."""
    if (folder / "results.json").is_file() or any(folder.glob("checkpoints/*.ckpt")):
        yield folder
    elif not (below and folder.is_symlink()):  # a link to a run is followed, but none that could lead round in circles
        for path in folder.iterdir():
            if path.is_dir():
                yield from _runs_below(path, below=True)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts a sweep's 2 before its 10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in path.parts]


# Configurations ask: ${run_dir:…}. Registered by importing this, as in the processes that do a sweep's jobs.
for resolver in (run_dir, run_name, record_dir):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
# Cached by the text of its arguments, and handed on to the jobs: whatever they choose, they lie in one folder.
OmegaConf.register_new_resolver("sweep_dir", sweep_dir, use_cache=True, replace=True)
