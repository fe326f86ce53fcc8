"""Where runs and sweeps are written, and how. Nothing here imports torch."""

import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from interp_lightning.errors import CheckpointError, ConfigError
from interp_lightning.system.disk import lies_in, lock

LOCK = ".lock"  # held by the process that works on a run
IN_PLACE = {"run.log", LOCK, "multirun.yaml"}  # what others write without replacing it
TIME = "%Y-%m-%d_%H-%M-%S"  # that names folders
PLAN = "plan.json"  # all jobs of a sweep, as a list of their own settings
SUMMARY = "summary.md"  # what became of a sweep's jobs
# What lies in a folder before anything is done.
BEFORE = {".hydra", "run.log", LOCK, "multirun.yaml", ".submitit", PLAN, SUMMARY}

new: set[Path] = set()  # the folders of runs and sweeps that this process has chosen, absolute
made: list[Path] = []  # the folders that this process has made for them, outermost first, absolute


def newest_run(runs: Path) -> Path | None:
    """Return the run below a folder whose checkpoints are the newest, without counting copies of runs that are there.

    A copy is younger than its original, but it is a backup, and to resume it would leave the run itself behind.
    """
    newest = {file.parent.parent: file.stat().st_mtime for file in _by_time(runs.glob("**/checkpoints/*.ckpt"))}
    there = {run.resolve() for run in newest}
    return max((run for run in newest if not _is_copy(run, there)), key=newest.__getitem__, default=None)


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


def check_links(folder: Path) -> None:
    """Check that a folder to resume in, a run's or a sweep's, has only files of its own.

    Raises:
        CheckpointError: the run would write through a link in it to somewhere else.
    """
    for parent, folders, files in os.walk(folder):
        for path in (Path(parent, name) for name in (*folders, *files)):
            # A file that is written in place can be another file by a second name, or a pipe that nobody reads.
            own = path.is_file() and path.stat().st_nlink == 1 if path.name in IN_PLACE else True
            if not own or not lies_in(folder, path):
                raise CheckpointError(
                    f"{path} is a link or no ordinary file, so that the run would write elsewhere; replace it by a "
                    "copy of what it leads to, or start a run in a folder of its own"
                )


def new_folder(runs: Path) -> str:
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
