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
from interp_lightning.errors import CheckpointError, ConfigError
from interp_lightning.steps.players import COUNTS
from interp_lightning.system.disk import fresh, replace
from interp_lightning.system.plain import plain

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
        memory = io.BytesIO()
        torch.save(checkpoint, memory)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with fresh(target.with_name(f".{target.name}.part"), memory.getbuffer(), flush=True) as part:
                if target.stem == GENERATIONS[0]:
                    if self._good and target.is_file():
                        target.replace(target.with_stem(GENERATIONS[1]))
                    self._good = _good(checkpoint)
                part.replace(target)
            _flush_folder(target.parent)
        except OSError as error:
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
        """Resume in the folder of a run, which may have been moved; a folder without such a file is a new run's.

        Of the state only the score is used. The paths are this run's own, because Lightning deletes the file that
        they name once a better one is written.
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


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, verified; nothing in it is executed.

    Its configuration comes as plain values, see `plain`.

    Raises:
        CheckpointError: it is missing, truncated, altered, or not of this project.
    """
    if not path.is_file():
        reason = "it is no file" if path.exists() else "there is no such file"
        reason = "it is a link that leads nowhere" if path.is_symlink() and not path.exists() else reason
        raise CheckpointError(f"{path} is no checkpoint: {reason}; name one of a run's checkpoints/*.ckpt")
    try:
        with zipfile.ZipFile(path) as archive:
            # torch.save packs nothing, so that what a file unpacks to is never larger than the file.
            packed = sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size
            altered = None if packed else archive.testzip()  # by each entry's CRC-32, which torch.load ignores
            if packed:
                raise ValueError("unpacks to more than its size")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whichever a damaged file happens to raise: it is refused all the same
        raise CheckpointError(
            f"{path} is no readable checkpoint of this project ({type(error).__name__}: it is truncated, altered or "
            "another kind of file); use another"
        ) from error
    if altered is not None:
        raise CheckpointError(f"{path} has been altered since it was written (checksum of {altered}); use another")
    if not isinstance(state, dict) or not _ours(state):
        raise CheckpointError(
            f"{path} is a checkpoint, but not one that interp_lightning {__version__} writes; train again"
        )
    try:
        return state | {"hyper_parameters": plain(state["hyper_parameters"])}
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}; use another checkpoint") from None


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
    """Replace a last.ckpt that was saved while losses were rising by the newest good one, if there is one."""
    path, _, _ = newest_checkpoint(last.parent, good=True)
    if path != last:
        replace(last, path.read_bytes())


def _good(checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint was saved while no loss was far above its lowest level."""
    return bool(checkpoint.get("guard", {}).get("calm", True))


def _ours(state: dict[str, Any]) -> bool:
    """Return True for the content of a checkpoint that this project has written, as far as this package reads it."""
    parts: list[Any] = [state.get(key) for key in ("hyper_parameters", "state_dict", "callbacks", "guard")]
    if not all(isinstance(part, dict) for part in parts):
        return False
    config, weights, callbacks, guard = parts
    choices = config.get("choices")
    return (
        all(map(_is_count, (*map(state.get, ("epoch", *COUNTS)), *map(guard.get, ("skipped", "rollbacks")))))
        and all(isinstance(config.get(part), dict) for part in PARTS)
        and "latent_dim" in config
        and isinstance(config.get("data_used"), str)
        and isinstance(choices, dict)
        and all(isinstance(choices.get(key), str) for key in ("model", "penalty", "network", "data"))
        and all(map(_is_whole, weights.values()))
        and all(isinstance(key, str) for key in callbacks)
        and all(_is_record(each) for key, each in callbacks.items() if key.startswith("Recorder"))
    )


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _is_record(value: object) -> bool:
    seconds = value.get("seconds") if isinstance(value, dict) else None
    return isinstance(seconds, (int, float)) and 0 <= seconds < 2**53


def _is_whole(value: object) -> bool:
    """Return False for a tensor that stands for more numbers than the file holds: repeated, sparse or without data."""
    if not isinstance(value, torch.Tensor):
        return True
    dense = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
    return dense and value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _flush_folder(folder: Path) -> None:
    """Make a renaming last; where folders cannot be opened, the system does it when it likes."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
