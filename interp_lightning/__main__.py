"""python -m interp_lightning: compose the configuration, run the experiment, report what went wrong in a sentence.

Nothing here imports torch, so that --help, --cfg and most errors answer at once.
"""

import logging
import os
import signal
import sys
import traceback
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from interp_lightning import folders, sweep
from interp_lightning.cli import CONF, FIRST, FULL_ERROR, INTERRUPTED, TRACEBACK, explain, fail
from interp_lightning.errors import ConfigError
from interp_lightning.settings import check_config

log = logging.getLogger(__name__)

folders.register()


class RunFailed(Exception):
    """A run of a sweep that has already said what went wrong, on the console and in its folder."""


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def task(cfg: DictConfig) -> None:
    """One job: what Hydra calls, once or for each point of a sweep."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        job(cfg, folder)
        return
    os.environ.pop(FULL_ERROR, None)  # set for Hydra by main(); the processes of further devices decide anew
    try:
        if sweep.resumes(cfg):
            raise ConfigError("`sweep.resume` (=true) is for sweeps; add -m, or go on with a run by ckpt_path=last")
        run(cfg)
    except Exception as error:
        if complain(error):
            folders.forget(folder)
        raise SystemExit(1) from None


def job(cfg: DictConfig, folder: Path) -> None:
    """One point of a sweep; what becomes of it is put down in its folder, and the others go on."""
    overrides = list(HydraConfig.get().overrides.task)
    begun = False
    try:
        begun = sweep.begin(folder, cfg, overrides)
        if not begun:
            log.info(f"Finished before: {folder}")
            return
        run(cfg)
        sweep.put_down(folder, overrides, sweep.FINISHED)
    except Exception as error:
        reason = complain(error) or traceback.format_exc()
        if begun:
            sweep.put_down(folder, overrides, sweep.FAILED, reason)
        raise RunFailed from error  # which Hydra notes, and goes on


def run(cfg: DictConfig) -> None:
    """Check the settings, which takes a moment, then import torch, which takes seconds, and run the experiment."""
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    check_config(config, HydraConfig.get().runtime.choices)
    from interp_lightning.experiment import run

    run(cfg)


def complain(error: Exception) -> str | None:
    """Log what went wrong, on the console and in the run's folder; the sentence if it is the user's to mend."""
    sentence = explain(error)
    log.error(sentence or "This run failed by an error of the program's own.", exc_info=TRACEBACK or sentence is None)
    return sentence


def main() -> None:
    """The command line."""
    if FIRST in os.environ:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first device's process hears Ctrl-C, and this one follows it
    if ("--cfg", "job") in pairwise(sys.argv) and "--resolve" not in sys.argv:
        sys.argv.append("--resolve")
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, is no reason for tracebacks
    os.environ[FULL_ERROR] = "1"  # lets exceptions through to here instead of printing them
    try:
        task()
    except KeyboardInterrupt:
        fail(INTERRUPTED, 130)
    except RunFailed:
        raise SystemExit(1) from None
    except Exception as error:
        sentence = explain(error)
        if TRACEBACK or sentence is None:
            raise
        fail(sentence)
    finally:
        for folder in folders.new:
            if (folder / folders.SWEEP).is_file():
                sweep.report(folder)
        folders.remove_empty()


if __name__ == "__main__":
    main()
