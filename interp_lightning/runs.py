"""A run's folder: what is in it, how a model comes out of it, how results get into it."""

import contextlib
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import torch
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from torch.optim import Optimizer

from interp_lightning import __version__
from interp_lightning.checkpoints import read_checkpoint
from interp_lightning.cli import DEVICES, of_own_code
from interp_lightning.data.base import ImageData
from interp_lightning.data.digits import Digits
from interp_lightning.errors import CheckpointError, ConfigError, ResultsError
from interp_lightning.folders import write_whole
from interp_lightning.machine import prepare_cpu
from interp_lightning.models.base import Autoencoder
from interp_lightning.networks import Network
from interp_lightning.penalties.base import Penalty
from interp_lightning.relevance import config_hash
from interp_lightning.rules import check_choice
from interp_lightning.schedules import Schedule
from interp_lightning.settings import check

# What each part of a run's configuration may set up, unless the run is trusted.
PARTS = {
    "data": ImageData,
    "network": Network,
    "penalty": Penalty,
    "optimizer": Optimizer,
    "schedule": Schedule,
    "model": Autoencoder,
}
# What the constructor of each base class sets last: missing if a subclass does not call it.
SET_UP = {"data": "fallback", "network": "depth", "penalty": "lr", "model": "_recorded"}
OURS = ("interp_lightning.", "torch.optim.")
# What other programs of this package read from results.json.
RESULTS: dict[str, type] = {"model": str, "penalty": str, "data": str, "seed": int, "config_hash": str}
RESULTS |= {"budget": dict, "config": dict, "protocol": dict, "metrics": dict, "sanity": dict}


class Run(NamedTuple):
    """A trained run: what `load_run` returns."""

    model: Autoencoder  # on the CPU, in evaluation mode
    datamodule: ImageData  # not loaded yet; its splits load themselves when asked for
    config: dict[str, Any]


def load_run(folder: str | Path, checkpoint: str = "last", root: str | None = None, trust: bool = False) -> Run:
    """Load a trained model with its data and configuration.

    Args:
        folder: a run's folder, or a checkpoint file.
        checkpoint: which one of a folder, "last" or "best".
        root: the folder of the data files, if it is not where it was in training.
        trust: let the configuration set up classes from outside this package, such as a penalty of your own. That runs
            their code: only for runs whose origin you know.

    Returns:
        (model, datamodule, config).

    Raises:
        CheckpointError: there is no such checkpoint; it is damaged or another program's; it lies elsewhere by a link;
            it names foreign code.
    """
    path = checkpoint_file(Path(folder), checkpoint)
    if Path(folder).is_dir() and not trust:
        within(Path(folder), path)
    state = read_checkpoint(path)
    config = state["hyper_parameters"]
    writer = state.get("interp_lightning")
    way_out = "use another checkpoint" if writer == __version__ else f"evaluate it with interp_lightning {writer}"
    try:
        if not trust:
            _check_targets(config, path)
        data = _data(config, root)
        data.may_fetch = bool(root) or trust or _stays_here(config["data"].get("root", ""))
        model = build_model(OmegaConf.create(config), data)
        model.on_load_checkpoint(state)
        model.load_state_dict(state["state_dict"])
    except CheckpointError:
        raise
    except Exception as error:  # whatever code of another version trips over
        if sentence := of_own_code(error):
            raise CheckpointError(f"{path}: {sentence}") from error
        reason = " ".join(str(error.__cause__ or error).split())
        raise CheckpointError(
            f"{path} does not fit interp_lightning {__version__} ({reason[:300]}); {way_out}"
        ) from error
    broken = [name for name, value in model.state_dict().items() if not _finite(value)]
    if broken:
        raise CheckpointError(f"{path} holds NaN or infinite weights ({broken[0]}, …); use an earlier checkpoint")
    return Run(model.eval(), data, config)


def checkpoint_file(source: Path, name: str = "last") -> Path:
    """The file of a run's checkpoint; a file is its own.

    Raises:
        CheckpointError: the run has none of that name.
    """
    path = source / "checkpoints" / f"{name}.ckpt" if source.is_dir() else source
    if source.is_dir() and not path.is_file():
        there = ", ".join(sorted(file.stem for file in path.parent.glob("*.ckpt")))
        way_out = f"it has: {there}" if there else "name the folder of a run that has trained for an epoch"
        raise CheckpointError(f"{source} holds no checkpoints/{name}.ckpt; {way_out}")
    return path


def within(run: Path, path: Path) -> Path:
    """Return the path, which is in a run's folder.

    Raises:
        CheckpointError: a link in the folder leads it elsewhere.
    """
    if not path.resolve().is_relative_to(run.resolve()):
        raise CheckpointError(
            f"{path} leads out of the run's folder, to {path.resolve()}; with trust=true it is followed, if you know "
            "where the run comes from"
        )
    return path


def prepare(device: str, threads: int) -> torch.device:
    """Set up torch for a command that does not train, and say where it is to work.

    Args:
        device: "cpu", "cuda", or "auto", the GPU if there is one.
        threads: of the CPU.

    Raises:
        ConfigError: there is no such device, or threads is below 1.
    """
    prepare_cpu(check("threads", threads))
    check_choice("device", device, DEVICES)
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`device` (=cuda) is not there; leave it out to work on the CPU")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def build_model(cfg: DictConfig, data: ImageData) -> Autoencoder:
    """The model that a configuration describes, for the images of a data set."""
    return build(
        "model",
        cfg.model,
        network=build("network", cfg.network, image_shape=data.image_shape, latent_dim=cfg.latent_dim),
        penalty=build("penalty", cfg.penalty, _convert_="all"),
        optimizer=build("optimizer", cfg.optimizer),
        schedule=build("schedule", cfg.schedule, _convert_="all"),
        guard=cfg.guard,
        clip=cfg.clip,
        seed=cfg.seed,
    )


def build(part: str, settings: Any, **arguments: Any) -> Any:
    """What a part of the configuration describes.

    Raises:
        ConfigError: its `_target_` makes something else.
    """
    built = instantiate(settings, **arguments)
    base = PARTS[part]
    if not isinstance(built, base) and not (isinstance(built, partial) and _is_class(built.func, base)):
        raise ConfigError(f"`{part}._target_` (={settings['_target_']}) must name a subclass of {base.__name__}")
    if part in SET_UP and not hasattr(built, SET_UP[part]):
        raise ConfigError(
            f"`{settings['_target_']}.__init__` must call super().__init__ with the arguments of {base.__name__}"
        )
    return built


def read_results(run: Path) -> dict[str, Any]:
    """A run's results.json.

    Raises:
        ResultsError: it is missing, damaged or of another version.
    """
    path = within(run, run / "results.json")
    again = f"python -m interp_lightning.evaluate run={run} writes it anew"
    if not path.is_file():
        raise ResultsError(f"{run} has no results.json; {again}")
    try:
        results = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(f"{path} cannot be read ({error}); {again}") from error
    wrong = [
        key for key, kind in RESULTS.items() if not isinstance(results, dict) or not isinstance(results.get(key), kind)
    ]
    if not wrong:
        numbers = {"images": "", "seconds": "", **results["budget"], **results["metrics"], **results["sanity"]}
        wrong = [name for name, value in numbers.items() if type(value) not in (int, float, NoneType)]
    if wrong:
        raise ResultsError(f"{path} has no usable {', '.join(wrong)}, as if altered or by another version; {again}")
    return results


def write_results(run: Path, results: dict[str, Any]) -> None:
    """Write results.json, all or nothing; a number that is not finite becomes null, as JSON has no other word."""
    write_whole(run / "results.json", json.dumps(_finite_numbers(results), indent=2, allow_nan=False) + "\n")


def new_results(config: dict[str, Any], budget: dict[str, Any]) -> dict[str, Any]:
    """results.json of a run, but for what an evaluation adds."""
    return {
        "model": config["choices"]["model"],
        "penalty": config["choices"]["penalty"],
        "data": config["data_used"],
        "data_asked_for": config["choices"]["data"],
        "seed": config["seed"],
        "budget": budget,
        "images_per_second": round(budget["images"] / budget["seconds"], 1) if budget["seconds"] else 0.0,
        "versions": {package: version(package) for package in ("torch", "lightning", "torchvision", "hydra-core")}
        | {"interp_lightning": __version__, "python": sys.version.split()[0]},
        "git_commit": git_commit(),
        "config_hash": config_hash(config),
        "config": config,
    }


def results_so_far(source: Path) -> dict[str, Any]:
    """Return results.json of a run if it describes the run's checkpoint, or else what the checkpoint itself tells.

    They differ where a run was resumed and has not ended, or is a checkpoint file by itself.
    """
    state = read_checkpoint(checkpoint_file(source))
    config = state["hyper_parameters"]
    if source.is_dir():
        with contextlib.suppress(ResultsError):
            results = read_results(source)
            if (results["budget"].get("batches"), results["config_hash"]) == (
                state["batches_seen"],
                config_hash(config),
            ):
                return results
    seconds = sum(each["seconds"] for key, each in state["callbacks"].items() if key.startswith("Recorder"))
    return new_results(config, budget(state, seconds))


def budget(state: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return what a training took, for results.json.

    Args:
        state: a checkpoint's content.
        seconds: in training steps.
    """
    return {
        "epochs": state["epochs_seen"],
        "batches": state["batches_seen"],
        "images": state["images_seen"],
        "seconds": round(seconds, 1),
        "skipped_steps": state["guard"]["skipped"],
        "rollbacks": state["guard"]["rollbacks"],
    }


def title(config: dict[str, Any]) -> str:
    """What a figure says of a run: model, penalty, data."""
    choices = config["choices"]
    substitute = f" (instead of {choices['data']})" if _substituted(config) else ""
    return f"{choices['model']} × {choices['penalty']} on {config['data_used']}{substitute}"


def git_commit() -> str | None:
    """The commit of the checkout that this code runs from; None for an installed package."""
    checkout = Path(__file__).parent.parent
    if not (checkout / ".git").exists():
        return None
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _data(config: dict[str, Any], root: str | None) -> ImageData:
    """The data set that the run trained on: what it asked for, or the substitute."""
    if _substituted(config):
        return Digits(config["data"]["batch_size"], config["seed"])
    settings = config["data"] | {"fallback": None} | ({"root": root} if root and "root" in config["data"] else {})
    return build("data", settings, seed=config["seed"])


def _stays_here(root: str) -> bool:
    """Whether a folder that a run names is below the current one, so that data may be put there."""
    return not Path(root).is_absolute() and ".." not in Path(root).parts


def _substituted(config: dict[str, Any]) -> bool:
    """Whether the data that were asked for were not to be had."""
    return config["data_used"] == config["data"].get("fallback")


def _check_targets(config: dict[str, Any], path: Path) -> None:
    """Refuse a configuration that would call anything but classes of this package and of torch.optim."""
    if "${" in json.dumps(config):
        raise CheckpointError(
            f"{path}: a setting is a reference (${{…}}), which could bring in anything; with trust=true it is "
            "followed, if you know where the file comes from"
        )
    for part, base in PARTS.items():
        target, *nested = _targets(config[part])
        known = (
            not nested and isinstance(target, str) and target.startswith(OURS) and _is_class(get_object(target), base)
        )
        if not known:
            raise CheckpointError(
                f"{path}: `{part}` would run {[target, *nested][-1]}, which is not this package's; with trust=true it "
                "is run, if you know where the file comes from"
            )


def _targets(value: Any) -> list[Any]:
    """All that a configuration would call, from the outside in."""
    if isinstance(value, dict):
        own = [value["_target_"]] if "_target_" in value else []
        return own + [target for key, each in value.items() if key != "_target_" for target in _targets(each)]
    return [target for each in value for target in _targets(each)] if isinstance(value, list) else []


def _is_class(thing: object, base: type) -> bool:
    return isinstance(thing, type) and issubclass(thing, base)


def _finite(value: Any) -> bool:
    return not isinstance(value, torch.Tensor) or bool(value.isfinite().all())


def _finite_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite_numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite_numbers(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
