"""Checkpoint files: written whole or not at all, and verified before they are believed."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from interp_lightning import __version__
from interp_lightning.errors import CheckpointError
from interp_lightning.models.base import COUNTS

GENERATIONS = ("last", "previous", "best")  # what to go on from, the newest first
PARTS = ("data", "network", "penalty", "optimizer", "schedule", "model")  # of a configuration


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the target, flush to the disk, rename; a good last.ckpt that was there becomes previous.ckpt.

    So a kill or a full disk at any moment leaves the checkpoint before whole. (Lightning's own writes into $TMPDIR and
    copies where that is another file system.) One that was saved while losses were rising replaces no good one.

    Args:
        tried: the content that this run resumes from, which has been tried; the file is not read again.
    """

    _good = True  # the last.ckpt that is there

    def __init__(self, tried: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._tried = tried

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if self._tried is None:
            return super().load_checkpoint(path, *args, **kwargs)
        tried, self._tried = self._tried, None
        content = dict(tried)
        tried.clear()  # or it would be kept in memory for as long as the run lasts
        return content

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        part = target.with_name(f".{target.name}.part")
        memory = io.BytesIO()
        torch.save(checkpoint, memory)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(memory.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            if target.stem == GENERATIONS[0]:
                if self._good and target.is_file():
                    target.replace(target.with_stem(GENERATIONS[1]))
                self._good = _good(checkpoint)
            part.replace(target)
            _flush_folder(target.parent)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise CheckpointError(
                f"`{target}` cannot be written ({error.strerror}); the checkpoint before it is whole: make room, or "
                "remove what is in the way, and go on with ckpt_path=last"
            ) from error


class Best(ModelCheckpoint):
    """Keep the checkpoint with the lowest loss of all validations."""

    def __init__(self, folder: Path, name: str, monitor: str) -> None:
        super().__init__(
            folder,
            filename=name,
            monitor=monitor,
            save_on_train_epoch_end=False,  # after validation, which a resumed run would otherwise skip
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume in the folder of a run, which may have been moved; a folder without such a file is a new run's."""
        assert self.dirpath is not None
        path = str(Path(self.dirpath) / f"{self.filename}.ckpt")
        if not Path(path).is_file():
            return
        here: dict[str, Any] = {"dirpath": self.dirpath}
        if state_dict["best_model_path"]:
            here |= {"best_model_path": path, "kth_best_model_path": path}
            here |= {"best_k_models": {path: state_dict["best_model_score"]}}
        super().load_state_dict(state_dict | here)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, verified; nothing in it is executed.

    Raises:
        CheckpointError: it is missing, truncated, altered, or not of this project.
    """
    if not path.is_file():
        reason = "it is no file" if path.exists() else "there is no such file"
        reason = "it is a link that leads nowhere" if path.is_symlink() and not path.exists() else reason
        raise CheckpointError(f"{path} is no checkpoint: {reason}; name one of a run's checkpoints/*.ckpt")
    try:
        with zipfile.ZipFile(path) as archive:
            altered = archive.testzip()  # by each entry's CRC-32, which torch.load does not look at
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whichever a damaged file happens to raise: it is refused all the same
        raise CheckpointError(
            f"{path} is no readable checkpoint of this project ({type(error).__name__}: it is truncated, altered or "
            "another kind of file); use another"
        ) from error
    if altered is not None:
        raise CheckpointError(f"{path} has been altered since it was written (checksum of {altered}); use another")
    ours = isinstance(state, dict) and {"hyper_parameters", "state_dict", "epoch", "guard", *COUNTS} <= state.keys()
    ours = ours and isinstance(state["hyper_parameters"], dict) and isinstance(state["state_dict"], dict)
    if not ours or not {"choices", "data_used", *PARTS} <= state["hyper_parameters"].keys():
        raise CheckpointError(
            f"{path} is a checkpoint, but not one that interp_lightning {__version__} writes; train again"
        )
    return state


def newest_checkpoint(
    folder: Path, good: bool = False, check: Callable[[Path, dict[str, Any]], None] = lambda path, state: None
) -> tuple[Path, dict[str, Any], list[str]]:
    """The newest valid checkpoint of a run, its content, and why newer ones were skipped.

    Args:
        folder: the run's checkpoints.
        good: skip one that was saved while losses were rising, if there is another.
        check: raises CheckpointError for content that is not valid.

    Raises:
        CheckpointError: the run has none, or none that is valid.
    """
    skipped: list[str] = []
    for name in GENERATIONS:
        path = folder / f"{name}.ckpt"
        if os.path.lexists(path):  # also a link that leads nowhere
            try:
                state = read_checkpoint(path)
                check(path, state)
            except CheckpointError as error:
                skipped.append(str(error))
                continue
            if not good or _good(state):
                return path, state, skipped
            skipped.append(f"{path} was saved while losses were rising")
    if good:
        return newest_checkpoint(folder, check=check)
    reasons = "; ".join(skipped) or f"no run in {folder.parent.parent} has one"
    raise CheckpointError(f"`ckpt_path` (=last) names no checkpoint: {reasons}; leave it out to start afresh")


def restore_previous(last: Path) -> None:
    """Replace a last.ckpt that was saved while losses were rising by the good one before it, if there is one."""
    path, _, _ = newest_checkpoint(last.parent, good=True)
    if path.stem == GENERATIONS[1]:
        path.replace(last)


def _good(checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint was saved while no loss was far above its lowest level."""
    return bool(checkpoint.get("guard", {}).get("calm", True))


def _flush_folder(folder: Path) -> None:
    """Make a renaming last; where folders cannot be opened, the system does it when it likes."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
