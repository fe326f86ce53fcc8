"""Defaults for Hydra's sweepers and launchers, and its logging. Imports no torch."""

import logging
import shutil
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hydra.core.config_store import ConfigLoadError, ConfigStore
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from interp_lightning.errors import ConfigError
from interp_lightning.metrics.catalogue import parse
from interp_lightning.runs.sweeps import LAUNCHER
from interp_lightning.system.processes import cores

DAY = 24 * 60  # minutes

# Choices of hydra/launcher and hydra/sweeper that come in separate packages.
PACKAGES = {
    "joblib": "hydra-joblib-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
    "ray": "hydra-ray-launcher",
    "optuna": "hydra-optuna-sweeper",
}
# Defaults that differ from those of the plugins; the command line overrides them, as in hydra.launcher.n_jobs=3.
DEFAULTS: dict[str, dict[str, Any]] = {
    "hydra/launcher/joblib": {"n_jobs": "${jobs_at_once:${threads}}"},
    "hydra/launcher/submitit_local": {"timeout_min": DAY},
    "hydra/launcher/submitit_slurm": {
        "timeout_min": DAY,
        "max_num_timeout": 10,  # how often a job that has run out of time is resumed
        "cpus_per_task": "${threads_each:${threads}}",
    },
    "hydra/sweeper/basic": {"max_batch_size": "${batch_of_jobs:${hydra.runtime.choices},${threads}}"},
    "hydra/sweeper/optuna": {
        "n_jobs": "${trials_at_once:${hydra.runtime.choices},${threads}}",
        "direction": "${direction:${sweep.objective}}",
        "max_failure_rate": 1.0,  # a failed job does not end the search
    },
    "hydra/sweeper/sampler/tpe": {"seed": 0},  # so that sweep.resume=true chooses the same jobs again
}

# hydra/job_logging=stderr: log to stderr and to the run's folder. Other choices, such as none, are Hydra's.
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
    """Set this program's defaults for those of Hydra's plugins that are installed."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # Optuna uses it; it logs its imports
    Plugins.instance()  # registers the plugins' own defaults
    store = ConfigStore.instance()
    for name, values in DEFAULTS.items():
        group, _, choice = name.rpartition("/")
        with suppress(ConfigLoadError):
            node = store.load(f"{name}.yaml")
            store.store(choice, OmegaConf.merge(node.node, values), group, node.package, node.provider)


def jobs_at_once(threads: int | str) -> int:
    """Return how many jobs of some threads each fit on the cores of this machine, at least 1."""
    return max(1, cores() // threads_each(threads))


def threads_each(threads: int | str) -> int:
    """Return the threads of each job in a sweep: 1 for "auto", because other jobs run beside it."""
    return threads if isinstance(threads, int) and threads > 0 else 1


def batch_of_jobs(choices: DictConfig, threads: int | str) -> int | None:
    """Return how many jobs a launcher gets at once: all (None), unless it would start all of them together."""
    return jobs_at_once(threads) if choices.get(LAUNCHER) == "submitit_local" else None


def trials_at_once(choices: DictConfig, threads: int | str) -> int:
    """Return how many points a search chooses before it sees their results."""
    return 1 if choices.get(LAUNCHER) == "basic" else jobs_at_once(threads)


def direction(objective: str) -> str:
    """Return Optuna's direction for a metric; raise ConfigError if the metric is unknown."""
    from interp_lightning.config.check import check  # imports this module

    check("sweep.objective", objective)
    return "maximize" if parse(objective)[0].higher_is_better else "minimize"


def missing_package(group: str, choice: str) -> str | None:
    """Return the sentence for a launcher or sweeper whose package is not installed; None for other choices."""
    package = PACKAGES.get(choice)
    if package is None or group != f"hydra/{package.rsplit('-', 1)[1]}":
        return None
    return f"{group}={choice} is not installed: pip install {package}"


def check_srun(arguments: Sequence[str]) -> None:
    """Raise ConfigError if the arguments choose SLURM on a machine without it."""
    installed = "submitit_slurm.yaml" in ConfigStore.instance().list(LAUNCHER)
    if installed and f"{LAUNCHER}=submitit_slurm" in arguments and shutil.which("srun") is None:
        raise ConfigError(
            "hydra/launcher=submitit_slurm requires SLURM, and there is no srun here; use joblib or submitit_local"
        )


ConfigStore.instance().store("stderr", LOGGING, "hydra/job_logging", "hydra.job_logging")
# For ${jobs_at_once:…} and the like in configurations.
for resolver in (jobs_at_once, threads_each, batch_of_jobs, trials_at_once, direction):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
