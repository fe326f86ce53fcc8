"""Groups of runs that differ by their seed only: their means and spreads, and which groups lead."""

import json
import math
import statistics
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from interp_lightning.metrics.catalogue import ANCHORS, anchor, column_title, conditions, idle, must_beat, parse
from interp_lightning.runs.relevance import Effect, relevant
from interp_lightning.system.text import counted

LAMBDAS = ("penalty.lam", "model.lam")
# Settings of which Lightning takes an integer for a number of batches, and a float for a share: 1 is not 1.0.
SHARES = (
    *(f"trainer.limit_{stage}_batches" for stage in ("train", "val", "test", "predict")),
    "trainer.overfit_batches",
    "trainer.val_check_interval",
)


@dataclass(frozen=True)
class Result:
    """One run's results.json."""

    run: Path
    content: dict[str, Any]
    written: float = 0.0  # time in seconds

    @property
    def cell(self) -> str:
        return f"{self.content['model']} × {self.content['penalty']}"

    @cached_property
    def settings(self) -> dict[str, float | str]:
        """Settings that change the weights, by dotted name: numbers as they are, everything else as text."""
        return {key: _setting(key, value) for key, value in relevant(self.content["config"], Effect.WEIGHTS).items()}

    def key(self, without: Collection[str] = ()) -> str:
        """Return a text that is the same for all runs with the same data, cell and settings.

        Args:
            without: settings to ignore, by dotted name.
        """
        settings = {key: value for key, value in self.settings.items() if key not in without}
        return json.dumps([self.content["data"], self.cell, settings], sort_keys=True)


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed only."""

    label: str  # unique in a comparison, and printable
    results: Sequence[Result]
    failed: int = 0  # seeds of a sweep that have left no results

    @property
    def cell(self) -> str:
        return self.results[0].cell

    @cached_property
    def counted(self) -> list[Result]:
        """The newest run of each seed: repeating a seed says nothing about the spread over seeds."""
        newest: dict[int, Result] = {}
        for result in sorted(self.results, key=lambda result: result.written):
            newest[result.content["seed"]] = result
        return [result for result in self.results if result is newest[result.content["seed"]]]

    @property
    def size(self) -> str:
        """The number of runs, with the number of seeds if that is smaller."""
        runs, seeds = len(self.results), len(self.counted)
        return str(runs) if runs == seeds else f"{counted(runs, 'run')}, {counted(seeds, 'seed')}"

    def setting(self, key: str) -> float | None:
        """Return a numeric setting such as penalty.lam; None if the group has no such number."""
        value = self.results[0].settings.get(key)
        return None if isinstance(value, str) else value

    def having(self, name: str) -> list[Result]:
        """Return the counted runs that have a metric."""
        return [result for result in self.counted if _numbers([result.content["metrics"].get(name)])]

    def values(self, name: str) -> list[float]:
        """Return a metric of each counted run that has it."""
        return [result.content["metrics"][name] for result in self.having(name)]

    def losses(self, name: str, noun: str = "") -> str:
        """Say how many seeds have failed or lack a metric, such as "2 of 3 seeds of lam=1 …"; "" if none.

        Args:
            name: the metric's.
            noun: what to call it; by default its title.
        """
        seeds = self.failed + len(self.counted)
        lost = seeds - len(self.having(name))
        verb = "has failed or has" if lost == 1 else "have failed or have"
        return (
            f"{lost} of {counted(seeds, 'seed')} of {self.label} {verb} no {noun or column_title(name)}" if lost else ""
        )

    def mean(self, name: str) -> float:
        """Return the mean of a metric over seeds; NaN if no run has it."""
        return statistics.mean(self.values(name)) if self.values(name) else math.nan

    def deviation(self, name: str) -> float:
        """Return the standard deviation of a metric over seeds (n − 1); NaN for fewer than two seeds."""
        return statistics.stdev(self.values(name)) if len(self.values(name)) > 1 else math.nan

    def formatted(self, name: str) -> str:
        """Return the mean of a metric for tables, with the standard deviation if there are several seeds."""
        entry, _ = parse(name)
        mean, deviation = self.mean(name), self.deviation(name)
        if math.isnan(deviation):
            return entry.format(mean)
        return f"{entry.format(mean)} ± {entry.format(deviation) if entry.percent else f'{deviation:.2g}'}"

    def sanity(self, name: str) -> float:
        """Return the mean of a sanity number; NaN if no run has it."""
        found = _numbers(result.content["sanity"].get(name) for result in self.counted)
        return statistics.mean(found) if found else math.nan


@dataclass(frozen=True)
class Comparison:
    """All groups, and what limits how far they can be compared.

    Args:
        groups: of runs.
        notes: sentences.
        alike: all runs were measured by the same protocol.
        doubt: why nothing is best in any number, as a clause; "" if something may be.
    """

    groups: Sequence[Group]
    notes: Sequence[str]
    alike: bool = True
    doubt: str = ""

    @property
    def caveats(self) -> list[str]:
        """The notes, and a sentence on marking if nothing is marked."""
        return [*self.notes, *([f"Nothing is marked best, because {self.doubt}."] if self.doubt else [])]

    @property
    def results(self) -> list[Result]:
        return [result for group in self.groups for result in group.results]

    def columns(self, names: Sequence[str]) -> list[str]:
        """Return those metrics that at least one run has."""
        return [name for name in names if any(group.values(name) for group in self.groups)]

    def having(self, name: str) -> list[Group]:
        """Return the groups that have a metric."""
        return [group for group in self.groups if group.values(name)]

    def anchors(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Return numbers to compare with, a row by title: real images, pixels faded over, noise."""
        if len({result.content["data"] for result in self.results}) != 1:
            return {}  # they differ between data sets
        rows = {
            title: [parse(name)[0].format(self.groups[0].sanity(anchor(name, title))) for name in names]
            for title in ANCHORS
        }
        return {title: cells for title, cells in rows.items() if any(cell != "–" for cell in cells)}

    def leading(self, name: str) -> list[Group]:
        """Return the groups to mark as best in a metric: the best mean, and means within its spread over seeds.

        Return an empty list if that would mark all groups, if the spread is unknown, if the runs were measured by
        different protocols, if fading pixels over is best, or if the best mean lacks seeds that have failed.
        """
        if idle(name):
            return []
        deserving = [group for group in self.having(name) if self.deserves(group, name)]
        if not deserving or not self.alike or math.isnan(self.pooled_deviation(name)):
            return []
        best = best_of(deserving, name)
        if best.losses(name):
            return []
        leading = [group for group in deserving if self._is_level(group, best, name)]
        return leading if len(leading) < len(self.having(name)) else []

    def deserves(self, group: Group, name: str) -> bool:
        """Return True if a group beats every sanity number that it must to be marked as best in a metric."""
        return all(self.beats(group, each) for each in conditions(name))

    def beats(self, group: Group, name: str) -> bool:
        """Return True if a group beats a metric's sanity number by more than its spread, or there is no such number."""
        rival = must_beat(name)
        if rival is None:
            return True
        lead = _sign(name) * (group.sanity(rival) - group.mean(name))
        spread = self.spread(group, name)
        return lead > (0.0 if math.isnan(spread) else spread)

    def spread(self, group: Group, name: str) -> float:
        """Return the standard deviation over seeds; for a group with one seed, that of all other groups together."""
        own = group.deviation(name)
        return self.pooled_deviation(name) if math.isnan(own) else own

    def pooled_deviation(self, name: str) -> float:
        """Return the standard deviation over seeds of all groups together; NaN if each has one seed."""
        groups = [group for group in self.groups if len(group.values(name)) > 1]
        freedom = sum(len(group.values(name)) - 1 for group in groups)
        squares = sum((len(group.values(name)) - 1) * group.deviation(name) ** 2 for group in groups)
        return math.sqrt(squares / freedom) if groups else math.nan

    def _is_level(self, group: Group, best: Group, name: str) -> bool:
        """Return True if a group's mean is within the larger spread of the best one's."""
        return abs(group.mean(name) - best.mean(name)) <= max(self.spread(group, name), self.spread(best, name))


def best_of(groups: Sequence[Group], name: str) -> Group:
    """Return the group with the best mean of a metric."""
    return min(groups, key=lambda group: _sign(name) * group.mean(name))


def best_first(groups: Sequence[Group], name: str) -> list[Group]:
    """Sort groups by their means of a metric, the best first; those without it come last."""
    return sorted(groups, key=lambda group: (not group.values(name), _sign(name) * group.mean(name)))


def _sign(name: str) -> int:
    """Return 1 if a lower metric is better, −1 if a higher one is."""
    return -1 if parse(name)[0].higher_is_better else 1


def _numbers(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def written(key: str, text: str) -> float | str:
    """Return a setting of the command line to compare: numbers that are written in two ways are the same.

    Example:
        >>> written("penalty.lam", "1e-1"), written("penalty.lam", "1.0"), written("trainer.limit_val_batches", "1.0")
        (0.1, 1, '1.0')
    """
    for kind in (int, float):
        with suppress(ValueError):
            return _setting(key, kind(text))
    return text


def _setting(key: str, value: Any) -> float | str:
    """Return a setting to compare and to show; 1 and 1.0 are the same, except in `SHARES`."""
    if key in SHARES and isinstance(value, float):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return int(value) if value == int(value) else value
