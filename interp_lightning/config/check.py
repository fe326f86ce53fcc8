"""Check configurations: first all names and the settings that belong to no class, then each class's own settings."""

import difflib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import AfterValidator, Field

from interp_lightning.config.loggers import LOGGERS, check_members
from interp_lightning.config.names import did_you_mean, groups, keys, top
from interp_lightning.errors import CheckpointError, ConfigError
from interp_lightning.metrics.catalogue import COLUMNS, HEADLINE
from interp_lightning.parameters import (
    Configurable,
    Count,
    File,
    Folder,
    Name,
    Natural,
    Positive,
    Rate,
    Share,
    WayOut,
    Weight,
    accepts,
    check_fits,
    check_part,
    check_value,
    shown,
)
from interp_lightning.system.conf import choices, find
from interp_lightning.system.plain import plain_copy
from interp_lightning.system.text import counted

COMPILERS = ("g++", "clang++")  # that torch.compile looks for
OPEN = ("optimizer", "trainer", "logger")  # groups whose classes have more arguments than our files name
CORES = os.cpu_count() or 1

# Each player's step leaves the other's parameters alone; other strategies and settings take that for an error.
DDP: dict[str, Any] = {
    "_target_": Literal["lightning.pytorch.strategies.DDPStrategy"],
    "find_unused_parameters": Literal[True],
    "process_group_backend": Literal["gloo", "nccl"] | None,
    "gradient_as_bucket_view": bool,
}


def _strategy(value: Any) -> Any:
    """Raise ValueError unless this strategy can train two players."""
    if value != "auto" and not (
        isinstance(value, dict)
        and "_target_" in value
        and all(key in DDP and accepts(DDP[key], each) for key, each in value.items())
    ):
        raise ValueError
    return value


def _local(path: str) -> str:
    """Raise ValueError for an address such as https://…"""
    scheme, separator, _ = path.partition("://")
    if not path or (separator and scheme.isidentifier()):
        raise ValueError
    return path


# The settings that no class of this package declares in its signature.
SETTINGS: dict[str, Any] = {
    "name": Name | None,
    "outputs": Folder,
    "threads": Annotated[
        Annotated[int, Field(ge=1, le=CORES)] | Literal["auto"], WayOut(f"this machine has {counted(CORES, 'core')}")
    ],
    **dict.fromkeys(("compile", "cuda_graphs", "debug", "sweep.resume", "trainer.detect_anomaly"), bool),
    **dict.fromkeys(("trainer.enable_progress_bar", "trainer.enable_model_summary"), bool),
    "sweep.objective": Literal[(HEADLINE, *(name for names in COLUMNS.values() for name in names))],
    "milestones": Natural,
    "checkpoint.every_minutes": Weight,
    "ckpt_path": Annotated[
        str,
        AfterValidator(_local),
        Field(description="`last` or a checkpoint file on this machine"),
        WayOut("download a remote file first"),
    ]
    | None,
    "optimizer.lr": Rate,
    "optimizer.betas": tuple[Share, Share],
    "optimizer.fused": bool | None,
    "trainer.accelerator": Literal["auto", "cpu", "gpu", "cuda", "mps"],
    "trainer.devices": Count | Literal[-1, "auto"] | Annotated[list[Natural], Field(min_length=1)],
    "trainer.num_nodes": Count,
    "trainer.strategy": Annotated[
        Any,
        AfterValidator(_strategy),
        Field(description=f"auto or a mapping like that of trainer=ddp, with {', '.join(DDP)}"),
        WayOut("use trainer=ddp for several devices; no other strategy can train two players"),
    ],
    "trainer.precision": Literal["32-true", "bf16-mixed", "16-mixed"],
    "trainer.max_epochs": Annotated[
        Count | None, WayOut("to end a run early, use trainer.max_time=DD:HH:MM:SS or Ctrl-C")
    ],
    "trainer.max_time": Annotated[str, Field(pattern=r"^\d+:\d\d:\d\d:\d\d$", description="a time as DD:HH:MM:SS")]
    | None,
    "trainer.limit_train_batches": Annotated[Positive, WayOut("a run must have training batches")],
    "trainer.limit_val_batches": Weight,
    "trainer.check_val_every_n_epoch": Count,
    "trainer.num_sanity_val_steps": Annotated[int, Field(ge=-1)],
    "trainer.log_every_n_steps": Count,
    "trainer.deterministic": bool | Literal["warn"],
    "trainer.benchmark": bool | None,
    "trainer.fast_dev_run": bool | Count,
    "trainer.profiler": Literal["simple", "advanced", "pytorch"] | None,
    **{f"logger.{name}": annotation for name, annotation in LOGGERS.items()},
}
# Settings that are paths: ~ is expanded. Their classes declare them, too, and check them again.
PATHS = {"outputs": Folder, "data.root": Folder, "ckpt_path": SETTINGS["ckpt_path"], "metrics.weights": File}

# Arguments of Trainer that a run does not take, by the reason.
REFUSED = {
    **dict.fromkeys(("callbacks", "plugins", "logger", "default_root_dir"), "the run sets it"),
    **dict.fromkeys(("enable_checkpointing", "barebones"), "a run always writes checkpoints and curves"),
    **dict.fromkeys(
        ("gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches"),
        "Lightning does not support it for two players",
    ),
    "val_check_interval": "validation runs at the end of epochs, see trainer.check_val_every_n_epoch",
    **dict.fromkeys(("max_steps", "min_steps"), "it counts each player's steps; trainer.max_epochs is the budget"),
    "min_epochs": "trainer.max_epochs is the budget",
    "overfit_batches": "trainer.limit_train_batches sets the batches of an epoch",
    **dict.fromkeys(("limit_test_batches", "limit_predict_batches"), "metrics.images sets the number of test images"),
    **dict.fromkeys(
        ("use_distributed_sampler", "reload_dataloaders_every_n_epochs"), "the data set brings its loaders"
    ),
    **dict.fromkeys(("inference_mode", "enable_autolog_hparams"), "the run sets it"),
    "sync_batchnorm": "a run on several devices must be the same as on one",
    "model_registry": "a run keeps its checkpoints in its own folder",
}


def unknown_setting(name: str) -> str:
    """Return the sentence for a setting that is not in the configuration."""
    group, _, key = name.partition(".")
    if group == "trainer" and key in REFUSED:
        return f"`{name}` cannot be set: {REFUSED[key]}; remove it"
    hint = did_you_mean(name)
    if name == "sweep":
        hint = f"+sweep=… chooses a sweep: {', '.join(choices(name))}"
    if group == "hydra":
        hint = "--cfg hydra prints the existing ones"
    elif group in OPEN and key and f"`{group}." not in hint:
        hint = f"+{name}=… passes it to the class in {group}._target_, if that takes it"
    return f"`{name}` is no setting of this run; {hint}"


def check(name: str, value: Any) -> Any:
    """Return the value of one of `SETTINGS`, or raise ConfigError if it is not allowed."""
    return check_value(name, value, SETTINGS[name])


def written_out(name: str, value: Any, start: str = "") -> str:
    """Return the path that a setting gives, with ~ expanded.

    Args:
        name: of the setting, one of `PATHS`.
        value: of the setting.
        start: folder that a relative path starts from; the current one if empty.

    Raises:
        ConfigError: the value is not a path, or ~user is not a user of this machine.
    """
    path = os.path.expanduser(check_value(name, value, PATHS[name]))
    if path.startswith("~"):
        user = path.split("/")[0]
        raise ConfigError(
            f"`{name}` (={value!r}) must start with a user of this machine, but {user} is unknown; write ./{user} for "
            "a folder of that name"
        )
    return os.path.join(start, path)


def write_out_paths(cfg: DictConfig, start: str = "") -> None:
    """Replace each path of a configuration by its `written_out` form, in place. `check_config` rejects other values."""
    for name in PATHS:
        with suppress(OmegaConfBaseException):
            value = OmegaConf.select(cfg, name)
            if isinstance(value, str) and (name, value) != ("ckpt_path", "last"):
                OmegaConf.update(cfg, name, written_out(name, value, start))


def check_config(config: dict[str, Any], choices: dict[str, str]) -> None:
    """Check every setting of a resolved configuration.

    Names come first and need no torch. Values of a class's settings need the class, so that they come last. Conditions
    on several settings are checked by the classes when they are built.

    Args:
        config: the configuration.
        choices: the choice of each group, for the sentences.

    Raises:
        ConfigError: a setting is unknown or missing, or its value is not allowed.
    """
    check_fits("", config)
    _check_keys("this run", "", config, {*top(), *groups()}, all_of_them=True)
    for key, value in top().items():
        if isinstance(value, dict):
            _check_keys("this run", f"{key}.", config[key], set(value), all_of_them=True)
    for group in groups():
        if choices and group not in choices:  # Hydra records no choice for a list of choices
            raise ConfigError(f"`{group}` must be one of its choices, not several; --help lists them")
        part = config[group]
        if not isinstance(part, dict) or not isinstance(part.get("_target_"), str):
            raise ConfigError(f"`{group}` (={part!r}) must name a class in `_target_`, as the files in conf/{group} do")
        _check_special(group, part)
        ours = keys(group, part["_target_"])
        if ours and group not in OPEN:
            _check_keys(f"{group}={choices.get(group)}", f"{group}.", part, ours)
    for key in config["trainer"]:
        if key in REFUSED:
            raise ConfigError(f"`trainer.{key}` cannot be set: {REFUSED[key]}; remove it")
    _checks(config)
    if config["compile"] and not any(map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))):
        raise ConfigError(
            f"`compile` (=true) requires a C++ compiler: {', '.join(COMPILERS)}, or the one in CXX; install one, or "
            "set compile=false"
        )
    path = config["ckpt_path"]
    if path not in (None, "last") and not Path(path).is_file():
        reason = "it is not a file" if Path(path).exists() else "there is no such file"
        raise CheckpointError(f"`ckpt_path` (={path}) names no checkpoint: {reason}; remove it to start a new run")
    _check_classes(config)
    plain_copy(config)  # a checkpoint with other values could not be read


def _checks(config: dict[str, Any]) -> None:
    """Check the settings that belong to no class of this package."""
    for name, annotation in SETTINGS.items():
        group, _, key = name.rpartition(".")
        part = config[group] if group else config
        if key in part and (group not in groups() or key in keys(group, part["_target_"])):
            check_value(name, part[key], annotation)
    if "members" in keys("logger", config["logger"]["_target_"]):
        check_members(config["logger"].get("members", {}))


def _check_classes(config: dict[str, Any]) -> None:
    """Check each part of a configuration by the signature of its class, whose import takes seconds."""
    # Importing these three also imports Lightning: the others answer sooner.
    for group in sorted(groups(), key=("model", "data", "metrics").__contains__):
        kind = None if group in OPEN else _class(config[group]["_target_"])
        if kind is not None:
            check_part(kind, config[group], config)


def _class(target: str) -> type[Configurable] | None:
    """Import the class that `_target_` names; None for anything that is rejected when it is built."""
    try:
        found = find(target)
    except Exception:  # whatever the import of a user's file raises; building the part raises it again and explains it
        return None
    return found if isinstance(found, type) and issubclass(found, Configurable) else None


def _check_special(group: str, part: dict[str, Any]) -> None:
    """Reject keys that are not text, and Hydra's special keys except those in our files."""
    for key in part:
        if not isinstance(key, str):
            raise ConfigError(f"`{group}.{shown(key)}` is not a setting, because its name is not text; remove it")
        if key.startswith("_") and key.endswith("_") and key not in ("_target_", "_partial_"):
            raise ConfigError(f"`{group}.{key}` cannot be set, as the program sets Hydra's special keys; remove it")
        if isinstance(part[key], dict) and not isinstance(part[key].get("_partial_", False), bool):
            raise ConfigError(f"`{group}.{key}._partial_` (={shown(part[key]['_partial_'])}) must be true or false")
    partial = group == "optimizer"  # the model passes its parameters later
    if part.get("_partial_", False) is not partial:
        way_out = "must be true, because the model passes the parameters" if partial else "cannot be set; remove it"
        raise ConfigError(f"`{group}._partial_` (={shown(part.get('_partial_'))}) {way_out}")


def _check_keys(owner: str, prefix: str, part: Any, names: set[str], all_of_them: bool = False) -> None:
    """Reject a part with other keys, suggesting the nearest, or with a key missing if all are required."""
    if not isinstance(part, dict):
        raise ConfigError(f"`{prefix[:-1]}` (={part!r}) must be a group of settings: {', '.join(sorted(names))}")
    for key in part:
        if key not in names:
            near = difflib.get_close_matches(str(key), sorted(names), n=1)
            hint = f"did you mean `{prefix}{near[0]}`?" if near else did_you_mean(f"{prefix}{key}")
            raise ConfigError(f"`{prefix}{key}` is not a setting of {owner}; {hint}")
    for key in sorted(names - part.keys()) if all_of_them else ():
        raise ConfigError(f"`{prefix}{key}` is missing; put it back")
