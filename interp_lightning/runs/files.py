"""Find the files of a run."""

from pathlib import Path

from interp_lightning.errors import CheckpointMissing


def checkpoint_file(source: Path, name: str = "last") -> Path:
    """The file of a run's checkpoint; a file is its own.

    Raises:
        CheckpointMissing: the run has none of that name.
    """
    path = source / "checkpoints" / f"{name}.ckpt" if source.is_dir() else source
    if source.is_dir() and not path.is_file():
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.ckpt")))
        way_out = f"it has: {there}" if there else "name the folder of a run that has trained for an epoch"
        raise CheckpointMissing(f"{source} holds no checkpoints/{name}.ckpt; {way_out}")
    return path


def run_folder(source: Path) -> Path:
    """The folder of a run, or of the one that a checkpoint file is of; of a file elsewhere, the one that it is in."""
    folder = source.absolute().parent
    return source if source.is_dir() else folder.parent if folder.name == "checkpoints" else folder
