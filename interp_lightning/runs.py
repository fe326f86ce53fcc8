"""A run's folder: what is in it, how a model comes out of it, how results get into it."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from interp_lightning import __version__
from interp_lightning.checkpoints import read_checkpoint
from interp_lightning.cli import DEVICES, of_own_code
from interp_lightning.data.base import ImageData
from interp_lightning.data.digits import Digits
from interp_lightning.errors import CheckpointError, CheckpointMissing, ConfigError, ResultsError
from interp_lightning.folders import within
from interp_lightning.foreign import PARTS, Limited, build_ours, check_foreign
from interp_lightning.machine import prepare_cpu
from interp_lightning.models.base import Autoencoder
from interp_lightning.plain import UNPRINTABLE
from interp_lightning.relevance import config_hash
from interp_lightning.results import read_results
from interp_lightning.results import write_results as write_results
from interp_lightning.rules import check_choice
from interp_lightning.settings import check
from interp_lightning.text import plain

ROOM = 10**8  # numbers in tensors that a model of few weights may make while it is set up
# What the constructor of each base class sets last: missing if a subclass does not call it.
SET_UP = {"data": "fallback", "network": "depth", "penalty": "lr", "model": "_recorded"}


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
    config, make = state["hyper_parameters"], build if trust else build_ours
    writer = UNPRINTABLE.sub("?", str(state.get("interp_lightning")))[:40]
    way_out = "use another checkpoint" if writer == __version__ else f"evaluate it with interp_lightning {writer}"
    try:
        if not trust:
            check_foreign(config, path)
        data = _data(config, root, make)
        data.may_fetch = bool(root) or trust or _stays_here(config["data"].get("root", ""))
        weights = sum(value.numel() for value in state["state_dict"].values() if isinstance(value, torch.Tensor))
        with contextlib.nullcontext() if trust else Limited(ROOM + 8 * weights):
            model = build_model(OmegaConf.create(config) if trust else config, data, make)
        model.on_load_checkpoint(state)
        model.load_state_dict(state["state_dict"])
    except CheckpointError:
        raise
    except Exception as error:  # whatever code of another version trips over
        if sentence := of_own_code(error):
            raise CheckpointError(f"{path}: {sentence}") from error
        reason = UNPRINTABLE.sub("?", " ".join(str(error.__cause__ or error).split()))
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


def build(part: str, settings: Any, **arguments: Any) -> Any:
    """What a part of the configuration describes; it can run any code, so only for settings that are trusted.

    Raises:
        ConfigError: its `_target_` makes something else.
    """
    built = instantiate(settings, _convert_="all", **arguments)
    base = PARTS[part]
    if not isinstance(built, base) and not (isinstance(built, partial) and _is_class(built.func, base)):
        raise ConfigError(f"`{part}._target_` (={settings['_target_']}) must name a subclass of {base.__name__}")
    if part in SET_UP and not hasattr(built, SET_UP[part]):
        raise ConfigError(
            f"`{settings['_target_']}.__init__` must call super().__init__ with the arguments of {base.__name__}"
        )
    return built


def build_model(cfg: Any, data: ImageData, make: Callable[..., Any] = build) -> Autoencoder:
    """The model that a configuration describes, for the images of a data set.

    Args:
        cfg: the configuration.
        data: the data set.
        make: `build`, or `build_ours` for what someone else's checkpoint holds.
    """
    return make(
        "model",
        cfg["model"],
        network=make("network", cfg["network"], image_shape=data.image_shape, latent_dim=cfg["latent_dim"]),
        penalty=make("penalty", cfg["penalty"]),
        optimizer=make("optimizer", cfg["optimizer"]),
        schedule=make("schedule", cfg["schedule"]),
        guard=cfg["guard"],
        clip=cfg["clip"],
        seed=cfg["seed"],
    )


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
    return plain(f"{choices['model']} × {choices['penalty']} on {config['data_used']}{substitute}")


def git_commit() -> str | None:
    """The commit of the checkout that this code runs from; None for an installed package."""
    checkout = Path(__file__).parent.parent
    if not (checkout / ".git").exists():
        return None
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, encoding="utf-8", check=False
    )
    return done.stdout.strip() or None


def _data(config: dict[str, Any], root: str | None, make: Callable[..., Any]) -> ImageData:
    """The data set that the run trained on: what it asked for, or the substitute."""
    if _substituted(config):
        return Digits(config["data"]["batch_size"], config["seed"])
    settings = config["data"] | {"fallback": None} | ({"root": root} if root and "root" in config["data"] else {})
    return make("data", settings, seed=config["seed"])


def _stays_here(root: str) -> bool:
    """Whether a folder that a run names is below the current one, so that data may be put there."""
    return not Path(root).is_absolute() and ".." not in Path(root).parts and not root.startswith("~")


def _substituted(config: dict[str, Any]) -> bool:
    """Whether the data that were asked for were not to be had."""
    return config["data_used"] == config["data"].get("fallback")


def _is_class(thing: object, base: type) -> bool:
    return isinstance(thing, type) and issubclass(thing, base)


def _finite(value: Any) -> bool:
    return not isinstance(value, torch.Tensor) or bool(value.isfinite().all())
