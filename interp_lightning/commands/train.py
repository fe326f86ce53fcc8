"""python -m interp_lightning: compose the configuration, run the experiment, report what went wrong in a sentence.

Nothing here imports torch, so that --help, --cfg and most errors answer at once.
"""

import logging
import os
import signal
import sys
import traceback
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from interp_lightning.commands.explain import explain
from interp_lightning.commands.settings import FULL_ERROR, QUIET, TRACEBACK, check_current_folder, expand_home
from interp_lightning.config import launchers, resolvers  # noqa: F401, which registers what conf/ asks for
from interp_lightning.config.check import check_config, write_out_paths
from interp_lightning.config.files import CONF
from interp_lightning.errors import INTERRUPTED, ConfigError
from interp_lightning.runs import folders, sweeps
from interp_lightning.system.console import fail, guarded, set_up
from interp_lightning.system.disk import regular
from interp_lightning.system.processes import FIRST, RANKS, forget_leftovers, rank

log = logging.getLogger(__name__)

# Hydra's options that are followed by a value.
WITH_VALUE = ("--config-name", "-cn", "--config-path", "-cp", "--config-dir", "-cd", "--cfg", "-c", "--package", "-p")


FOLDERS = ("--config-dir", "-cd", "--config-path", "-cp")


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def task(cfg: DictConfig) -> float | None:
    """One job: what Hydra calls, once or for each point of a sweep, there perhaps in another process."""
    set_up()  # for a job in another process
    folder = Path(HydraConfig.get().runtime.output_dir)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return job(cfg, folder)
    try:
        if sweeps.resumes(cfg):
            raise ConfigError("`sweeps.resume` (=true) is for sweeps; add -m, or go on with a run by ckpt_path=last")
        run(cfg)
    except Exception as error:
        if complain(error):
            folders.forget(folder)
        raise SystemExit(1) from None
    return None


def job(cfg: DictConfig, folder: Path) -> float | None:
    """One point of a sweep; what becomes of it is put down in its folder, and the others go on.

    Returns:
        The objective of a search; None if the job has failed or has not measured it.
    """
    overrides = list(HydraConfig.get().overrides.task)
    begun = False
    try:
        begun = sweeps.begin(folder, cfg, overrides)
        if begun:
            run(cfg)
            sweeps.put_down(folder, overrides, sweeps.FINISHED)
        else:
            log.info(f"Finished before: {folder}")
        return sweeps.score(folder, cfg.sweep.objective)
    except Exception as error:
        reason = complain(error) or traceback.format_exc()
        if not begun:  # what is in the folder is another's
            raise
        sweeps.put_down(folder, overrides, sweeps.FAILED, reason)
        return None


def run(cfg: DictConfig) -> None:
    """Check the settings, which takes a moment, then import torch, which takes seconds, and run the experiment."""
    hydra_cfg = HydraConfig.get()
    write_out_paths(cfg, hydra_cfg.runtime.cwd if hydra_cfg.job.chdir else "")
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    check_config(config, hydra_cfg.runtime.choices)
    from interp_lightning.training.run import run

    first = FIRST not in os.environ and not rank()  # of the processes of several devices
    folder = Path(HydraConfig.get().runtime.output_dir)
    with folders.locked(folder) if first else nullcontext():
        if first:
            folders.claim(folder, cfg.ckpt_path)
        run(cfg)


def complain(error: Exception) -> str | None:
    """Log what went wrong, on the console and in the run's folder; the sentence if it is the user's to mend."""
    sentence = explain(error)
    said = sentence or "This run failed by an error of the program's own."
    log.error(said, exc_info=TRACEBACK or sentence is None)
    if log.disabled:  # by hydra/job_logging=disabled
        print(said, file=sys.stderr)
    return sentence


def options_first(arguments: list[str]) -> list[str]:
    """A command line as Hydra wants it, which has no options between the settings."""
    options: list[str] = []
    settings: list[str] = []
    takes_value = False
    for argument in arguments:
        is_option = takes_value or argument.startswith("-")
        written_out = expand_home(os.path.expanduser(argument) if takes_value else argument)
        (options if is_option else settings).append(written_out)
        takes_value = not takes_value and argument in WITH_VALUE
    return options + settings


def check_configs(arguments: list[str]) -> None:
    """Raise OSError if a yaml file in one of the user's folders is a FIFO or the like, for which Hydra would wait."""
    for name, value in [*pairwise(arguments), *(argument.split("=", 1) for argument in arguments if "=" in argument)]:
        if name in FOLDERS:
            for path in Path(value).rglob("*.yaml"):
                if path.exists() and not path.is_dir():
                    regular(path)


def end_early(number: int, frame: FrameType | None) -> None:
    """End on SIGTERM where there is nothing to save, and a sweep's processes with this one; a second ends at once."""
    signal.signal(number, signal.SIG_DFL)
    forget_all()
    fail(INTERRUPTED, 128 + number)


def check_jobs() -> None:
    """Raise ConfigError if a sweep had no jobs, of which each would have left a summary."""
    for folder in folders.new:
        if (folder / "multirun.yaml").is_file() and not (folder / folders.SUMMARY).is_file():
            raise ConfigError(
                "the sweep has no jobs, as a setting has no values, such as seed=range(0,0); give it some"
            )


def forget_all() -> None:
    """Leave no folders of runs that have not begun."""
    for folder in folders.new:
        folders.forget(folder)


def main() -> None:
    """Run the command line."""
    with guarded():
        _main()


def _main() -> None:
    folders.new.clear()  # a notebook may have run this before
    folders.made.clear()
    if FIRST in os.environ:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first device's process hears Ctrl-C, and this one follows it
    else:
        signal.signal(signal.SIGTERM, end_early)
    sys.argv[1:] = options_first(sys.argv[1:])
    if any(argument.startswith("--experimental-rerun") for argument in sys.argv):
        fail("--experimental-rerun is refused, as it would run what is in the file; give the settings instead")
    if ("--cfg", "job") in pairwise(sys.argv) and "--resolve" not in sys.argv:
        sys.argv.append("--resolve")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # or a device that ends has the others print C++ frames
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk, is no reason for tracebacks
    if left := forget_leftovers(RANKS):
        print(f"Ignored: {', '.join(left)}, as neither torchrun nor srun has started this process.", file=sys.stderr)
    launchers.set_up()
    if not TRACEBACK:
        os.environ[QUIET] = "1"
    os.environ[FULL_ERROR] = "1"  # lets exceptions through to here instead of printing them
    try:
        check_current_folder()
        check_configs(sys.argv)
        task()
        check_jobs()
    except KeyboardInterrupt:
        forget_all()
        fail(INTERRUPTED, 130)
    except BrokenPipeError:
        raise
    except Exception as error:
        forget_all()
        if TRACEBACK:
            raise
        reason = " ".join(str(error).split()) or "Hydra does not say why"
        fail(
            explain(error) or f"the settings cannot be read: {reason} ({type(error).__name__}; debug=true shows where)"
        )
    finally:
        finished = [sweeps.report(folder) for folder in folders.new if (folder / folders.SUMMARY).is_file()]
        folders.remove_empty()
    if not all(finished):
        raise SystemExit(1)
