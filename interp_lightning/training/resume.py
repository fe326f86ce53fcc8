"""Try to load all of a checkpoint before a run begins, so that nothing in it can end the run later."""

import logging
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.optim import Optimizer

from interp_lightning.errors import CheckpointError
from interp_lightning.models.base import COUNTS, Autoencoder
from interp_lightning.parameters import LARGEST, shown
from interp_lightning.runs.checkpoints import newest_checkpoint, read_checkpoint
from interp_lightning.runs.relevance import flat

log = logging.getLogger(__name__)

WEIGHTS = ("model", "penalty", "network")  # parts of a configuration that make the weights what they are
SCALER = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")  # of 16-mixed


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that this run can resume from."""

    path: Path
    batches_seen: int
    epoch: int  # that it was written in, from 0
    elapsed: float  # seconds of training
    config: dict[str, Any]  # that it was trained with
    state: dict[str, Any]  # that has been tried; what the Trainer loads


def find_checkpoint(
    ckpt_path: str | None, folder: Path, config: dict[str, Any], make: Callable[[], Autoencoder]
) -> Checkpoint | None:
    """Find the checkpoint to resume from, and try to load all of it; None to start afresh.

    Args:
        ckpt_path: a file, or "last".
        folder: the run's.
        config: of this run.
        make: builds this run's model.

    Raises:
        CheckpointError: it is damaged, or another model's.
    """
    if ckpt_path is None:
        return None
    if ckpt_path == "last":
        path, state, skipped = newest_checkpoint(folder / "checkpoints", check=check_content)
        for reason in skipped:
            log.warning(f"Skipped: {reason}")
    else:
        path = Path(ckpt_path)
        state = read_checkpoint(path)
        check_content(path, state)
    theirs = state["hyper_parameters"]
    for key in WEIGHTS:
        if theirs["choices"].get(key) != config["choices"][key]:
            raise CheckpointError(
                f"`ckpt_path` (={path}) holds {key}={theirs['choices'].get(key)}, but this run has "
                f"{key}={config['choices'][key]}; choose the same or start afresh without ckpt_path"
            )
    for key, mine in {"latent_dim": config["latent_dim"], **config["network"]}.items():
        other = theirs.get("latent_dim") if key == "latent_dim" else theirs["network"].get(key)
        if other != mine:
            raise CheckpointError(
                f"`ckpt_path` (={path}) holds a model with {key}={shown(other)}, but this run has {key}={mine}; set it "
                "back or start afresh without ckpt_path"
            )
    with isolate_rng():
        model = make()
        _try_weights(path, state, model, config)
        optimizers = _try_optimizers(path, state, model, config)
    prepared = state | {
        "pytorch-lightning_version": L.__version__,  # its content has been compared with what this one writes
        "optimizer_states": optimizers,
        "lr_schedulers": [],
    }
    elapsed = sum(each["elapsed"] for key, each in state["callbacks"].items() if key.startswith("Saver"))
    return Checkpoint(path, state["batches_seen"], state["epoch"], elapsed, theirs, prepared)


def check_content(path: Path, state: dict[str, Any]) -> None:
    """Raise CheckpointError if a checkpoint has what no run writes, or weights that are not finite."""
    try:
        wrong = _wrong_content(state)
    except Exception as error:  # of whatever the content may be
        wrong = f"{type(error).__name__}: {error}"
    if wrong:
        raise CheckpointError(f"{path} cannot be resumed from: {wrong}; use another checkpoint")


def _wrong_content(state: dict[str, Any]) -> str | None:
    """Name the first thing in a checkpoint that cannot be right."""
    for key in (*COUNTS, "epoch", "global_step"):
        if not _counts(state.get(key)):
            return f"its `{key}` (={shown(state.get(key))}) is no number that counts"
    config = state["hyper_parameters"]
    if not _is_plain(config) or not all(
        isinstance(config[key], dict) for key in (*WEIGHTS, "choices", "data", "optimizer")
    ):
        return "its configuration has more than numbers, text, lists and tables of them"
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
            return "the place of its data is none"
        if not _counts(loader["current_epoch"] + 1) or loader["current_epoch"] not in (
            state["epoch"] - 1,
            state["epoch"],
        ):
            return "the epoch of its data is another than its own"
    guard = state["guard"]
    if not _counts(guard["skipped"]) or not _counts(guard["rollbacks"]) or not _is_plain(guard):
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
    """Name what cannot be right in the state of a callback."""
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


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return (
        all(map(_is_plain, value))
        if isinstance(value, (list, tuple))
        else type(value) in (type(None), bool, int, float, str)
    )


def _unlike(value: Any, pattern: Any, place: str) -> str | None:
    """Name the first place where a value has another form than a pattern of dictionaries, counters and switches."""
    if not isinstance(pattern, dict):
        return None if type(value) is type(pattern) and (type(value) is bool or _counts(value)) else place
    if not isinstance(value, dict) or not pattern.keys() <= value.keys():
        return place
    if value.keys() - pattern.keys() - {"combined_loader"}:
        return place
    wrong = (_unlike(value[key], pattern[key], f"{place}.{key}") for key in pattern)
    return next(filter(None, wrong), None)


def _try_weights(path: Path, state: dict[str, Any], model: Autoencoder, config: dict[str, Any]) -> None:
    """Load the weights, and let the penalty see a batch with what it remembers."""
    saved, own = state["state_dict"], model.state_dict()
    wrong = sorted(saved.keys() ^ own.keys(), key=str)
    if not wrong:
        wrong = [
            name
            for name, value in own.items()
            if isinstance(value, Tensor) and not name.endswith("_extra_state") and not _replaces(saved[name], value)
        ]
    reason = f"{wrong[0]} is another" if wrong else ""
    if not wrong:
        try:
            model.load_state_dict(saved)
            with torch.no_grad():  # as what a penalty remembers comes into use at its first batch only
                noise = torch.randn(config["data"]["batch_size"], model.latent_dim)
                model.penalty(noise, model.penalty.prior(noise))
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
    if reason:
        differing = _differing(state["hyper_parameters"], config, WEIGHTS)
        way_out = f"it has {'; '.join(differing)}: set it back" if differing else "use another checkpoint"
        raise CheckpointError(
            f"`ckpt_path` (={path}) does not fit this run's model ({reason}); {way_out}, or start afresh "
            "without ckpt_path"
        )


def _try_optimizers(
    path: Path, state: dict[str, Any], model: Autoencoder, config: dict[str, Any]
) -> list[dict[str, Any]]:
    """The optimizers' states with this run's settings; fresh ones, and a warning, if the saved ones do not fit."""
    optimizers = model.configure_optimizers()
    fresh = [optimizer.state_dict() for optimizer in optimizers]
    try:
        saved = state["optimizer_states"]
        resumed = [
            {"state": old["state"], "param_groups": new["param_groups"]} for old, new in zip(saved, fresh, strict=True)
        ]
        fits = all(map(_fits, optimizers, saved, resumed))
    except Exception:  # of whatever the content may be
        fits = False
    if fits:
        return resumed
    differing = _differing(state["hyper_parameters"], config, ("optimizer",))
    reason = f": it has {'; '.join(differing)}" if differing else ""
    log.warning(f"The optimizers start afresh, as their state in {path} is not of this run's optimizer{reason}")
    return fresh


def _fits(optimizer: Optimizer, saved: dict[str, Any], resumed: dict[str, Any]) -> bool:
    """Try an optimizer with a state, whose form must be that of its own after a step."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    sizes = [len(group["params"]) for group in saved["param_groups"]]
    if sizes != [len(group["params"]) for group in optimizer.param_groups]:
        return False
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    own = optimizer.state_dict()["state"]
    if not all(index in own and _same_form(state, own[index]) for index, state in saved["state"].items()):
        return False
    optimizer.load_state_dict(deepcopy(resumed))  # whose tensors a step changes in place
    optimizer.step()
    return all(bool(parameter.isfinite().all()) for parameter in parameters)


def _same_form(saved: dict[str, Any], own: dict[str, Any]) -> bool:
    if not isinstance(saved, dict) or saved.keys() != own.keys():
        return False
    for key, value in own.items():
        if isinstance(value, Tensor) and not _replaces(saved[key], value):
            return False
        if not isinstance(value, Tensor) and (type(saved[key]) is not type(value) or not _is_plain(value)):
            return False
        if key in ("step", "exp_avg_sq", "max_exp_avg_sq") and not (torch.as_tensor(saved[key]) >= 0).all():
            return False
    return True


def _replaces(value: Any, own: Tensor) -> bool:
    """Return True for finite numbers of the same shape and kind as a tensor."""
    alike = isinstance(value, Tensor) and value.shape == own.shape and value.layout == own.layout
    return alike and value.is_floating_point() == own.is_floating_point() and bool(value.isfinite().all())


def _differing(before: dict[str, Any], now: dict[str, Any], parts: tuple[str, ...]) -> list[str]:
    """The settings of some parts that differ from those of a checkpoint."""
    one, other = (flat({part: config[part] for part in parts}) for config in (before, now))
    return [
        f"{key}={shown(one.get(key))}, not {shown(other.get(key))}"
        for key in sorted(one | other, key=str)
        if one.get(key) != other.get(key)
    ]
