"""A sweep's jobs: what became of each, in its own folder and in a summary, and which are left to do. Without torch."""

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
from rich.console import Console
from rich.table import Table

from interp_lightning.errors import ConfigError, ResultsError
from interp_lightning.runs import folders
from interp_lightning.runs.folders import PLAN, SUMMARY
from interp_lightning.runs.relevance import Effect, changes
from interp_lightning.system.disk import regular, write_whole
from interp_lightning.system.plain import plain_copy
from interp_lightning.system.text import markdown, terminal

log = logging.getLogger(__name__)

LAUNCHER, SWEEPER = "hydra/launcher", "hydra/sweeper"  # groups of Hydra

JOB = "job.json"
NOT_STARTED, UNFINISHED, FINISHED, FAILED = "not started", "unfinished", "finished", "failed"
COLUMNS = ("job", "settings", "status", "error")


class Plan(Callback):
    """Record the jobs of a sweep before the first one starts, so that its summary knows those that never did."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        folders.new.add(folder.absolute())
        jobs = _planned(config)
        if jobs and not folders.is_run(folder):
            write_whole(folder / PLAN, json.dumps(jobs, indent=2) + "\n")
            _summarise(folder)


def begin(folder: Path, cfg: DictConfig, overrides: Sequence[str]) -> bool:
    """Begin a job of a sweep, or go on with it; False if it has finished before.

    A job goes on with sweep.resume=true, and where a cluster starts it once more in the folder of its first attempt.

    Args:
        folder: the job's own, in which Hydra has put down its configuration.
        cfg: its configuration; set to go on from the newest checkpoint if there is one.
        overrides: its settings, as on the command line.

    Raises:
        ConfigError: the folder is that of a job with other settings.
    """
    if resumes(cfg) or (folder / JOB).is_file():
        _check_same(folder, cfg)
        if _read(folder)["status"] == FINISHED:
            return False
        if folders.has_checkpoints(folder):
            cfg.ckpt_path = "last"
    folders.claim(folder, cfg.ckpt_path)
    put_down(folder, overrides, UNFINISHED)
    return True


def resumes(cfg: DictConfig) -> bool:
    """Whether sweep.resume is true, in a configuration that has not been checked yet."""
    settings = cfg.get("sweep")
    return isinstance(settings, DictConfig) and settings.get("resume") is True


def put_down(folder: Path, overrides: Sequence[str], status: str, error: str | None = None) -> None:
    """Write what became of a job into its folder, and the summary of its sweep anew."""
    content = {"overrides": _own(overrides), "status": status, "error": error}
    write_whole(folder / JOB, json.dumps(content, indent=2) + "\n")
    _summarise(folder.parent)


def score(folder: Path, objective: str) -> float | None:
    """The metric of a finished job that a search goes by; None if it has not been measured, or cannot be read."""
    from interp_lightning.runs.results import read_results

    try:
        return read_results(folder)["metrics"].get(objective)
    except ResultsError as error:
        log.warning(str(error))
        return None


def report(sweep: Path) -> bool:
    """Print what became of a sweep's jobs, and say whether all have finished."""
    rows = _summarise(sweep)  # anew: of jobs that end together, the last one need not have seen the others' ends
    finished = sum(row[2] == FINISHED for row in rows)
    table = Table(title=f"{finished} of {len(rows)} jobs have finished")
    for column in COLUMNS:
        table.add_column(column, overflow="fold", no_wrap=column in ("job", "status"))
    for row in rows:
        table.add_row(*map(terminal, row), style="red" if row[2] == FAILED else "")
    console = Console()
    console.print(table)
    console.print(terminal(f"Summary:  {sweep / SUMMARY}"), soft_wrap=True)
    console.print(terminal(f"Compare:  python -m interp_lightning compare {shlex.quote(str(sweep))}"), soft_wrap=True)
    return finished == len(rows)


def _summarise(sweep: Path) -> list[tuple[str, str, str, str]]:
    """Write a sweep's summary from what its jobs have put down, and return its rows."""
    rows = _rows(sweep)
    cells = [[markdown(text, quotes=True) for text in row] for row in rows]
    lines = [" | ".join(row) for row in (COLUMNS, ("---",) * len(COLUMNS), *cells)]
    write_whole(sweep / SUMMARY, "".join(f"| {line} |\n" for line in lines))
    return rows


def _rows(sweep: Path) -> list[tuple[str, str, str, str]]:
    """Each job's number, own settings, status and error, by number; also of jobs that have not started."""
    jobs = {path.parent.name: _read(path.parent) for path in sweep.glob(f"*/{JOB}")}
    waiting = _not_started(sweep, [job["overrides"] for job in jobs.values()])
    numbers = (str(number) for number in count() if str(number) not in jobs)
    jobs |= {next(numbers): {"overrides": own, "status": NOT_STARTED, "error": None} for own in waiting}
    shared = set.intersection(*(set(job["overrides"]) for job in jobs.values())) if len(jobs) > 1 else set()
    return [
        (
            name,
            " ".join(override for override in job["overrides"] if override not in shared),
            job["status"],
            " ".join((job["error"] or "").split()),
        )
        for name, job in sorted(jobs.items(), key=lambda each: (len(each[0]), each[0]))
    ]


def _planned(config: DictConfig) -> list[list[str]]:
    """The settings of each job, as far as they are known before: a search chooses them as it goes."""
    sweeper = config.hydra.sweeper
    if config.hydra.runtime.choices[SWEEPER] != "basic":
        return [[]] * int(sweeper.get("n_trials") or 0)
    swept = [f"{key}={value}" for key, value in (sweeper.params or {}).items()] + list(config.hydra.overrides.task)
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    batches = BasicSweeper.split_arguments(parser.parse_overrides(swept), None)
    return [_own(job) for batch in batches for job in batch]


def _not_started(sweep: Path, begun: list[list[str]]) -> list[list[str]]:
    """The settings of the jobs that were planned and have not started."""
    try:
        waiting = [[str(setting) for setting in job] for job in json.loads((sweep / PLAN).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, RecursionError):  # a sweep without a plan, or a damaged one
        return []
    for job in begun:
        if job in waiting:
            waiting.remove(job)
        elif [] in waiting:  # of a search
            waiting.remove([])
    return waiting


def _own(overrides: Sequence[str]) -> list[str]:
    """A job's settings without those of the sweep itself."""
    return [override for override in overrides if not override.startswith("sweep.")]


def _read(folder: Path) -> dict[str, Any]:
    """What a job has put down; of one that has put down nothing, or of a damaged file, that it has not finished."""
    try:
        job = json.loads(regular(folder / JOB).read_text(encoding="utf-8"))
        texts = [job["status"], job["error"] or "", *job["overrides"]]
        if isinstance(job["overrides"], list) and {*map(type, texts)} == {str}:
            return job
        reason = "it is another program's"
    except FileNotFoundError:
        reason = ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error) or type(error).__name__
    return {"overrides": [], "status": UNFINISHED, "error": reason and f"{JOB} could not be read ({reason})"}


def _check_same(folder: Path, cfg: DictConfig) -> None:
    """Refuse to resume a job in the folder of another one."""
    # References stay as they are written, because to resolve one acts.
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
    """The configuration that Hydra has recorded in a file, which is data: no aliases, which can multiply without end.

    Raises:
        ConfigError: it is none.
    """
    try:
        aliases = any(
            isinstance(event, yaml.AliasEvent) for event in yaml.parse(regular(path).read_text(encoding="utf-8"))
        )
        config = None if aliases else OmegaConf.load(path)
    except (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException):
        config = None
    if not isinstance(config, DictConfig):
        raise ConfigError(f"{path} is no configuration of a job; start another sweep without sweep.resume")
    return config
