"""Register the resolvers of the configuration files, such as ${run_dir:…}, on import. Imports no torch."""

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
    """Make a new folder named by the time, or return that of the newest run for ckpt_path=last.

    OmegaConf caches the result with the configuration, so that each run has exactly one folder.

    Args:
        outputs: the folder of all runs.
        name: the folder in it, see `run_name`.
        ckpt_path: the checkpoint to resume from, "last", or None.
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
    """Return the log folder of a process of rank > 0 that torchrun or SLURM has started.

    The run's folder belongs to the process of rank 0. (Lightning passes it to the processes that it starts itself.)
    """
    return tempfile.TemporaryDirectory(prefix="interp_lightning_")


def sweep_dir(outputs: str, name: str, resume: bool) -> str:
    """Make a new folder for a sweep, or return that of the newest sweep of this name for sweep.resume=true."""
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
    """Return the folder of runs in `outputs`: the name if there is one, or experiment_task, or model_penalty."""
    parts = [choices.get("experiment") or f"{choices.get('model')}_{choices.get('penalty')}", choices.get("task")]
    chosen = "_".join(filter(None, parts))
    return check("name", chosen if name is None else name)


def record_dir(*, _root_: DictConfig) -> str:
    """Return where Hydra records the configuration in the run's folder; a resumed run keeps the first record."""
    begun = (Path(_root_.hydra.runtime.output_dir) / ".hydra").exists()
    return f".hydra/continued_{datetime.now():{TIME}}" if begun else ".hydra"


for resolver in (run_name, record_dir):
    OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)
# OmegaConf caches these with the configuration, by the text of their arguments.
for cached in (run_dir, sweep_dir):
    OmegaConf.register_new_resolver(cached.__name__, cached, use_cache=True, replace=True)
