"""Defaults for Hydra's sweepers and launchers. Imports no torch."""

import logging
import re
from contextlib import suppress
from typing import Any

from hydra.core.config_store import ConfigLoadError, ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from interp_lightning.config.check import check_setting
from interp_lightning.metrics.catalogue import parse
from interp_lightning.runs.sweeps import LAUNCHER
from interp_lightning.system.processes import cores

DAY = 24 * 60  # minutes

# Choices of hydra/launcher and hydra/sweeper that need another package.
PACKAGES = {
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
    "ray": "hydra-ray-launcher",
    "optuna": "hydra-optuna-sweeper",
}
# Defaults that differ from the plugins' own. The command line overrides them, as in hydra.launcher.n_jobs=3.
DEFAULTS: dict[str, dict[str, Any]] = {
    "hydra/launcher/joblib": {"n_jobs": "${jobs_at_once:${threads}}"},
    "hydra/launcher/submitit_local": {"timeout_min": DAY},
    "hydra/launcher/submitit_slurm": {
        "timeout_min": DAY,
        "max_num_timeout": 10,  # resumptions of a job that runs out of time
        "cpus_per_task": "${threads}",
    },
    "hydra/sweeper/basic": {"max_batch_size": "${batch_of_jobs:${hydra.runtime.choices},${threads}}"},
    "hydra/sweeper/optuna": {
        "n_jobs": "${trials_at_once:${hydra.runtime.choices},${threads}}",
        "direction": "${direction:${sweep.objective}}",
        "max_failure_rate": 1.0,  # failed jobs do not end the search
    },
    "hydra/sweeper/sampler/tpe": {"seed": 0},  # so that sweep.resume=true finds the same jobs
}

# hydra/job_logging=stderr: log on stderr and in the run's folder.
LOGGING: dict[str, Any] = {
    "version": 1,
    "formatters": {"simple": {"format": "%(asctime)s %(levelname)s %(message)s", "datefmt": "%H:%M:%S"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "simple", "stream": "ext://sys.stderr"},
        "file": {
            "class": "logging.FileHandler",
            "formatter": "simple",
            "filename": "${hydra.runtime.output_dir}/${hydra.job.name}.log",
            "encoding": "utf-8",
            "errors": "backslashreplace",
        },
    },
    "root": {"level": "INFO", "handlers": ["console", "file"]},
    "disable_existing_loggers": False,
}


def set_up() -> None:
    """Set the defaults of the installed plugins."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # Optuna's, which logs its imports
    Plugins.instance()  # registers the plugins' own defaults
    store = ConfigStore.instance()
    for name, values in DEFAULTS.items():
        group, _, choice = name.rpartition("/")
        with suppress(ConfigLoadError):
            node = store.load(f"{name}.yaml")
            store.store(choice, OmegaConf.merge(node.node, values), group, node.package, node.provider)


def jobs_at_once(threads: int) -> int:
    """Return the number of jobs of this many threads that fit onto the cores."""
    return max(1, cores() // threads) if isinstance(threads, int) and threads > 0 else 1


def batch_of_jobs(choices: DictConfig, threads: int) -> int | None:
    """Return how many jobs a launcher gets at a time; None is all.

    submitit_local starts at once all that it gets.
    """
    return jobs_at_once(threads) if choices.get(LAUNCHER) == "submitit_local" else None


def trials_at_once(choices: DictConfig, threads: int) -> int:
    """Return the number of points that a search chooses before it sees their results."""
    return 1 if choices.get(LAUNCHER) == "basic" else jobs_at_once(threads)


def direction(objective: str) -> str:
    """Return the direction in which a search improves its objective."""
    check_setting("sweep.objective", objective)
    return "maximize" if parse(objective)[0].higher_is_better else "minimize"


def missing_package(message: str) -> str | None:
    """Return the sentence for a launcher or sweeper that is not installed; None for any other message of Hydra's."""
    for choice, package in PACKAGES.items():
        if re.search(rf"Could not find 'hydra/\w+/{choice}'", message):
            return f"hydra/{package.split('-')[-1]}={choice} is not installed: pip install {package}"
    return None


ConfigStore.instance().store("stderr", LOGGING, "hydra/job_logging", "hydra.job_logging")
# For references such as ${jobs_at_once:…}.
for resolver in (jobs_at_once, batch_of_jobs, trials_at_once, direction):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
