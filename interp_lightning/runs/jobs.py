"""The jobs of a sweep on disk: what is recorded of each, the summary of all, and the time left. Imports no torch."""

import json
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from interp_lightning.errors import ConfigError
from interp_lightning.metrics.catalogue import HEADLINE, column_title, parse
from interp_lightning.runs.folders import PLAN, SUMMARY
from interp_lightning.system.disk import regular, write_whole
from interp_lightning.system.table import Column, Row, Table, as_markdown
from interp_lightning.system.text import counted, duration, shortened

log = logging.getLogger(__name__)

JOB = "job.json"  # a job's settings, status, error and times, in its folder
NOT_STARTED, UNFINISHED, FINISHED, FAILED = "not started", "unfinished", "finished", "failed"

DIGITS = 4  # of a value that a search has chosen
LONGEST = 8  # characters of a number that is shown whole …
MOST = 60  # … and of a text

Jobs = Mapping[str, Mapping[str, Any]]  # the content of each job's file, by the job's number


@dataclass(frozen=True)
class Planned:
    """A sweep before its first job starts: the content of its plan.json."""

    jobs: Sequence[Sequence[str]] = ()  # settings of each; empty for the jobs of a search, which chooses them later
    objective: str = HEADLINE
    swept: Sequence[str] = ()  # names of the settings that it varies
    started: float = 0.0  # time in seconds, of the last start if it was resumed


def record_job(folder: Path, overrides: Sequence[str], status: str, error: str | None = None) -> None:
    """Write a job's status to its folder, with the time that it took, and update the summary of its sweep."""
    now = time.time()
    started = now if status == UNFINISHED else read_job(folder)["started"]
    seconds = None if status == UNFINISHED or started is None else now - started
    content = {"overrides": own(overrides), "status": status, "error": error, "started": started, "seconds": seconds}
    write_whole(folder / JOB, json.dumps(content, indent=2) + "\n")
    try:
        summarise(folder.parent)
    except ConfigError as problem:  # the record is what counts
        log.warning(problem)


def record_end(folder: Path, overrides: Sequence[str], status: str, error: str | None = None) -> None:
    """Record how a job has ended. If that cannot be written, the other jobs of its sweep go on."""
    try:
        record_job(folder, overrides, status, error)
    except ConfigError as problem:
        log.warning(f"{problem}; sweep.resume=true would do this job again")


def begun(sweep: Path) -> bool:
    """Return True if a job of a sweep has been recorded."""
    return any(sweep.glob(f"*/{JOB}"))


def read_job(folder: Path) -> dict[str, Any]:
    """Read a job's settings, status, error and times; a job without a file, or with a damaged one, is unfinished."""
    try:
        job = json.loads(regular(folder / JOB).read_text(encoding="utf-8"))
        texts = [job["status"], job["error"] or "", *job["overrides"]]
        if isinstance(job["overrides"], list) and {*map(type, texts)} == {str}:
            return job | {key: _finite(job.get(key)) for key in ("started", "seconds")}
        reason = "it is from another program"
    except FileNotFoundError:
        reason = ""
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error) or type(error).__name__
    return _unknown([], UNFINISHED, reason and f"{JOB} could not be read ({reason})")


def read_jobs(sweep: Path) -> Jobs:
    """Return a sweep's jobs by number, sorted; include those that have not started."""
    jobs = {path.parent.name: read_job(path.parent) for path in sweep.glob(f"*/{JOB}")}
    waiting = _not_started(read_plan(sweep), [job["overrides"] for job in jobs.values()])
    numbers = (str(number) for number in count() if str(number) not in jobs)
    jobs |= {next(numbers): _unknown(settings, NOT_STARTED) for settings in waiting}
    return {number: jobs[number] for number in sorted(jobs, key=in_order)}


def in_order(number: str) -> tuple[int, str]:
    """Return a key that sorts jobs by number: 2 before 10."""
    return len(number), number


def read_plan(sweep: Path) -> Planned:
    """Read a sweep's plan; a sweep without one, or with a damaged one, has planned nothing."""
    try:
        plan = json.loads(regular(sweep / PLAN).read_text(encoding="utf-8"))
        jobs = [[str(setting) for setting in job] for job in plan["jobs"]]
        swept = [str(name) for name in plan.get("swept", [])]
        return Planned(jobs, str(plan["objective"]), swept, _finite(plan["started"]) or 0.0)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Planned()


def swept(jobs: Jobs, planned: Sequence[str] = ()) -> dict[str, str]:
    """Return the settings that a sweep varies, by dotted name, with a short name for each: its last part if unique.

    Args:
        jobs: all jobs; settings in which they differ are varied.
        planned: names of the plan, which knows them before two jobs have begun. A plan may be lost, or be of fewer
            jobs than the folder has, if the sweep was resumed.

    Example:
        >>> swept({"0": {"overrides": ["seed=0", "penalty.lam=1"]}, "1": {"overrides": ["seed=0", "penalty.lam=2"]}})
        {'penalty.lam': 'lam'}
    """
    known = [values(job) for job in jobs.values() if job["overrides"]]
    keys = dict.fromkeys(key for job in known for key in job)
    varied = [key for key in keys if key in planned or len({job.get(key) for job in known}) > 1]
    return dict(zip(varied, short(varied), strict=True))


def short(keys: Sequence[str]) -> list[str]:
    """Return the last part of each dotted name that is unique, and other names as they are.

    Example:
        >>> short(["penalty.lam", "model.rate", "data.rate"])
        ['lam', 'model.rate', 'data.rate']
    """
    last = [key.rpartition(".")[2] for key in keys]
    return [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]


def values(job: Mapping[str, Any]) -> dict[str, str]:
    """Return a job's settings by dotted name."""
    pairs = (override.lstrip("+").partition("=") for override in job["overrides"])
    return {key: value for key, _, value in pairs}


def shown(value: str) -> str:
    """Return a swept value for readers: long numbers are rounded, long texts shortened.

    Example:
        >>> shown("0.012345678901"), shown("0.001"), shown("wasserstein")
        ('0.01235', '0.001', 'wasserstein')
    """
    number = number_of(value)
    return f"{number:.{DIGITS}g}" if isinstance(number, float) and len(value) > LONGEST else shortened(value, MOST)


def number_of(value: str) -> float | str:
    """Return a value of a setting as a number if it is one."""
    try:
        return float(value)
    except ValueError:
        return value


def standing(sweep: Path, brief: bool = False) -> str:
    """Say how many of a sweep's jobs have ended, and how long the others will take.

    The time is an estimate from the finished jobs' times and the number that run at once.
    """
    jobs, plan = read_jobs(sweep), read_plan(sweep)
    states = [job["status"] for job in jobs.values()]
    said = f"{states.count(FINISHED)} of {len(jobs) if brief else counted(len(jobs), 'job')} finished"
    failed = f", {states.count(FAILED)} failed" if FAILED in states else ""
    left = _seconds_left(jobs, plan.started)
    return said + failed + (f", {duration(left)} left" if left else "")


def ending(folder: Path, score: float | None = None, objective: str = HEADLINE) -> str:
    """Say how far a sweep is after one of its jobs, and how this job has ended.

    Args:
        folder: the job's folder.
        score: the number that the sweep compares jobs by; None if it is missing.
        objective: the name of that number.
    """
    job, names = read_job(folder), swept(read_jobs(folder.parent), read_plan(folder.parent).swept)
    settings = " ".join(f"{names[key]}={shown(value)}" for key, value in values(job).items() if key in names)
    outcome = [] if job["status"] == FINISHED else [job["status"]]
    outcome += [] if score is None else [f"{column_title(objective)} {parse(objective)[0].format(score)}"]
    outcome += [] if job["seconds"] is None else [duration(job["seconds"])]
    return ": ".join(filter(None, [standing(folder.parent, brief=True), settings, ", ".join(outcome)]))


def jobs_table(sweep: Path, title: str) -> Table:
    """Return a table of a sweep's jobs, with their errors if there are any."""
    jobs = read_jobs(sweep)
    known = [set(job["overrides"]) for job in jobs.values() if job["overrides"]]
    shared = set.intersection(*known) if len(known) > 1 else set()
    columns = [Column("job", "word"), Column("settings", "text"), Column("status", "word")]
    errors = any(job["error"] for job in jobs.values())
    rows = []
    for number, job in jobs.items():
        settings = " ".join(override for override in job["overrides"] if override not in shared)
        cells = [number, settings, job["status"], *([" ".join((job["error"] or "").split())] if errors else [])]
        rows.append(Row(cells, kind="failed" if job["status"] == FAILED else ""))
    return Table(title, [*columns, *([Column("error", "text")] if errors else [])], rows)


def summarise(sweep: Path) -> None:
    """Write a sweep's summary while it runs: the status of each job."""
    write_whole(sweep / SUMMARY, as_markdown(jobs_table(sweep, standing(sweep)), quotes=True))


def _seconds_left(jobs: Jobs, since: float) -> float | None:
    """Estimate the time until all jobs have ended, when one has just ended; None if none has finished.

    Args:
        jobs: all jobs of the sweep.
        since: when this sweep was started or resumed. Jobs that started earlier and are unfinished run no more.
    """
    times = [job["seconds"] for job in jobs.values() if job["status"] == FINISHED and job["seconds"] is not None]
    if not times:
        return None
    mean, now = sum(times) / len(times), time.time()
    running = [job for job in jobs.values() if job["status"] == UNFINISHED and (job["started"] or 0.0) >= since]
    rest = [max(mean - (now - job["started"]), 0.0) for job in running]
    ended = sum(job["status"] in (FINISHED, FAILED) for job in jobs.values())
    rest += [mean] * (len(jobs) - ended - len(running))
    return max([sum(rest) / _at_once(jobs, since), *rest], default=0.0)


def _at_once(jobs: Jobs, since: float) -> int:
    """Return how many jobs ran in the middle of the last one that has finished, at least 1."""
    times = [
        (job["started"], math.inf if job["status"] == UNFINISHED else job["started"] + (job["seconds"] or 0.0))
        for job in jobs.values()
        if job["started"] is not None and job["started"] >= since
    ]
    ended = [(end, (start + end) / 2) for start, end in times if start < end < math.inf]
    return max(1, sum(start <= max(ended)[1] <= end for start, end in times)) if ended else 1


def _finite(value: Any) -> float | None:
    return value if isinstance(value, float) and math.isfinite(value) else None


def _unknown(overrides: Sequence[str], status: str, error: str | None = None) -> dict[str, Any]:
    return {"overrides": [*overrides], "status": status, "error": error, "started": None, "seconds": None}


def own(overrides: Sequence[str]) -> list[str]:
    """Return a job's settings without those of the sweep itself."""
    return [override for override in overrides if not override.startswith("sweep.")]


def _not_started(plan: Planned, begun: list[list[str]]) -> list[list[str]]:
    """Return the settings of the planned jobs that have not started."""
    waiting = [[*job] for job in plan.jobs]
    for job in begun:
        if job in waiting:
            waiting.remove(job)
        elif [] in waiting:  # a job of a search
            waiting.remove([])
    return waiting
