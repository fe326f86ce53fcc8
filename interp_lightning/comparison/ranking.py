"""Rank the settings of a sweep: a row for each, over its seeds, and sentences about the best. Imports no torch."""

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp_lightning.comparison.collect import collect
from interp_lightning.comparison.groups import Comparison, Group, best_first, written
from interp_lightning.comparison.overview import conclusion, main_anchors, main_numbers, seconds
from interp_lightning.comparison.verdicts import verdicts
from interp_lightning.errors import ResultsError
from interp_lightning.metrics.catalogue import anchor, column_title, heading
from interp_lightning.runs.jobs import (
    FINISHED,
    Jobs,
    in_order,
    number_of,
    read_jobs,
    read_plan,
    shown,
    standing,
    swept,
    values,
)
from interp_lightning.system.table import Column, Row, Table
from interp_lightning.system.text import duration, shortened

OPEN = "–"  # the value of a setting that a search has not chosen yet
MARK = "*"  # of the best, where bold type is lost
LONGEST_LABEL = 200  # characters of a setting's name
MOST = 400  # of an error


@dataclass(frozen=True)
class Setting:
    """The jobs of a sweep that differ by their seed only.

    Args:
        label: such as "lam=0.1 penalty=mmd"; unique in a sweep.
        values: of the swept keys, as on the command line.
        jobs: by number.
        group: their results; None if no job has any.
    """

    label: str
    values: Sequence[str]
    jobs: Jobs
    group: Group | None

    @property
    def order(self) -> list[tuple[float, str]]:
        """A key that sorts settings by their values: numbers first, by size."""
        numbers = map(number_of, self.values)
        return [(number, "") if isinstance(number, float) else (math.inf, number) for number in numbers]

    def formatted(self, name: str) -> str:
        """Return a number's mean and deviation over seeds, for tables."""
        return "–" if self.group is None else self.group.formatted(name)

    @property
    def status(self) -> str:
        """The jobs' status, such as "3 finished, 1 failed"."""
        states = Counter(job["status"] for job in self.jobs.values())
        return ", ".join(state if len(self.jobs) == 1 else f"{number} {state}" for state, number in states.items())

    @property
    def seconds(self) -> float:
        """Mean time of training over seeds; NaN if no job has results."""
        return math.nan if self.group is None else seconds(self.group)


@dataclass(frozen=True)
class Ranking:
    """A sweep's settings, in the order of its jobs.

    Args:
        title: how far the sweep is.
        keys: short names of the swept keys, without the seed.
        settings: each with its jobs and their results.
        comparison: the results of all settings, labelled by the values of the swept keys.
        objective: the number that decides.
    """

    title: str
    keys: Sequence[str]
    settings: Sequence[Setting]
    comparison: Comparison
    objective: str

    @property
    def names(self) -> list[str]:
        """The numbers to show: the objective first."""
        return main_numbers(self.comparison, self.objective)

    def best_first(self) -> list[Setting]:
        """Return the settings that have results, the best mean first."""
        settings = {setting.label: setting for setting in self.settings}
        return [settings[group.label] for group in best_first(self.comparison.groups, self.objective)]


def rank(sweep: Path) -> Ranking:
    """Read the jobs of a sweep and rank their settings; jobs without results are listed."""
    jobs, plan = read_jobs(sweep), read_plan(sweep)
    names = swept(jobs, plan.swept)
    keys = [key for key in names if key != "seed"]
    together = _together(jobs, keys)
    labels = _labels([names[key] for key in keys], [*together])
    named = {
        sweep / number: labels[each]
        for each, members in together.items()
        for number, job in members.items()
        if job["status"] == FINISHED
    }
    members_of = {labels[each]: members for each, members in together.items()}
    comparison = _compared(named)
    known = [dataclasses.replace(group, failed=_failed(group, members_of[group.label])) for group in comparison.groups]
    comparison = dataclasses.replace(comparison, groups=known)
    groups = {group.label: group for group in known}
    settings = [Setting(labels[each], each, members, groups.get(labels[each])) for each, members in together.items()]
    return Ranking(standing(sweep), [names[key] for key in keys], settings, comparison, plan.objective)


def _together(jobs: Jobs, keys: Sequence[str]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the jobs of each setting by number, by the setting's values as its first job has them."""
    first: dict[tuple[float | str, ...], tuple[str, ...]] = {}
    together: dict[tuple[str, ...], dict[str, Any]] = {}
    for number, job in jobs.items():
        own = values(job)
        texts = tuple(own.get(key, OPEN) for key in keys)
        alike = tuple(map(written, keys, texts))
        together.setdefault(first.setdefault(alike, texts), {})[number] = job
    return together


def _failed(group: Group, jobs: Jobs) -> int:
    """Return how many seeds of a setting have left no results."""
    seeds = {number: written("seed", values(job).get("seed", "")) for number, job in jobs.items()}
    return len({*seeds.values()} - {seeds[result.run.name] for result in group.results})


def ranking_table(ranking: Ranking) -> Table:
    """Return the table of a ranking for readers, with a sentence about the best and the reasons of failures.

    The rows of real images and of faded pixels come last. The status has a column unless all jobs have finished.
    """
    leading = ranking.comparison.leading(ranking.objective)
    keys = [Column(key, "text") for key in ranking.keys] or [Column("setting", "text")]
    jobs = [job for setting in ranking.settings for job in setting.jobs.values()]
    status = [Column("status", "list")] if any(job["status"] != FINISHED for job in jobs) else []
    at = len([*keys, *status])  # the objective's column
    rows = []
    for setting in ranking.settings:
        cells = [*(map(shown, setting.values) if ranking.keys else ["all"]), *(setting.status for _ in status)]
        best = setting.group in leading
        numbers = [setting.formatted(name) for name in ranking.names]
        numbers[0] += f" {MARK}" * best
        time = "–" if math.isnan(setting.seconds) else duration(setting.seconds)
        kind: Any = "failed" if setting.group is None and "failed" in setting.status else ""
        rows.append(Row([*cells, *numbers, time], [at] if best else [], kind))
    rows += [
        Row([title, *[""] * (at - 1), *cells, ""], kind="anchor")
        for title, cells in main_anchors(ranking.comparison, ranking.objective).items()
    ]
    numbers_of = [*(Column(heading(name), "mean") for name in ranking.names), Column("training")]
    remarks = [*conclusions(ranking), *_errors(ranking)]
    return Table(ranking.title, [*keys, *status, *numbers_of], rows, remarks, keys=len(keys))


def ranking_numbers(ranking: Ranking) -> Table:
    """Return the table of a ranking for programs: values, jobs, means and standard deviations, unrounded.

    The last rows are sanity numbers: their status names them, and they have no values of the swept keys.
    """
    leading = ranking.comparison.leading(ranking.objective)
    titles = [*ranking.keys, "jobs", "status", "seeds", "best"]
    titles += [title for name in ranking.names for title in (name, f"{name}_sd")]
    titles.append("seconds")
    errors = any(job["error"] for setting in ranking.settings for job in setting.jobs.values())
    rows = []
    for setting in ranking.settings:
        group = setting.group
        cells: list[Any] = [*map(number_of, setting.values), " ".join(setting.jobs), setting.status]
        cells += [len(group.having(ranking.objective)) if group else 0, str(group in leading).lower()]
        for name in ranking.names:
            cells += [None, None] if group is None else [_known(group.mean(name)), _known(group.deviation(name))]
        cells.append(_known(setting.seconds))
        if errors:
            cells.append("; ".join(filter(None, (_on_one_line(job["error"]) for job in setting.jobs.values()))))
        rows.append(Row(cells))
    for title in main_anchors(ranking.comparison, ranking.objective):
        sanity = [_known(ranking.comparison.groups[0].sanity(anchor(name, title))) for name in ranking.names]
        cells = [
            *[None] * len(ranking.keys),
            None,
            title,
            0,
            "false",
            *(each for pair in sanity for each in (pair, None)),
        ]
        rows.append(Row([*cells, None, *([None] if errors else [])]))
    return Table("", [Column(title) for title in [*titles, *(["error"] if errors else [])]], rows)


def conclusions(ranking: Ranking) -> list[str]:
    """Return sentences: which setting is best, with its uncertainty, and what else limits the comparison."""
    comparison, objective = ranking.comparison, ranking.objective
    names = {
        group.label: f"{group.label} ({_named(result.run.name for result in group.having(objective))})"
        for group in comparison.groups
    }
    said = conclusion(comparison, objective, names, MARK)
    if not said and comparison.groups:
        name = column_title(objective)
        said = f"No run has a {name} ({objective}), so nothing is best; sweep.objective=… names another number."
    unmarked = verdicts(comparison, [objective]) if comparison.leading(objective) else []
    return [*([said] if said else []), *unmarked, *comparison.notes]


def _labels(names: Sequence[str], settings: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Name each setting, such as "lam=0.1 penalty=mmd"; round and shorten values if the names stay unique.

    Names that do not, and are too long to be shown whole, are numbered.
    """

    def labels(show: Callable[[str], str]) -> list[str]:
        pairs = [zip(names, map(show, each), strict=True) for each in settings]
        return [" ".join(map("=".join, each)) or "all" for each in pairs]

    names_of, whole = labels(shown), labels(str)
    if len({*names_of}) < len(names_of):
        numbered = [f"{name} ({number})" for number, name in enumerate(names_of, 1)]
        names_of = numbered if max(map(len, whole)) > LONGEST_LABEL else whole
    return dict(zip(settings, names_of, strict=True))


def _compared(named: Mapping[Path, str]) -> Comparison:
    """Return the results of runs, in groups by name; nothing is best among different data sets."""
    try:
        comparison = collect([*named], across_data=True, named=named)
    except ResultsError as error:
        return Comparison([], [str(error)] if named else [])
    if len({result.content["data"] for result in comparison.results}) == 1:
        return comparison
    return dataclasses.replace(comparison, alike=False, doubt="numbers of different data sets do not compare")


def _errors(ranking: Ranking) -> list[str]:
    """Return a sentence for each error, with the jobs that have it; summary.md and summary.csv have long ones whole."""
    jobs: dict[str, list[str]] = {}
    for setting in ranking.settings:
        for number, job in setting.jobs.items():
            if job["error"]:
                jobs.setdefault(_reason(job["error"]), []).append(number)
    return [f"{_named(numbers).capitalize()}: {shortened(reason, MOST)}" for reason, numbers in jobs.items()]


def _named(numbers: Iterable[str]) -> str:
    """Return jobs as "job 4" or "jobs 0, 1"."""
    ordered = sorted(numbers, key=in_order)
    return f"job{'s' * (len(ordered) > 1)} {', '.join(ordered)}"


def _reason(error: str) -> str:
    """Return an error on one line; of a traceback the last line."""
    lines = error.strip().splitlines() or [""]
    traced = lines[0].startswith("Traceback")
    return f"{lines[-1]} (its run.log has the traceback)" if traced else _on_one_line(error)


def _on_one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _known(value: float) -> float | None:
    """Return a number; None for NaN."""
    return value if value == value else None
