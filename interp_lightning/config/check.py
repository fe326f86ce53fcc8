"""Every setting of conf/ and what it may be: checked before torch is imported, and by the classes that take them."""

import difflib
import math
import os
import shutil
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from interp_lightning.errors import CheckpointError, ConfigError
from interp_lightning.metrics.catalogue import COLUMNS
from interp_lightning.parameters import (
    LONGEST_NAME,
    PRINTABLE,
    SWITCH,
    Choice,
    Each,
    Either,
    Integer,
    Number,
    OrNull,
    PathName,
    Record,
    Rule,
    Table,
    Text,
    fits,
    shown,
)
from interp_lightning.system.conf import CONF

COMPILERS = ("g++", "clang++")  # that torch.compile looks for
OPEN = ("optimizer", "trainer", "logger")  # groups whose classes, not ours, have more arguments than our files name

NAMED = f"use at most {LONGEST_NAME} printable bytes, without / and \\, and without ~ or spaces at the ends"
NAME = PathName(single=True, way_out=NAMED)
PATHS = ("outputs", "data.root", "ckpt_path", "metrics.weights")
# Each player's step leaves the other's parameters alone, which other strategies and settings take for an error.
DDP = Record(
    {
        "_target_": Choice(("lightning.pytorch.strategies.DDPStrategy",)),
        "find_unused_parameters": Choice((True,)),
        "process_group_backend": OrNull(Choice(("gloo", "nccl"))),
        "gradient_as_bucket_view": SWITCH,
    }
)

SETTINGS: dict[str, Rule] = {
    "name": OrNull(NAME, way_out=NAMED),
    "outputs": PathName(way_out=PRINTABLE),
    "latent_dim": Integer(1),
    "seed": Integer(0, 2**32 - 1),
    "threads": Integer(1, os.cpu_count() or 1, way_out="the number of this machine's cores"),
    "compile": SWITCH,
    "cuda_graphs": SWITCH,
    "guard": Choice(("stop", "skip", "rollback")),
    "clip.autoencoder": OrNull(Number(exclusive=True), way_out="use null for no limit"),
    "clip.critic": OrNull(Number(exclusive=True), way_out="use null for no limit"),
    "debug": SWITCH,
    "sweep.resume": SWITCH,
    "sweep.objective": Choice(tuple(name for names in COLUMNS.values() for name in names)),
    "checkpoint.every_minutes": Number(),
    "ckpt_path": OrNull(
        Text(r"(?!\w+://).+", "`last` or a checkpoint file on this machine"), way_out="download a remote one yourself"
    ),
    "model.lam": Number(way_out="use model=ae to switch the critic off"),
    "model.gamma": Number(most=1),
    "penalty.lam": Number(way_out="use penalty=none to switch the penalty off"),
    "penalty.lr": OrNull(Number(exclusive=True)),
    "penalty.width": Integer(1),
    "penalty.depth": Integer(1, 1_000),
    "penalty.r1": Number(),
    "penalty.kernel": Choice(("imq", "rbf")),
    "penalty.sigma": Number(exclusive=True, way_out="1 fits a standard normal prior"),
    "penalty.scales": Each(Number(exclusive=True)),
    "penalty.queue": Integer(),
    "penalty.mean": OrNull(Each(Number(-math.inf))),
    "penalty.cov": OrNull(Each(Each(Number(-math.inf)))),
    "data.root": PathName(way_out=PRINTABLE),
    "data.batch_size": Integer(1),
    "data.fallback": Choice((None, "digits")),
    "network.depth": Integer(1),
    "network.latent_width": Integer(1),
    "optimizer.lr": Number(exclusive=True),
    "optimizer.betas": Each(Number(most=1), 2),
    "optimizer.fused": OrNull(SWITCH),
    "schedule.final": Number(),
    "schedule.factors": Table(Integer(), Number(), way_out="add one by +schedule.factors={10: 0.5}"),
    "metrics.restarts": Integer(1, 100_000),
    "metrics.images": OrNull(Integer(2)),
    "metrics.pairs": Integer(1, 100_000),
    "metrics.steps": Integer(3, 1_000),
    "metrics.features": Choice(("auto", "digits", "inception", None)),
    "metrics.weights": OrNull(PathName("a file"), way_out=PRINTABLE),
    "trainer.accelerator": Choice(("auto", "cpu", "gpu", "cuda", "mps")),
    "trainer.devices": Either((Integer(1), Choice((-1, "auto")), Each(Integer()))),
    "trainer.num_nodes": Integer(1),
    "trainer.strategy": Either(
        (Choice(("auto",)), DDP), way_out="use trainer=ddp for several devices; others cannot train two players"
    ),
    "trainer.precision": Choice(("32-true", "bf16-mixed", "16-mixed")),
    "trainer.max_epochs": OrNull(
        Integer(1), way_out="a run can be ended before by trainer.max_time=DD:HH:MM:SS or Ctrl-C"
    ),
    "trainer.max_time": OrNull(Text(r"\d+:\d\d:\d\d:\d\d", "a time as DD:HH:MM:SS")),
    "trainer.limit_train_batches": Number(exclusive=True, way_out="there is nothing to learn from otherwise"),
    "trainer.limit_val_batches": Number(),
    "trainer.check_val_every_n_epoch": Integer(1),
    "trainer.num_sanity_val_steps": Integer(-1),
    "trainer.log_every_n_steps": Integer(1),
    "trainer.enable_progress_bar": SWITCH,
    "trainer.enable_model_summary": SWITCH,
    "trainer.deterministic": Choice((True, False, "warn")),
    "trainer.benchmark": OrNull(SWITCH),
    "trainer.detect_anomaly": SWITCH,
    "trainer.fast_dev_run": Either((SWITCH, Integer(1))),
    "trainer.profiler": OrNull(Choice(("simple", "advanced", "pytorch"))),
    "logger.name": NAME,
    "logger.version": Either((Integer(), Choice(("",)), NAME)),
    "logger.default_hp_metric": SWITCH,
}

# Arguments of Trainer that have no place here.
REFUSED = {
    **dict.fromkeys(("callbacks", "plugins", "logger", "default_root_dir"), "the run brings its own"),
    **dict.fromkeys(("enable_checkpointing", "barebones"), "a run keeps checkpoints and curves"),
    **dict.fromkeys(
        ("gradient_clip_val", "accumulate_grad_batches"), "Lightning cannot do that where two players take steps"
    ),
    "val_check_interval": "validation is at the end of epochs, see trainer.check_val_every_n_epoch",
    **dict.fromkeys(("max_steps", "min_steps"), "they count each player's steps; trainer.max_epochs is the budget"),
    "min_epochs": "trainer.max_epochs is the budget",
    "gradient_clip_algorithm": "Lightning cannot do that where two players take steps",
    "overfit_batches": "trainer.limit_train_batches says how many batches an epoch has",
    **dict.fromkeys(("limit_test_batches", "limit_predict_batches"), "metrics.images says how many are evaluated"),
    **dict.fromkeys(("use_distributed_sampler", "reload_dataloaders_every_n_epochs"), "the data bring their loaders"),
    **dict.fromkeys(("inference_mode", "enable_autolog_hparams"), "the run does that itself"),
    "sync_batchnorm": "it would make a run on several devices another one than on one",
    "model_registry": "a run keeps its checkpoints in its own folder",
}


def check(name: str, value: Any) -> Any:
    """Return the value of a setting, or raise ConfigError if it may not have it."""
    return SETTINGS[name].check(name, value)


def written_out(name: str, value: Any, start: str = "") -> str:
    """Return the path that a setting names, checked, with ~ written out.

    Args:
        name, value: of the setting.
        start: the folder that it is relative to, if that is not the current one.

    Raises:
        ConfigError: it is not a path, or ~user is nobody.
    """
    path = os.path.expanduser(check(name, value))
    if path.startswith("~"):
        user = path.split("/")[0]
        raise ConfigError(
            f"`{name}` (={value!r}) must name a folder by a user of this machine, and {user} is none; write ./{user} "
            "for a folder of that name"
        )
    return os.path.join(start, path)


def write_out_paths(cfg: DictConfig, start: str = "") -> None:
    """Replace each path of a configuration by its `written_out`; `check_config` refuses what is not a path."""
    for name in PATHS:
        with suppress(OmegaConfBaseException):
            value = OmegaConf.select(cfg, name)
            if isinstance(value, str) and (name, value) != ("ckpt_path", "last"):
                OmegaConf.update(cfg, name, written_out(name, value, start))


def did_you_mean(name: str) -> str:
    """Hint at the settings that somebody may have meant who gave one that there is not."""
    leaf = name.rpartition(".")[2].lower()
    stems = {leaf, leaf.removesuffix("s"), f"{leaf}s"}
    initials = "".join(word[:1] for word in leaf.split("_"))
    last = {place: place.rpartition(".")[2] for place in _places()}
    groups = [*_groups(), "experiment"]
    near = difflib.get_close_matches(leaf, {*last.values(), *groups}, n=1, cutoff=0.7)
    candidates = (  # the first kind of which there are any
        [place for place, key in last.items() if key == leaf],
        [place for place, key in last.items() if stems & {key, *key.split("_")}],
        [f"{group}=…" for group in groups if len(leaf) > 2 and (leaf.startswith(group) or group.startswith(leaf))],
        [f"{group}={stem}" for group in groups for stem in stems if (CONF / group / f"{stem}.yaml").is_file()],
        [place for place, key in last.items() if key in near] + [f"{group}=…" for group in groups if group in near],
        [place for place, key in last.items() if key == initials or (len(key) > 2 and leaf.startswith(key))],
    )
    found = next(filter(None, candidates), [])
    where = [f"`{place}`{_places().get(place, '')}" for place in found]
    return f"did you mean {' or '.join(where)}?" if found else "--cfg job prints those there are"


@cache
def _places() -> dict[str, str]:
    """Each setting in conf/ by its dotted name, with what has to be chosen for it to be there."""
    places = {
        f"{key}.{each}" if isinstance(value, dict) else key: ""
        for key, value in _top().items()
        for each in (value if isinstance(value, dict) else (key,))
    }
    for group in _groups():
        files = {path.stem: _load(path) for path in sorted((CONF / group).glob("*.yaml"))}
        for key in dict.fromkeys(key for file in files.values() for key in file):
            having = [stem for stem, file in files.items() if key in file or "defaults" in file]
            if key != "defaults" and not key.startswith("_"):
                places[f"{group}.{key}"] = "" if len(having) == len(files) else f" of {group}={'|'.join(having)}"
    return dict(sorted(places.items(), key=lambda place: bool(place[1])))  # those that are always there come first


def check_config(config: dict[str, Any], choices: dict[str, str]) -> None:
    """Check all settings of a resolved configuration, as far as that can be done without torch.

    What depends on several settings, and the settings of classes from outside the package, is left to the classes.

    Args:
        config: the configuration.
        choices: what was chosen in each group, for the sentences.

    Raises:
        ConfigError: a setting is unknown, missing, or has a value that it may not have.
    """
    _check_numbers("", config)
    _check_keys("this run", "", config, {*_top(), *_groups()}, all_of_them=True)
    for key, value in _top().items():
        if isinstance(value, dict):
            _check_keys("this run", f"{key}.", config[key], set(value), all_of_them=True)
    for group in _groups():
        if choices and group not in choices:  # Hydra notes none where it was given several
            raise ConfigError(f"`{group}` must be one of its choices, not several; --help lists them")
        part = config[group]
        if not isinstance(part, dict) or not isinstance(part.get("_target_"), str):
            raise ConfigError(f"`{group}` (={part!r}) must name a class in `_target_`, as the files in conf/{group} do")
        _check_special(group, part)
        ours = _keys(group, part["_target_"])
        if ours and group not in OPEN:
            _check_keys(f"{group}={choices.get(group)}", f"{group}.", part, ours)
    for key in config["trainer"]:
        if key in REFUSED:
            raise ConfigError(f"`trainer.{key}` is not to be set, as {REFUSED[key]}; leave it out")
    check_values(config)
    if config["compile"] and not any(map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))):
        raise ConfigError(
            f"`compile` (=true) wants a C++ compiler, and there is none of {', '.join(COMPILERS)} and none in CXX; "
            "install one, or leave it out"
        )
    path = config["ckpt_path"]
    if path not in (None, "last") and not Path(path).is_file():
        reason = "it is no file" if Path(path).exists() else "there is no such file"
        raise CheckpointError(f"`ckpt_path` (={path}) names no checkpoint: {reason}; leave it out to start afresh")


def _check_numbers(name: str, value: Any) -> None:
    """Refuse integers beyond 64 bits in any setting, also in those of classes that we do not know."""
    if isinstance(value, dict):
        for key, each in value.items():
            _check_numbers(f"{name}.{shown(key) if isinstance(key, int) else key}".removeprefix("."), each)
    elif isinstance(value, list):
        for each in value:
            _check_numbers(name, each)
    elif not fits(value):
        raise ConfigError(f"`{name}` (={shown(value)}) must fit into 64 bits; use a smaller number")


def _check_special(group: str, part: dict[str, Any]) -> None:
    """Refuse keys of a part by which Hydra would make something else of it, or nothing."""
    for key in part:
        if not isinstance(key, str):
            raise ConfigError(f"`{group}.{shown(key)}` is no setting, as its name is no text; remove it")
        if key.startswith("_") and key.endswith("_") and key not in ("_target_", "_partial_"):
            raise ConfigError(f"`{group}.{key}` is not to be set, as the program sets Hydra's special keys; remove it")
        if isinstance(part[key], dict) and not isinstance(part[key].get("_partial_", False), bool):
            raise ConfigError(f"`{group}.{key}._partial_` (={shown(part[key]['_partial_'])}) must be true or false")
    partial = group == "optimizer"  # which gets its parameters from the model
    if part.get("_partial_", False) is not partial:
        way_out = "must be true, as the model brings the parameters" if partial else "is not to be set; remove it"
        raise ConfigError(f"`{group}._partial_` (={shown(part.get('_partial_'))}) {way_out}")


def check_values(config: dict[str, Any]) -> None:
    """Check the values of all settings that a configuration has; raises ConfigError for one that it may not have."""
    for name, rule in SETTINGS.items():
        group, _, key = name.rpartition(".")
        part = config.get(group, {}) if group else config
        if not isinstance(part, dict):
            raise ConfigError(f"`{group}` (={part!r}) must have settings of its own")
        if key in part and (group not in _groups() or key in _keys(group, part["_target_"])):
            rule.check(name, part[key])


def _check_keys(owner: str, prefix: str, part: Any, keys: set[str], all_of_them: bool = False) -> None:
    """Refuse keys other than those, with the nearest of them, and if all have to be there, a part without one."""
    if not isinstance(part, dict):
        raise ConfigError(f"`{prefix[:-1]}` (={part!r}) must have settings of its own: {', '.join(sorted(keys))}")
    for key in part:
        if key not in keys:
            near = difflib.get_close_matches(str(key), sorted(keys), n=1)
            hint = f"did you mean `{prefix}{near[0]}`?" if near else did_you_mean(f"{prefix}{key}")
            raise ConfigError(f"`{prefix}{key}` is no setting of {owner}; {hint}")
    for key in sorted(keys - part.keys()) if all_of_them else ():
        raise ConfigError(f"`{prefix}{key}` is missing; put it back")


@cache
def _top() -> dict[str, Any]:
    """The settings in conf/config.yaml itself."""
    return {key: value for key, value in _load(CONF / "config.yaml").items() if key not in ("defaults", "hydra")}


@cache
def _groups() -> list[str]:
    """The groups of which a run has a choice each."""
    names = [next(iter(each)) for each in _load(CONF / "config.yaml")["defaults"] if isinstance(each, dict)]
    return [name for name in names if name != "experiment" and "/" not in name]


@cache
def _keys(group: str, target: str) -> set[str]:
    """The keys of our files of a group that set up this class; none if it is a class of the user's."""
    files = [_load(path) for path in (CONF / group).glob("*.yaml")]
    return {key for file in files if file.get("_target_") == target for key in file}


def _load(path: Path) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path), resolve=False))
