"""Find runs on disk, and the files in a run's folder. Imports no torch."""

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from interp_lightning.errors import CheckpointMissing, ConfigError


def find_runs(paths: list[str]) -> list[Path]:
    """Find all runs in some folders, each a run itself or with runs at any depth; sorted by name.

    A folder that cannot be read counts as a run, so that the command names it when it cannot use it. A run that can be
    reached in several ways counts once, by its own path rather than by a link.

    Raises:
        ConfigError: a folder does not exist or holds no run.
    """
    runs: dict[tuple[int, int], Path] = {}  # by device and inode
    for name in paths:
        folder = Path(name)
        if not folder.is_dir():
            hint = "; a checkpoint is named by ckpt=…" if folder.suffix == ".ckpt" else ""
            raise ConfigError(f"{name} is not a folder; name a run's, such as outputs/acai_wasserstein/<time>{hint}")
        found = sorted(_runs_below(folder), key=lambda run: (run.is_symlink(), _natural(run)))
        if not found:
            raise ConfigError(
                f"{name} holds no run: no results.json and no checkpoints; name the folder above or below"
            )
        for run in found:
            runs.setdefault((run.stat().st_dev, run.stat().st_ino), run)
    return list(runs.values())


def newest_run(runs: Path) -> Path | None:
    """Return the run below a folder whose checkpoints are the newest; skip copies of runs that are still there.

    A copy is newer than its original, but it is a backup: to resume it would leave the original behind. A link to a run
    counts as that run, which is returned by its own path if it is below the folder, too.
    """
    found = sorted(_runs_below(runs), key=Path.is_symlink)
    files = [file for run in found for file in run.glob("checkpoints/*.ckpt")]
    newest = {file.parent.parent: file.stat().st_mtime for file in _by_time(files)}
    there = {run.resolve(): run for run in reversed(found)}
    own = [run for run in newest if there.get(run.resolve()) == run and not _is_copy(run, there)]
    return max(own, key=newest.__getitem__, default=None)


def is_run(folder: Path) -> bool:
    """Return True if a folder holds results or a checkpoint."""
    return (folder / "results.json").is_file() or has_checkpoints(folder)


def has_checkpoints(folder: Path) -> bool:
    """Return True if a folder holds a trained run, not only results."""
    return any(folder.glob("checkpoints/*.ckpt"))


def checkpoint_file(source: Path, name: str = "last") -> Path:
    """Return a run's checkpoint of some name; a path that is a checkpoint file is returned as it is.

    Raises:
        CheckpointMissing: the run has no checkpoint of that name.
    """
    path = source / "checkpoints" / f"{name}.ckpt" if source.is_dir() else source
    if source.is_dir() and not path.is_file():
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.ckpt")))
        way_out = f"it has: {there}" if there else "name the folder of a run that has trained for an epoch"
        raise CheckpointMissing(f"{source} holds no checkpoints/{name}.ckpt; {way_out}")
    return path


def run_folder(source: Path) -> Path:
    """Return the folder of the run that a checkpoint file belongs to, or the file's folder outside of runs.

    A path that is a folder is returned as it is.
    """
    folder = source.absolute().parent
    return source if source.is_dir() else folder.parent if folder.name == "checkpoints" else folder


def results_folder(source: Path) -> Path:
    """Return the folder for what is made from a run, or from a checkpoint file: a folder beside it with its name."""
    return source if source.is_dir() else source.parent / source.name.removesuffix(".ckpt")


def _is_copy(run: Path, there: Collection[Path]) -> bool:
    """Return True if a run is a copy of another that is there, judging by the folder that Hydra recorded for it."""
    try:
        record = (run / ".hydra" / "hydra.yaml").read_text(encoding="utf-8")
        recorded = re.search(r"^ +output_dir: (.+)$", record, re.MULTILINE)
        original = Path(recorded[1]).resolve() if recorded else run.resolve()
        return original in there and original != run.resolve()
    except (OSError, ValueError, RuntimeError):  # no such file; no path; links that lead in a circle
        return False


def _by_time(files: Iterable[Path]) -> list[Path]:
    """Sort files by time, oldest first; skip files that cannot be accessed."""
    known = []
    for file in files:
        with suppress(OSError):  # a broken link
            known.append((file.stat().st_mtime, file))
    return [file for _, file in sorted(known)]


def _runs_below(folder: Path, below: bool = False) -> Iterator[Path]:
    """Yield the folder itself if it is a run, otherwise the runs in it. A run inside a run is part of it."""
    try:
        inner = None if is_run(folder) else [path for path in folder.iterdir() if path.is_dir()]
    except OSError:  # it cannot be read
        inner = None
    if inner is None:
        yield folder
    elif not (below and folder.is_symlink()):  # follow a link to a run, but no link that could lead in circles
        for path in inner:
            yield from _runs_below(path, below=True)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return a sort key that puts a sweep's job 2 before its job 10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in path.parts]
