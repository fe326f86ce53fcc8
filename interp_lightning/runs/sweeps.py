"""The jobs of a sweep: start or skip each, record its status, and summarise all. Imports no torch."""

import json
import logging
import shlex
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, cast

import yaml
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from interp_lightning.errors import ConfigError, ResultsError
from interp_lightning.runs import folders
from interp_lightning.runs.find import has_checkpoints, is_run
from interp_lightning.runs.folders import PLAN, SUMMARY
from interp_lightning.runs.relevance import Effect, changes
from interp_lightning.system.disk import regular, write_whole
from interp_lightning.system.plain import plain_copy
from interp_lightning.system.table import Column, Row, Table, as_markdown, console, print_table
from interp_lightning.system.text import counted, terminal

log = logging.getLogger(__name__)

LAUNCHER, SWEEPER = "hydra/launcher", "hydra/sweeper"  # Hydra's groups

JOB = "job.json"  # a job's settings, status and error, in its folder
NOT_STARTED, UNFINISHED, FINISHED, FAILED = "not started", "unfinished", "finished", "failed"
COLUMNS = [Column("job", "word"), Column("settings", "text"), Column("status", "word"), Column("error", "text")]


class Plan(Callback):
    """Record the jobs of a sweep before the first one starts, so that the summary lists jobs that never started."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        folders.new.add(folder.absolute())
        jobs = _planned(config)
        if jobs and not is_run(folder):
            write_whole(folder / PLAN, json.dumps(jobs, indent=2) + "\n")
            _summarise(folder)


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


def record_job(folder: Path, overrides: Sequence[str], status: str, error: str | None = None) -> None:
    """Write a job's status to its folder, and update the summary of its sweep."""
    content = {"overrides": _own(overrides), "status": status, "error": error}
    write_whole(folder / JOB, json.dumps(content, indent=2) + "\n")
    _summarise(folder.parent)


def score(folder: Path, objective: str) -> float | None:
    """Return the metric of a finished job that a search optimises; None if it is missing or cannot be read."""
    from interp_lightning.runs.results import read_results

    try:
        return read_results(folder)["metrics"].get(objective)
    except ResultsError as error:
        log.warning(str(error))
        return None


def print_summary(sweep: Path) -> bool:
    """Print the status of a sweep's jobs; return True if all have finished."""
    table = _summarise(sweep)  # again: of jobs that end together, the last one may not have seen the others' end
    print_table(table)
    out = console()
    out.print(terminal(f"Summary:  {sweep / SUMMARY}"), soft_wrap=True)
    out.print(terminal(f"Compare:  python -m interp_lightning compare {shlex.quote(str(sweep))}"), soft_wrap=True)
    return all(row.cells[2] == FINISHED for row in table.rows)


def read_job(folder: Path) -> dict[str, Any]:
    """Read a job's settings, status and error; a job without a file, or with a damaged one, is unfinished."""
    try:
        job = json.loads(regular(folder / JOB).read_text(encoding="utf-8"))
        texts = [job["status"], job["error"] or "", *job["overrides"]]
        if isinstance(job["overrides"], list) and {*map(type, texts)} == {str}:
            return job
        reason = "it is from another program"
    except FileNotFoundError:
        reason = ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error) or type(error).__name__
    return {"overrides": [], "status": UNFINISHED, "error": reason and f"{JOB} could not be read ({reason})"}


def _summarise(sweep: Path) -> Table:
    """Write a sweep's summary from the records of its jobs, and return it."""
    rows = _rows(sweep)
    finished = sum(row.cells[2] == FINISHED for row in rows)
    table = Table(f"{finished} of {counted(len(rows), 'job')} finished", COLUMNS, rows)
    write_whole(sweep / SUMMARY, as_markdown(table, quotes=True))
    return table


def _rows(sweep: Path) -> list[Row]:
    """Return each job's number, settings, status and error, by number; include jobs that have not started."""
    jobs = {path.parent.name: read_job(path.parent) for path in sweep.glob(f"*/{JOB}")}
    waiting = _not_started(sweep, [job["overrides"] for job in jobs.values()])
    numbers = (str(number) for number in count() if str(number) not in jobs)
    jobs |= {next(numbers): {"overrides": own, "status": NOT_STARTED, "error": None} for own in waiting}
    shared = set.intersection(*(set(job["overrides"]) for job in jobs.values())) if len(jobs) > 1 else set()
    rows = []
    for number, job in sorted(jobs.items(), key=lambda each: (len(each[0]), each[0])):
        settings = " ".join(override for override in job["overrides"] if override not in shared)
        error = " ".join((job["error"] or "").split())
        failed = job["status"] == FAILED
        rows.append(Row([number, settings, job["status"], error], kind="failed" if failed else ""))
    return rows


def _planned(config: DictConfig) -> list[list[str]]:
    """Return the settings of each job; empty lists for the jobs of a search, which chooses them later."""
    sweeper = config.hydra.sweeper
    if config.hydra.runtime.choices[SWEEPER] != "basic":
        return [[]] * int(sweeper.get("n_trials") or 0)
    swept = [f"{key}={value}" for key, value in (sweeper.params or {}).items()] + list(config.hydra.overrides.task)
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    batches = BasicSweeper.split_arguments(parser.parse_overrides(swept), None)
    return [_own(job) for batch in batches for job in batch]


def _not_started(sweep: Path, begun: list[list[str]]) -> list[list[str]]:
    """Return the settings of the planned jobs that have not started."""
    try:
        waiting = [[str(setting) for setting in job] for job in json.loads((sweep / PLAN).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, RecursionError):  # a sweep without a plan, or a damaged one
        return []
    for job in begun:
        if job in waiting:
            waiting.remove(job)
        elif [] in waiting:  # a job of a search
            waiting.remove([])
    return waiting


def _own(overrides: Sequence[str]) -> list[str]:
    """Return a job's settings without those of the sweep itself."""
    return [override for override in overrides if not override.startswith("sweep.")]


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
