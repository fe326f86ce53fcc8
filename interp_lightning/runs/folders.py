"""Make the folders of runs and sweeps, and protect those that are there. Imports no torch."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from interp_lightning.errors import CheckpointError, ConfigError
from interp_lightning.runs.find import has_checkpoints, is_run
from interp_lightning.system.disk import lies_in, lock

LOCK = ".lock"  # held by the process that works on a run
IN_PLACE = {"run.log", LOCK, "multirun.yaml"}  # files that logging, filelock and Hydra write in place
TIME = "%Y-%m-%d_%H-%M-%S"  # in names of folders
PLAN = "plan.json"  # all jobs of a sweep, each a list of its settings
SUMMARY, NUMBERS = "summary.md", "summary.csv"  # the outcome of a sweep, for readers and for programs
# The content of a folder before its run starts.
BEFORE = {".hydra", "run.log", LOCK, "multirun.yaml", ".submitit", PLAN, SUMMARY}

new: set[Path] = set()  # folders that this process has chosen for runs and sweeps, absolute
made: list[Path] = []  # folders that this process has made for them, outermost first, absolute


def new_folder(runs: Path) -> str:
    """Make a folder named by the time; a process that starts in the same second gets another.

    If the folder cannot be made, return its name: the first write to it fails with the reason.
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


def forget(folder: Path) -> None:
    """Delete the folder of a run that was rejected before it started, if this process has made it."""
    if folder in made and folder.is_dir() and {path.name for path in folder.iterdir()} <= BEFORE:
        shutil.rmtree(folder)
    remove_empty()


def remove_empty() -> None:
    """Delete the folders that this process has made for runs and that are still empty."""
    for folder in reversed(made):
        with suppress(OSError):  # it is not empty, or already deleted
            folder.rmdir()


def claim(folder: Path, ckpt_path: str | None) -> None:
    """Check that a run in this folder overwrites no other run, and that no link leads its files elsewhere.

    Raises:
        ConfigError: another run is in the folder.
        CheckpointError: a link in it leads elsewhere.
    """
    around = next((each for each in folder.parents if has_checkpoints(each) and (each / ".hydra").is_dir()), None)
    if around is not None:
        raise ConfigError(f"{folder} is inside the run {around}; name a folder outside of it by hydra.run.dir=…")
    if ckpt_path != "last" and is_run(folder):
        raise ConfigError(
            f"{folder} holds another run, which this one would overwrite; name another folder by hydra.run.dir=…, "
            "omit hydra.run.dir to get a new one, or resume the run with ckpt_path=last"
        )
    if is_run(folder):
        check_links(folder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from working on the same run.

    Raises:
        ConfigError: another process is working on it.
    """

    def busy() -> None:
        raise ConfigError(f"another process is working on the run in {folder}; wait until it has ended, or stop it")

    with lock(folder / LOCK, busy):
        yield


def check_links(folder: Path) -> None:
    """Check that all files of a run or sweep that is to be resumed are in its folder.

    Raises:
        CheckpointError: the run would write through a link to a file elsewhere.
    """
    if folder.is_symlink():
        raise CheckpointError(
            f"{folder} is a link, so the run would write elsewhere; resume it where it is, or start another run"
        )
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *files)):
            # A file that is written in place can be a hard link to another file, or a pipe without a reader.
            own = path.is_file() and path.stat().st_nlink == 1 if path.name in IN_PLACE else True
            if not own or not lies_in(folder, path):
                raise CheckpointError(
                    f"{path} is a link or not a regular file, so the run would write elsewhere; replace it by a copy "
                    "of its target, or start a run in a new folder"
                )


def _make(folder: Path) -> None:
    """Make a folder and its parents, and remember which of them this process has made."""
    for each in (*reversed(folder.parents), folder):
        try:
            each.mkdir()
        except FileExistsError:
            if each == folder:
                raise
        else:
            made.append(each)
