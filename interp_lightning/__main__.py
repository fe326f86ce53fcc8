"""python -m interp_lightning: compose the configuration, run the experiment, report what went wrong in a sentence.

Nothing here imports torch, so that --help and --cfg answer at once.
"""

import logging
import os
import shutil
import sys
from contextlib import suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from interp_lightning.cli import CONF, FULL_ERROR, TRACEBACK, explain, fail
from interp_lightning.settings import check_config

log = logging.getLogger(__name__)

new: set[Path] = set()  # folders that this process has chosen to write to


@cache  # asked for many times over, and the answer is where this run writes
def run_dir(outputs: str, name: str, ckpt_path: str | None) -> str:
    """A new folder named by the time, or with ckpt_path=last the folder of the run to go on with."""
    runs = Path(outputs) / name
    if ckpt_path == "last":
        checkpoints = sorted(runs.glob("**/checkpoints/*.ckpt"), key=lambda file: file.stat().st_mtime)
        if checkpoints:
            return str(checkpoints[-1].parent.parent)
    stem = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = [stem, *(f"{stem}-{number}" for number in range(2, 1000))]
    folder = next(runs / name for name in names if not (runs / name).exists())
    new.add(folder.absolute())
    return str(folder)


def run_name(name: str | None, choices: DictConfig) -> str:
    """What runs are filed under: the name given, the experiment, or the cell of the grid."""
    return name or choices.get("experiment") or f"{choices.get('model')}_{choices.get('penalty')}"


def record_dir(ckpt_path: str | None) -> str:
    """Where in the run's folder Hydra keeps the configuration; a continuation leaves the first one alone."""
    return f".hydra/continued_{datetime.now():%Y-%m-%d_%H-%M-%S}" if ckpt_path == "last" else ".hydra"


OmegaConf.register_new_resolver("run_dir", run_dir, replace=True)
OmegaConf.register_new_resolver("run_name", run_name, replace=True)
OmegaConf.register_new_resolver("record_dir", record_dir, replace=True)


class RunFailed(Exception):
    """A run of a sweep that has already said what went wrong, on the console and in its run.log."""


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def task(cfg: DictConfig) -> None:
    """One job: what Hydra calls, once or for each point of a sweep."""
    sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    if not sweep:
        os.environ.pop(FULL_ERROR, None)  # set for Hydra by main(); the processes of further devices decide anew
    try:
        # Without torch, which takes seconds to import.
        config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
        check_config(config, HydraConfig.get().runtime.choices)
        from interp_lightning.experiment import run

        run(cfg)
    except Exception as error:
        # Hydra shows only a sweep's first failure, so each job writes its own into its folder.
        sentence = explain(error)
        log.error(
            sentence or "This run failed by an error of the program's own.", exc_info=TRACEBACK or sentence is None
        )
        if sweep:
            raise RunFailed from error  # which Hydra notes, and goes on
        if sentence is not None:
            forget(Path(HydraConfig.get().runtime.output_dir))
        raise SystemExit(1) from None


def forget(folder: Path) -> None:
    """Remove the folder of a run that was refused before it began, so that only runs are among the runs."""
    if folder in new and {path.name for path in folder.iterdir()} <= {".hydra", "run.log"}:
        shutil.rmtree(folder)
        for above in (folder.parent, folder.parent.parent):
            with suppress(OSError):  # it holds other runs
                above.rmdir()


def main() -> None:
    """The command line."""
    if "--cfg" in sys.argv and "--resolve" not in sys.argv:
        sys.argv.append("--resolve")
    os.environ[FULL_ERROR] = "1"  # lets exceptions through to here instead of printing them
    try:
        task()
    except KeyboardInterrupt:
        fail("Interrupted; a run that had begun to train keeps its checkpoint of the last epoch.", 130)
    except RunFailed:
        raise SystemExit(1) from None
    except Exception as error:
        sentence = explain(error)
        if TRACEBACK or sentence is None:
            raise
        fail(sentence)


if __name__ == "__main__":
    main()
