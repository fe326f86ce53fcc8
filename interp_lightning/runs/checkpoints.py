"""Read checkpoint files, and verify them before anything uses their content."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from interp_lightning import __version__
from interp_lightning.errors import CheckpointError, ConfigError
from interp_lightning.runs.build import PARTS
from interp_lightning.steps.players import COUNTS
from interp_lightning.system.disk import replace
from interp_lightning.system.plain import plain_copy

GENERATIONS = ("last", "previous", "best")  # checkpoints to resume from, in order of preference


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read and verify a checkpoint file, without executing anything in it.

    Its configuration is returned as plain values, see `plain_copy`.

    Raises:
        CheckpointError: the file is missing, truncated, altered, or not from this project.
    """
    if not path.is_file():
        reason = "it is not a file" if path.exists() else "there is no such file"
        reason = "it is a broken link" if path.is_symlink() and not path.exists() else reason
        raise CheckpointError(f"{path} is not a checkpoint: {reason}; name one of a run's checkpoints/*.ckpt")
    try:
        with zipfile.ZipFile(path) as archive:
            # torch.save does not compress, so the entries are never larger than the file.
            packed = sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size
            altered = None if packed else archive.testzip()  # by each entry's CRC-32, which torch.load ignores
            if packed:
                raise ValueError("unpacks to more than its size")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise anything
        raise CheckpointError(
            f"{path} is not a readable checkpoint of this project ({type(error).__name__}: it is truncated, altered or "
            "another kind of file); use another"
        ) from error
    if altered is not None:
        raise CheckpointError(f"{path} has been altered since it was written (checksum of {altered}); use another")
    if not isinstance(state, dict) or not _is_ours(state):
        raise CheckpointError(
            f"{path} is a checkpoint, but not one that interp_lightning {__version__} writes; train again"
        )
    try:
        return state | {"hyper_parameters": plain_copy(state["hyper_parameters"])}
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}; use another checkpoint") from None


def newest_checkpoint(
    folder: Path, good: bool = False, check: Callable[[Path, dict[str, Any]], None] = lambda path, state: None
) -> tuple[Path, dict[str, Any], list[str]]:
    """Find the newest valid checkpoint of a run.

    Args:
        folder: the run's checkpoints.
        good: skip a checkpoint that was saved while losses were rising, if there is another.
        check: raises CheckpointError for invalid content.

    Returns:
        Its path, its content, and for each newer one why it was skipped.

    Raises:
        CheckpointError: the run has no valid checkpoint.
    """
    skipped: list[str] = []
    for name in GENERATIONS:
        path = folder / f"{name}.ckpt"
        if os.path.lexists(path):  # true for a broken link, too
            try:
                state = read_checkpoint(path)
                check(path, state)
            except CheckpointError as error:
                skipped.append(str(error))
                continue
            if not good or is_calm(state):
                return path, state, skipped
            skipped.append(f"{path} was saved while losses were rising")
    if good:
        return newest_checkpoint(folder, check=check)
    reasons = "; ".join(skipped) or f"no run in {folder.parent.parent} has one"
    raise CheckpointError(f"`ckpt_path` (=last) names no checkpoint: {reasons}; leave it out to start afresh")


def restore_previous(last: Path) -> None:
    """Overwrite a last.ckpt that was saved while losses were rising with the newest good checkpoint, if any."""
    path, _, _ = newest_checkpoint(last.parent, good=True)
    if path != last:
        replace(last, path.read_bytes())


def is_calm(checkpoint: dict[str, Any]) -> bool:
    """Return True if no loss was far above its lowest level when a checkpoint was saved."""
    return bool(checkpoint.get("guard", {}).get("calm", True))


def _is_ours(state: dict[str, Any]) -> bool:
    """Return True if this project wrote a checkpoint, judging by the entries that this package reads."""
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
    """Return False for a tensor with more elements than the file stores: expanded, sparse, or without data."""
    if not isinstance(value, torch.Tensor):
        return True
    dense = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
    return dense and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
