"""Resolvers for the configuration files, such as ${run_dir:…}. Imports no torch."""

import tempfile
from datetime import datetime
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from interp_lightning.config.check import check, written_out
from interp_lightning.errors import ConfigError
from interp_lightning.runs.find import newest_run
from interp_lightning.runs.folders import SUMMARY, TIME, check_links, new, new_folder
from interp_lightning.system.processes import rank


def run_dir(outputs: str, name: str, ckpt_path: str | None) -> str:
    """Return a new folder named by the time, or with ckpt_path=last that of the newest run.

    OmegaConf keeps the answer as long as the configuration that asks, so that each run has one folder of its own.
    """
    runs = Path(written_out("outputs", outputs)) / name
    if ckpt_path == "last" and (run := newest_run(runs)):
        check_links(run)
        return str(run)
    if rank():
        return _scratch().name
    return new_folder(runs)


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    """Where a device's process that torchrun or SLURM has started has its log; the run's folder is the first one's.

    (Lightning tells those that it starts itself where the run's folder is.)
    """
    return tempfile.TemporaryDirectory(prefix="interp_lightning_")


def sweep_dir(outputs: str, name: str, resume: bool) -> str:
    """A new folder for a sweep, or with sweep.resume=true that of the newest one of this name."""
    runs = Path(written_out("outputs", outputs)) / name
    if resume is not True:
        return new_folder(runs)
    sweeps = sorted(path.parent for path in runs.glob(f"*/{SUMMARY}"))
    if not sweeps:
        raise ConfigError(f"`sweep.resume` (=true) finds no sweep in {runs}; leave it out to start one")
    check_links(sweeps[-1])
    new.add(sweeps[-1].absolute())
    return str(sweeps[-1])


def run_name(name: str | None, choices: DictConfig) -> str:
    """What runs are filed under: the name given, the experiment, or the cell of the grid."""
    chosen = choices.get("experiment") or f"{choices.get('model')}_{choices.get('penalty')}"
    return check("name", chosen if name is None else name)


def record_dir(*, _root_: DictConfig) -> str:
    """Where in the run's folder Hydra keeps the configuration; a continuation leaves the first one alone."""
    begun = (Path(_root_.hydra.runtime.output_dir) / ".hydra").exists()
    return f".hydra/continued_{datetime.now():{TIME}}" if begun else ".hydra"


# Configurations ask: ${run_dir:…}. Registered by importing this, as in the processes that do a sweep's jobs.
for resolver in (run_name, record_dir):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
# Cached in the configuration by the text of their arguments: a run has one folder, and so have a sweep's jobs.
for cached in (run_dir, sweep_dir):
    OmegaConf.register_new_resolver(cached.__name__, cached, use_cache=True, replace=True)
