"""Write checkpoints during training: all or nothing, and never a bad one over a good one."""

import io
import logging
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from interp_lightning.errors import CheckpointError
from interp_lightning.runs.checkpoints import GENERATIONS, is_calm
from interp_lightning.system.disk import fresh

log = logging.getLogger(__name__)

BEST = "best"  # name of the checkpoint with the lowest loss, without suffix


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the target, flush to the disk, then rename; keep a good last.ckpt as previous.ckpt.

    A kill or a full disk at any moment leaves the earlier checkpoint whole. (Lightning's own class writes into $TMPDIR
    and copies if that is another file system.) A last.ckpt saved while losses were rising does not become
    previous.ckpt.

    Args:
        verified: the content that this run resumes from, already read and verified; the file is not read again.
    """

    _calm = True  # the last.ckpt on the disk was saved while losses were not rising

    def __init__(self, verified: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._verified = verified

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if self._verified is None:
            return super().load_checkpoint(path, *args, **kwargs)
        verified, self._verified = self._verified, None
        content = dict(verified)
        verified.clear()  # frees the memory, which others that hold this dictionary would keep for the whole run
        return content

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        target = Path(path)
        memory = io.BytesIO()
        torch.save(checkpoint, memory)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with fresh(target.with_name(f".{target.name}.part"), memory.getbuffer(), flush=True) as part:
                if target.stem == GENERATIONS[0]:
                    if self._calm and target.is_file():
                        target.replace(target.with_stem(GENERATIONS[1]))
                    self._calm = is_calm(checkpoint)
                part.replace(target)
            _flush_folder(target.parent)
        except OSError as error:
            if target.stem == BEST:  # last.ckpt, which comes next, is what a run needs
                log.warning(f"{target} cannot be written ({error.strerror}); it stays as it was, and the run continues")
                return
            raise CheckpointError(
                f"`{target}` cannot be written ({error.strerror}); the checkpoint before it is whole: make room, or "
                "remove what is in the way, and resume with ckpt_path=last"
            ) from error


class Best(ModelCheckpoint):
    """Keep the checkpoint with the lowest loss of all validations."""

    def __init__(self, folder: Path, monitor: str) -> None:
        super().__init__(
            folder,
            filename=BEST,
            monitor=monitor,
            save_on_train_epoch_end=False,  # after validation, which a resumed run would otherwise skip
            enable_version_counter=False,
        )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score if this run's folder holds its checkpoint; otherwise this is a new run.

        Only the score comes from the state. The paths are those of this run's folder, which may have been moved:
        Lightning deletes the file at these paths once a better one is written.
        """
        assert self.dirpath is not None
        path = str(Path(self.dirpath) / f"{self.filename}.ckpt")
        if not Path(path).is_file() or not state_dict["best_model_path"]:
            return
        score = state_dict["best_model_score"]
        self.best_model_path = path
        if isinstance(score, torch.Tensor) and score.numel() == 1:
            self.kth_best_model_path, self.best_model_score, self.kth_value = path, score, score
            self.best_k_models = {path: score}


def _flush_folder(folder: Path) -> None:
    """Make a rename durable, where the system can open folders."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
