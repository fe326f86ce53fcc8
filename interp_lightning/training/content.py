"""Verify the content of a checkpoint without building its model."""

import math
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor

from interp_lightning.errors import CheckpointError
from interp_lightning.parameters import LARGEST, shown
from interp_lightning.steps.players import COUNTS

WEIGHTS = ("model", "penalty", "network")  # parts of a configuration that determine the weights
SCALER = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")  # of 16-mixed


def check_content(path: Path, state: dict[str, Any]) -> None:
    """Raise CheckpointError if a checkpoint has content that no run writes, or weights that are not finite."""
    try:
        wrong = _wrong_content(state)
    except Exception as error:  # damaged content can raise anything
        wrong = f"{type(error).__name__}: {error}"
    if wrong:
        raise CheckpointError(f"{path} cannot be resumed from: {wrong}; use another checkpoint")


def _wrong_content(state: dict[str, Any]) -> str | None:
    """Name the first wrong thing in a checkpoint; None if there is none."""
    for key in (*COUNTS, "epoch", "global_step"):
        if not _counts(state.get(key)):
            return f"its `{key}` (={shown(state.get(key))}) is not a count"
    config = state["hyper_parameters"]
    if not is_plain(config) or not all(
        isinstance(config[key], dict) for key in (*WEIGHTS, "choices", "data", "optimizer")
    ):
        return "its configuration holds other values than numbers, text, lists and tables"
    for name, value in state["state_dict"].items():
        if isinstance(value, Tensor) and not value.isfinite().all():
            return f"it holds NaN or infinite weights ({name}, …)"
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    loops = {
        name: getattr(trainer, name).state_dict() for name in ("fit_loop", "validate_loop", "test_loop", "predict_loop")
    }
    if wrong := _unlike(state.get("loops"), loops, "loops"):
        return f"its `{wrong}` is not what Lightning {L.__version__} writes"
    fit = state["loops"]["fit_loop"]
    batches, epochs = fit["epoch_loop.batch_progress"], fit["epoch_progress"]
    if batches["total"]["ready"] != state["batches_seen"] or epochs["current"]["processed"] != state["epochs_seen"]:
        return "its counters of batches and epochs contradict one another"
    for loader in fit["state_dict"].get("combined_loader", []):
        if not isinstance(loader["over"], bool) or not _counts(loader["next_batch"]):
            return "the position in its data is not a count"
        if not _counts(loader["current_epoch"] + 1) or loader["current_epoch"] not in (
            state["epoch"] - 1,
            state["epoch"],
        ):
            return "the epoch of its data is not its own"
    guard = state["guard"]
    if not _counts(guard["skipped"]) or not _counts(guard["rollbacks"]) or not is_plain(guard):
        return "its `guard` is not what a run writes"
    if not all(len(level) == 2 and all(type(each) is float for each in level) for level in guard["levels"].values()):
        return "its `guard.levels` are not what a run writes"
    for name, callback in state["callbacks"].items():
        if wrong := _wrong_callback(name, callback):
            return f"its `callbacks.{name.split('{')[0]}.{wrong}` is not what a run writes"
    scaler = state.get("MixedPrecision")
    if scaler is not None and not all(0 <= scaler[key] < math.inf for key in SCALER):
        return "its `MixedPrecision` is not what a run writes"
    return None


def _wrong_callback(name: str, state: Any) -> str | None:
    """Name the first wrong entry in the state of a callback; None if there is none."""
    if name == "Recorder":
        for curve, points in state["history"].items():
            if not isinstance(curve, str) or not isinstance(points, list) or not all(map(_is_point, points)):
                return "history"
        return next(
            (key for key, value in state.items() if key != "history" and not 0 <= float(value) < math.inf), None
        )
    if name == "Saver":
        return None if type(state["elapsed"]) in (int, float) and 0 <= state["elapsed"] < math.inf else "elapsed"
    if name.startswith("Best"):
        texts = ("best_model_path", "kth_best_model_path", "last_model_path")
        if wrong := next((key for key in texts if not isinstance(state[key], str)), None):
            return wrong
        scores = {key: state[key] for key in ("best_model_score", "current_score", "kth_value")} | state[
            "best_k_models"
        ]
        return next((key for key, value in scores.items() if value is not None and not _is_number(value)), None)
    return None


def _is_point(point: Any) -> bool:
    return isinstance(point, tuple) and len(point) == 2 and _counts(point[0]) and isinstance(point[1], float)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) or (isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex())


def _counts(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def is_plain(value: Any) -> bool:
    """Return True for numbers, text, None, and lists and dictionaries of them."""
    if isinstance(value, dict):
        return all(map(is_plain, value)) and all(map(is_plain, value.values()))
    return (
        all(map(is_plain, value))
        if isinstance(value, (list, tuple))
        else type(value) in (type(None), bool, int, float, str)
    )


def _unlike(value: Any, pattern: Any, place: str) -> str | None:
    """Name the first place where a value differs in form from a pattern of dictionaries, counters and switches."""
    if not isinstance(pattern, dict):
        return None if type(value) is type(pattern) and (type(value) is bool or _counts(value)) else place
    if not isinstance(value, dict) or not pattern.keys() <= value.keys():
        return place
    if value.keys() - pattern.keys() - {"combined_loader"}:
        return place
    wrong = (_unlike(value[key], pattern[key], f"{place}.{key}") for key in pattern)
    return next(filter(None, wrong), None)
