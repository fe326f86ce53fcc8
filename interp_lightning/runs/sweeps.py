"""Sweeps: plan all jobs, and start, resume or skip each. Imports no torch."""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from interp_lightning.errors import ConfigError, ResultsError
from interp_lightning.runs import folders
from interp_lightning.runs.find import has_checkpoints, is_run
from interp_lightning.runs.folders import PLAN
from interp_lightning.runs.jobs import FINISHED, JOB, UNFINISHED, own, read_job, record_job, summarise
from interp_lightning.runs.relevance import Effect, changes
from interp_lightning.system.disk import regular, write_whole
from interp_lightning.system.plain import plain_copy

log = logging.getLogger(__name__)

LAUNCHER, SWEEPER = "hydra/launcher", "hydra/sweeper"  # Hydra's groups


class Plan(Callback):
    """Record the jobs of a sweep before the first one starts, so that the summary lists jobs that never started."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        folders.new.add(folder.absolute())
        jobs = _planned(config)
        if jobs and not is_run(folder):
            folder.mkdir(parents=True, exist_ok=True)  # Hydra makes it later
            objective = str(OmegaConf.select(config, "sweep.objective"))
            plan = {"started": time.time(), "objective": objective, "swept": _swept(config), "jobs": jobs}
            write_whole(folder / PLAN, json.dumps(plan, indent=2) + "\n")
            summarise(folder)


def begin(folder: Path, cfg: DictConfig, overrides: Sequence[str]) -> bool:
    """Start a job of a sweep or resume it; return False to skip a job that has finished before.

    A job is resumed with sweep.resume=true, or if a cluster starts it again in the folder of its first attempt.

    Args:
        folder: the job's folder, where Hydra has recorded its configuration.
        cfg: the job's configuration; its ckpt_path is set to "last" if there is a checkpoint to resume from.
        overrides: the job's settings, as on the command line.

    Raises:
        ConfigError: the folder belongs to a job with other settings.
    """
    if resumes(cfg) or (folder / JOB).is_file():
        check_same(folder, cfg)
        if read_job(folder)["status"] == FINISHED:
            return False
        if has_checkpoints(folder):
            cfg.ckpt_path = "last"
    folders.claim(folder, cfg.ckpt_path)
    record_job(folder, overrides, UNFINISHED)
    return True


def resumes(cfg: DictConfig) -> bool:
    """Return True if sweep.resume is true, in a configuration that has not been checked yet."""
    settings = cfg.get("sweep")
    return isinstance(settings, DictConfig) and settings.get("resume") is True


def score(folder: Path, objective: str) -> float | None:
    """Return the metric of a finished job that a search optimises; None if it is missing or cannot be read."""
    from interp_lightning.runs.results import read_results

    try:
        return read_results(folder)["metrics"].get(objective)
    except ResultsError as error:
        log.warning(str(error))
        return None


def _planned(config: DictConfig) -> list[list[str]]:
    """Return the settings of each job; empty lists for the jobs of a search, which chooses them later."""
    if config.hydra.runtime.choices[SWEEPER] != "basic":
        return [[]] * int(config.hydra.sweeper.get("n_trials") or 0)
    batches = BasicSweeper.split_arguments(_overrides(config), None)
    return [own(job) for batch in batches for job in batch]


def _swept(config: DictConfig) -> list[str]:
    """Return the names of the settings that a sweep varies."""
    return [override.get_key_element().lstrip("+") for override in _overrides(config) if override.is_sweep_override()]


def _overrides(config: DictConfig) -> list[Override]:
    """Return a sweep's settings, of its file and of the command line."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    return parser.parse_overrides([*params, *config.hydra.overrides.task])


def check_same(folder: Path, cfg: DictConfig) -> None:
    """Raise ConfigError if the folder of a job that is to be resumed belongs to a job with other settings."""
    # References stay unresolved, because resolving one can act.
    before, now = (
        cast(dict[str, Any], plain_copy(OmegaConf.to_container(config, resolve=False)))
        for config in (_recorded(folder / ".hydra" / "config.yaml"), cfg)
    )
    if different := changes(before, now, Effect.WEIGHTS, Effect.SEED, Effect.SCORES):
        raise ConfigError(
            f"`sweep.resume` (=true) has other settings for {folder} than it was started with: {', '.join(different)}; "
            "set them back, or start another sweep without sweep.resume"
        )


def _recorded(path: Path) -> DictConfig:
    """Read a configuration that Hydra has recorded; reject aliases, which can expand without end.

    Raises:
        ConfigError: the file is not a configuration.
    """
    try:
        aliases = any(
            isinstance(event, yaml.AliasEvent) for event in yaml.parse(regular(path).read_text(encoding="utf-8"))
        )
        config = None if aliases else OmegaConf.load(path)
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException):
        config = None
    if not isinstance(config, DictConfig):
        raise ConfigError(f"{path} is not the configuration of a job; start another sweep without sweep.resume")
    return config
