"""Resolve references in the configuration files, such as ${run_dir:…}. Imports no torch."""

import tempfile
from datetime import datetime
from functools import cache
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from interp_lightning.config.check import check_setting, written_out
from interp_lightning.errors import ConfigError
from interp_lightning.runs.folders import SUMMARY, TIME, check_links, new, new_folder, newest_run
from interp_lightning.system.processes import rank


def run_dir(outputs: str, name: str, ckpt_path: str | None) -> str:
    """Return a new folder named by the time, or with ckpt_path=last the folder of the newest run.

    OmegaConf caches the result in the configuration, so that each run has one folder.
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
    """Make the log folder of a further process of torchrun or SLURM. The run's folder belongs to the first process.

    Lightning passes the run's folder to the processes that it starts itself.
    """
    return tempfile.TemporaryDirectory(prefix="interp_lightning_")


def sweep_dir(outputs: str, name: str, resume: bool) -> str:
    """Return a new folder for a sweep, or with sweep.resume=true the folder of the newest sweep of this name."""
    runs = Path(written_out("outputs", outputs)) / name
    if resume is not True:
        return new_folder(runs)
    sweeps = sorted(path.parent for path in runs.glob(f"*/{SUMMARY}"))
    if not sweeps:
        raise ConfigError(f"`sweep.resume` (=true) finds no sweep in {runs}; remove it to start one")
    check_links(sweeps[-1])
    new.add(sweeps[-1].absolute())
    return str(sweeps[-1])


def run_name(name: str | None, choices: DictConfig) -> str:
    """Return the folder name of runs: the given name, the experiment, or the cell of the grid."""
    chosen = choices.get("experiment") or f"{choices.get('model')}_{choices.get('penalty')}"
    return check_setting("name", chosen if name is None else name)


def record_dir(*, _root_: DictConfig) -> str:
    """Return the subfolder for Hydra's record of the configuration. A resumed run keeps the first record."""
    begun = (Path(_root_.hydra.runtime.output_dir) / ".hydra").exists()
    return f".hydra/continued_{datetime.now():{TIME}}" if begun else ".hydra"


# Registered on import, also in the processes that run a sweep's jobs.
for resolver in (run_name, record_dir):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
# Cached in the configuration by the text of their arguments, so that a run or a sweep has one folder.
for cached in (run_dir, sweep_dir):
    OmegaConf.register_new_resolver(cached.__name__, cached, use_cache=True, replace=True)
