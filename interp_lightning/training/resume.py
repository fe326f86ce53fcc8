"""Load all of a checkpoint before a run starts, so that nothing in it can end the run later."""

import logging
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
from interp_lightning.models.base import Autoencoder
from interp_lightning.parameters import shown
from interp_lightning.runs.checkpoints import newest_checkpoint, read_checkpoint
from interp_lightning.runs.relevance import Effect, changes, flat
from interp_lightning.training.content import WEIGHTS, check_content, is_plain

log = logging.getLogger(__name__)

LAST = "last"  # value of ckpt_path that resumes a run in place


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that this run can resume from."""

    path: Path
    batches_seen: int
    epoch: int  # in which it was written, from 0
    elapsed: float  # seconds of training
    config: dict[str, Any]  # of the run that wrote it
    state: dict[str, Any]  # verified; the Trainer loads this and not the file


def find_checkpoint(
    ckpt_path: str | None, folder: Path, config: dict[str, Any], make: Callable[[], Autoencoder]
) -> Checkpoint | None:
    """Find the checkpoint to resume from, and load all of it on trial; return None to start afresh.

    Args:
        ckpt_path: a file, or "last" for the newest checkpoint in the run's folder.
        folder: the run's folder.
        config: this run's configuration.
        make: builds this run's model.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, or another model's.
    """
    if ckpt_path is None:
        return None
    if ckpt_path == LAST:
        path, state, skipped = newest_checkpoint(folder / "checkpoints", check=check_content)
        for reason in skipped:
            log.warning(f"Skipped: {reason}")
    else:
        path = Path(ckpt_path)
        state = read_checkpoint(path)
        check_content(path, state)
    theirs = state["hyper_parameters"]
    _check_parts(path, theirs, config)
    with isolate_rng():
        model = make()
        _try_weights(path, state, model, config)
        optimizers = _try_optimizers(path, state, model, config)
    prepared = state | {
        "pytorch-lightning_version": L.__version__,  # check_content has compared the rest with this version
        "optimizer_states": optimizers,
        "lr_schedulers": [],
    }
    elapsed = sum(each["elapsed"] for key, each in state["callbacks"].items() if key.startswith("Saver"))
    return Checkpoint(path, state["batches_seen"], state["epoch"], elapsed, theirs, prepared)


def _check_parts(path: Path, theirs: dict[str, Any], config: dict[str, Any]) -> None:
    """Raise CheckpointError if a checkpoint's configuration describes another model, penalty or network."""
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


def settle(checkpoint: Checkpoint, config: dict[str, Any]) -> list[str]:
    """Fit a checkpoint's state to this run's settings; return the settings that have changed in a resumed run.

    Raises:
        CheckpointError: a run is resumed in place on other data.
    """
    before = checkpoint.config
    if changes(before, config, Effect.WEIGHTS):
        checkpoint.state["guard"]["levels"] = {}  # of losses with other weights, or on other data
    if config["ckpt_path"] != LAST:
        return []
    if before["data_used"] != config["data_used"]:
        raise CheckpointError(
            f"`ckpt_path` (=last) resumes a run on data={before['data_used']}, but this one has "
            f"data={config['data_used']}; set it back, or start another run from the file by ckpt_path=FILE"
        )
    return changes(before, config, *(effect for effect in Effect if effect is not Effect.NOTHING))


def _try_weights(path: Path, state: dict[str, Any], model: Autoencoder, config: dict[str, Any]) -> None:
    """Load the weights, and pass a batch to the penalty, which uses its restored state only then."""
    saved, own = state["state_dict"], model.state_dict()
    wrong = sorted(saved.keys() ^ own.keys(), key=str)
    if not wrong:
        wrong = [
            name
            for name, value in own.items()
            if isinstance(value, Tensor) and not name.endswith("_extra_state") and not _replaces(saved[name], value)
        ]
    reason = f"{wrong[0]} differs" if wrong else ""
    if not wrong:
        try:
            model.load_state_dict(saved)
            with torch.no_grad():
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
    """Return the optimizers' states with this run's settings; warn and return new ones if the saved ones do not fit."""
    optimizers = model.configure_optimizers()
    fresh = [optimizer.state_dict() for optimizer in optimizers]
    try:
        saved = state["optimizer_states"]
        resumed = [
            {"state": old["state"], "param_groups": new["param_groups"]} for old, new in zip(saved, fresh, strict=True)
        ]
        fits = all(map(_fits, optimizers, saved, resumed))
    except Exception:  # a damaged state can raise anything
        fits = False
    if fits:
        return resumed
    differing = _differing(state["hyper_parameters"], config, ("optimizer",))
    reason = f": it has {'; '.join(differing)}" if differing else ""
    log.warning(f"The optimizers start afresh, as their state in {path} is another optimizer's{reason}")
    return fresh


def _fits(optimizer: Optimizer, saved: dict[str, Any], resumed: dict[str, Any]) -> bool:
    """Take a step with a saved state, which must have the form of the optimizer's own state after a step."""
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
    optimizer.load_state_dict(deepcopy(resumed))  # a step changes its tensors in place
    optimizer.step()
    return all(bool(parameter.isfinite().all()) for parameter in parameters)


def _same_form(saved: dict[str, Any], own: dict[str, Any]) -> bool:
    if not isinstance(saved, dict) or saved.keys() != own.keys():
        return False
    for key, value in own.items():
        if isinstance(value, Tensor) and not _replaces(saved[key], value):
            return False
        if not isinstance(value, Tensor) and (type(saved[key]) is not type(value) or not is_plain(value)):
            return False
        if key in ("step", "exp_avg_sq", "max_exp_avg_sq") and not (torch.as_tensor(saved[key]) >= 0).all():
            return False
    return True


def _replaces(value: Any, own: Tensor) -> bool:
    """Return True for finite numbers of the same shape and kind as a tensor."""
    alike = isinstance(value, Tensor) and value.shape == own.shape and value.layout == own.layout
    return alike and value.is_floating_point() == own.is_floating_point() and bool(value.isfinite().all())


def _differing(before: dict[str, Any], now: dict[str, Any], parts: tuple[str, ...]) -> list[str]:
    """Return the settings of some parts that differ from a checkpoint's."""
    one, other = (flat({part: config[part] for part in parts}) for config in (before, now))
    return [
        f"{key}={shown(one.get(key))}, not {shown(other.get(key))}"
        for key in sorted(one | other, key=str)
        if one.get(key) != other.get(key)
    ]
