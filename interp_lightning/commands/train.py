"""Train: `python -m interp_lightning [train]`, and `interp_lightning.train` from Python.

This is the only module that reads Hydra's global state. It imports no torch, so that --help, --cfg and most errors
take a moment.
"""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import hydra
from hydra.conf import HydraConf
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from interp_lightning.commands.arguments import check_files, prepare_arguments
from interp_lightning.commands.conclude import conclude
from interp_lightning.commands.explain import explain, in_sentences
from interp_lightning.commands.settings import (
    FULL_ERROR,
    QUIET,
    Overrides,
    check_current_folder,
    expand_home,
    hydra_initialised,
    wants_traceback,
)
from interp_lightning.config import launchers, resolvers  # noqa: F401, which registers the names that conf/ uses
from interp_lightning.config.check import check_config, write_out_paths
from interp_lightning.errors import INTERRUPTED, ConfigError, chain
from interp_lightning.parameters import checked
from interp_lightning.runs import folders, jobs, sweeps
from interp_lightning.system.conf import CONF
from interp_lightning.system.console import fail, guarded, set_up
from interp_lightning.system.processes import FIRST, RANKS, forget_leftovers, rank

if TYPE_CHECKING:
    from interp_lightning.runs.load import Run

log = logging.getLogger(__name__)

INTERRUPTIONS = tuple(128 + number for number in (signal.SIGINT, signal.SIGTERM))  # exit statuses


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def task(cfg: DictConfig) -> float | None:
    """Do one job. Hydra calls this once, or for each point of a sweep, perhaps in another process."""
    set_up()  # for a job in another process
    state = HydraConfig.get()
    folder = Path(state.runtime.output_dir)
    if state.mode == RunMode.MULTIRUN:
        return job(cfg, state, folder)
    try:
        if sweeps.resumes(cfg):
            raise ConfigError("`sweep.resume` (=true) is for sweeps; add -m, or resume a run by ckpt_path=last")
        run(cfg, state, folder)
    except Exception as error:
        if complain(error):
            folders.forget(folder)
        raise SystemExit(1) from None
    return None


def job(cfg: DictConfig, state: HydraConf, folder: Path) -> float | None:
    """Do one point of a sweep and record its outcome in its folder; an error does not stop the other points.

    Returns:
        The objective of a search; None if the job has failed or has not measured it.
    """
    overrides = list(state.overrides.task)
    begun = False
    try:
        begun = sweeps.begin(folder, cfg, overrides)
        if not begun:
            log.info(f"Finished before: {folder}")
            return sweeps.score(folder, cfg.sweep.objective)
        run(cfg, state, folder)
    except Exception as error:
        reason = complain(error) or traceback.format_exc()
        if not begun:  # the folder is another job's
            raise
        jobs.record_end(folder, overrides, jobs.FAILED, reason)
        log.info(jobs.ending(folder))
        return None
    found = sweeps.score(folder, cfg.sweep.objective)
    jobs.record_end(folder, overrides, jobs.FINISHED)
    log.info(jobs.ending(folder, found, cfg.sweep.objective))
    return found


def run(cfg: DictConfig, state: HydraConf, folder: Path) -> None:
    """Check the settings, which takes a moment, then import torch, which takes seconds, and train."""
    write_out_paths(cfg, state.runtime.cwd if state.job.chdir else "")
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    check_config(config, state.runtime.choices)

    from interp_lightning.training.run import train
    from interp_lightning.training.trainer import Job

    choices = state.runtime.choices
    place = None
    if state.mode == RunMode.MULTIRUN:
        objective = cfg.sweep.objective if choices[sweeps.SWEEPER] != "basic" else None
        alone, swept = choices[sweeps.LAUNCHER] == "basic", jobs.read_plan(folder.parent).swept
        place = Job(state.job.num, alone, objective, tuple(swept))
    first = FIRST not in os.environ and not rank()  # of the processes of several devices
    with folders.locked(folder) if first else nullcontext():
        if first:
            folders.claim(folder, cfg.ckpt_path)
        train(cfg, folder, {key: str(value) for key, value in choices.items() if "/" not in key}, place)


def complain(error: Exception) -> str | None:
    """Log an error on the console and in the run's folder; return its sentence if the user can correct it.

    Raises:
        KeyboardInterrupt: the error comes from Ctrl-C in the middle of a library's work, which its cleaning up hides.
    """
    if interruptions := [link for link in chain(error) if isinstance(link, KeyboardInterrupt)]:
        raise interruptions[0]
    sentence = explain(error)
    said = sentence or "This run failed because of a bug in this program."
    log.error(said, exc_info=wants_traceback() or sentence is None)
    if log.disabled:  # by hydra/job_logging=disabled
        print(said, file=sys.stderr)
    return sentence


def main() -> None:
    """Run the command line."""
    with guarded():
        _main()


def _main() -> None:
    _forget_folders()
    if FIRST in os.environ:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first device's process handles Ctrl-C; this one follows it
    else:
        signal.signal(signal.SIGTERM, end_early)
    prepare_arguments()
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # when a device ends, the others print C++ frames otherwise
    logging.raiseExceptions = False  # a log that cannot be written, as on a full disk, must not print tracebacks
    if stray := forget_leftovers(RANKS):
        print(f"Ignored: {', '.join(stray)}, as neither torchrun nor srun has started this process.", file=sys.stderr)
    launchers.set_up()
    if not wants_traceback():
        os.environ[QUIET] = "1"
    os.environ[FULL_ERROR] = "1"  # Hydra raises exceptions instead of printing them
    stopped = False  # by the user or a scheduler, who will not wait for pictures
    try:
        check_current_folder()
        check_files(sys.argv)
        launchers.check_srun(sys.argv)
        task()
        check_jobs()
    except KeyboardInterrupt:
        stopped = True
        forget_all()
        fail(INTERRUPTED, 130)
    except SystemExit as end:
        stopped = end.code in INTERRUPTIONS
        raise
    except BrokenPipeError:
        raise
    except Exception as error:
        forget_all()
        if wants_traceback():
            raise
        reason = " ".join(str(error).split()) or "Hydra gives no reason"
        fail(
            explain(error) or f"the settings cannot be read: {reason} ({type(error).__name__}; debug=true shows where)"
        )
    finally:
        finished = [concluded(folder, not stopped) for folder in folders.new if jobs.begun(folder)]
        folders.remove_empty()
    if not all(finished):
        raise SystemExit(1)


def end_early(number: int, frame: FrameType | None) -> None:
    """End on SIGTERM while there is nothing to save, with all processes of a sweep; a second one ends at once."""
    signal.signal(number, signal.SIG_DFL)
    forget_all()
    fail(INTERRUPTED, 128 + number)


def concluded(sweep: Path, pictures: bool) -> bool:
    """Say what a sweep has shown; an error costs what it concerns only. Return False if a job has failed."""
    try:
        return conclude(sweep, pictures)
    except BrokenPipeError:
        raise
    except Exception as error:
        complain(error)
        return False


def check_jobs() -> None:
    """Raise ConfigError if a sweep had no jobs."""
    for folder in folders.new:
        if (folder / "multirun.yaml").is_file() and not jobs.begun(folder):
            raise ConfigError(
                "the sweep has no jobs, as a setting has no values, such as seed=range(0,0); give it some"
            )


def forget_all() -> None:
    """Delete the folders of all runs that have not started."""
    for folder in folders.new:
        folders.forget(folder)


def _forget_folders() -> None:
    """Forget the folders of an earlier run in this process."""
    folders.new.clear()
    folders.made.clear()


@in_sentences
@checked
def train(overrides: Overrides = ()) -> "Run":
    """Train, evaluate and draw one run, as `python -m interp_lightning` does, and load it.

    Everything is written to a new folder in outputs/. This process's signal handlers, logging and warnings are as
    before afterwards. Ctrl-C saves a checkpoint and raises KeyboardInterrupt.

    Args:
        overrides: settings, as on the command line.

    Raises:
        ConfigError: a setting, the data or a checkpoint cannot work.

    Example:
        >>> import interp_lightning
        >>> run = interp_lightning.train(["model=acai", "penalty=mmd", "data=digits"])  # doctest: +SKIP
        >>> run  # doctest: +SKIP
        <Run acai × mmd on digits in outputs/acai_mmd/…: score_graph_constant=0.05, …>
        >>> run.results["metrics"]["probe_accuracy"]  # doctest: +SKIP
        0.9512
    """
    outcome: list[Path | Exception] = []

    def one_run(cfg: DictConfig) -> None:
        state = HydraConfig.get()
        folder = Path(state.runtime.output_dir)
        try:
            if cfg.trainer.get("strategy", "auto") != "auto":
                raise ConfigError("`trainer.strategy` must be auto in Python; train on several devices from a shell")
            run(cfg, state, folder)
            outcome.append(folder)
        except Exception as error:  # Hydra would print it
            outcome.append(error)
            if explain(error):
                folders.forget(folder)

    _forget_folders()
    with logging_restored(), hydra_initialised():
        try:
            hydra_app = GlobalHydra.instance().hydra
            assert hydra_app is not None
            settings = [*map(expand_home, overrides)]
            composed = hydra_app.compose_config("config", settings, RunMode.RUN, with_log_configuration=False)
            if composed.hydra.mode == RunMode.MULTIRUN:
                raise ConfigError("`hydra.mode` (=MULTIRUN) is for sweeps; run them from a shell by -m")
            hydra_app.run("config", one_run, settings)
        except SystemExit as end:
            if end.code == 128 + signal.SIGINT:
                raise KeyboardInterrupt from None
            raise
        finally:
            folders.remove_empty()
    if isinstance(outcome[0], Exception):
        raise outcome[0]

    from interp_lightning.runs.load import load_run

    return load_run(outcome[0], trust=True)


@contextmanager
def logging_restored() -> Iterator[None]:
    """Restore the root logger's handlers and level, which Hydra replaces, and close the run's own handlers."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            handler.close()
        root.handlers[:], root.level = handlers, level
