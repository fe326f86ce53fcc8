"""Trained runs side by side: groups of runs that differ by their seed only, their numbers, and which of them lead."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from interp_lightning.errors import ResultsError
from interp_lightning.metrics.catalogue import conditions, must_beat, parse
from interp_lightning.runs.relevance import Effect, relevant
from interp_lightning.runs.results import read_results
from interp_lightning.system.text import printable, shortened

LAMBDAS = ("penalty.lam", "model.lam")

MOST_OF_A_VALUE, MOST_OF_A_LABEL = 40, 160  # characters
UNFINISHED = 0.9  # a run that has seen fewer images than this share of another's is no run of the same training


@dataclass(frozen=True)
class Result:
    """One run's results.json."""

    run: Path
    content: dict[str, Any]
    written: float = 0.0  # when, in seconds

    @property
    def cell(self) -> str:
        return f"{self.content['model']} × {self.content['penalty']}"

    @cached_property
    def settings(self) -> dict[str, float | str]:
        """What makes this another model than others, by dotted name: numbers, and everything else as text."""
        return {key: _setting(value) for key, value in relevant(self.content["config"], Effect.WEIGHTS).items()}


def _setting(value: Any) -> float | str:
    """A setting's value for comparing and showing; 1 and 1.0 are the same."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return int(value) if value == int(value) else value


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed only."""

    label: str  # unique among the groups of a comparison, and printable
    results: Sequence[Result]

    @property
    def cell(self) -> str:
        return self.results[0].cell

    @cached_property
    def counted(self) -> list[Result]:
        """One run of each seed, the newest: the same seed again tells nothing of the spread over seeds."""
        newest: dict[int, Result] = {}
        for result in sorted(self.results, key=lambda result: result.written):
            newest[result.content["seed"]] = result
        return [result for result in self.results if result is newest[result.content["seed"]]]

    @property
    def size(self) -> str:
        """The number of runs; of runs and of seeds if these are fewer."""
        runs, seeds = len(self.results), len(self.counted)
        return str(runs) if runs == seeds else f"{runs} runs, {seeds} seed{'s' * (seeds != 1)}"

    def setting(self, key: str) -> float | None:
        """A number among the settings, such as penalty.lam; None if there is none."""
        value = self.results[0].settings.get(key)
        return None if isinstance(value, str) else value

    def values(self, name: str) -> list[float]:
        """A metric of all runs that count and have it."""
        return _numbers(result.content["metrics"].get(name) for result in self.counted)

    def mean(self, name: str) -> float:
        """Mean of a metric over seeds; NaN where no run has it."""
        return statistics.mean(self.values(name)) if self.values(name) else math.nan

    def deviation(self, name: str) -> float:
        """Standard deviation over seeds (n − 1); NaN for fewer than two seeds."""
        return statistics.stdev(self.values(name)) if len(self.values(name)) > 1 else math.nan

    def sanity(self, name: str) -> float:
        """Mean of a sanity number; NaN where no run has it."""
        found = _numbers(result.content["sanity"].get(name) for result in self.counted)
        return statistics.mean(found) if found else math.nan


@dataclass(frozen=True)
class Comparison:
    """All groups, and what must be said about comparing them."""

    groups: Sequence[Group]
    notes: Sequence[str]
    alike: bool = True  # whether all were measured by the same protocol

    @property
    def results(self) -> list[Result]:
        return [result for group in self.groups for result in group.results]

    def columns(self, names: Sequence[str]) -> list[str]:
        """Those metrics that any run has."""
        return [name for name in names if any(group.values(name) for group in self.groups)]

    def having(self, name: str) -> list[Group]:
        """The groups that have a metric."""
        return [group for group in self.groups if group.values(name)]

    def leading(self, name: str) -> list[Group]:
        """The groups to mark as best in a metric: the best mean, and those within the spread over seeds of it.

        None if all that have the metric would be marked, if nothing is known about the spread, or if the runs were
        measured by different protocols.
        """
        deserving = [group for group in self.having(name) if self.deserves(group, name)]
        if not deserving or not self.alike or math.isnan(self.pooled_deviation(name)):
            return []
        best = best_of(deserving, name)
        leading = [group for group in deserving if self._level(group, best, name)]
        return leading if len(leading) < len(self.having(name)) else []

    def deserves(self, group: Group, name: str) -> bool:
        """Whether a group may be marked as best in a metric: if it beats what everything must beat."""
        return all(self.beats(group, each) for each in conditions(name))

    def beats(self, group: Group, name: str) -> bool:
        """Whether a group beats the sanity number of a metric by more than its spread; true where there is none."""
        anchor = must_beat(name)
        if anchor is None:
            return True
        lead = _sign(name) * (group.sanity(anchor) - group.mean(name))
        spread = self.spread(group, name)
        return lead > (0.0 if math.isnan(spread) else spread)

    def spread(self, group: Group, name: str) -> float:
        """Standard deviation over seeds; of a group with one seed, what the others have; NaN if they have none."""
        own = group.deviation(name)
        return self.pooled_deviation(name) if math.isnan(own) else own

    def pooled_deviation(self, name: str) -> float:
        """Standard deviation over seeds, of all groups together; NaN if none has two seeds."""
        groups = [group for group in self.groups if len(group.values(name)) > 1]
        freedom = sum(len(group.values(name)) - 1 for group in groups)
        squares = sum((len(group.values(name)) - 1) * group.deviation(name) ** 2 for group in groups)
        return math.sqrt(squares / freedom) if groups else math.nan

    def _level(self, group: Group, best: Group, name: str) -> bool:
        """Whether a group's mean is as good as the best one's, within the spread of either."""
        return abs(group.mean(name) - best.mean(name)) <= max(self.spread(group, name), self.spread(best, name))


def best_of(groups: Sequence[Group], name: str) -> Group:
    """The group with the best mean of a metric."""
    return min(groups, key=lambda group: _sign(name) * group.mean(name))


def _sign(name: str) -> int:
    """1 if lower is better, −1 if higher is."""
    return -1 if parse(name)[0].higher_is_better else 1


def _numbers(values: Any) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def collect(runs: Sequence[Path], data: str | None = None, across_data: bool = False) -> Comparison:
    """Read the results of runs and group them; runs without readable results are left out, and that is noted.

    Args:
        runs: folders of runs.
        data: only those on this data set.
        across_data: rank runs of different data sets together.

    Raises:
        ResultsError: there is nothing to compare, or the runs are of different data sets.
    """
    notes, results = [], []
    for run in runs:
        try:
            results.append(Result(run, read_results(run), (run / "results.json").stat().st_mtime))
        except ResultsError as error:
            notes.append(f"Left out: {error}.")
    there = sorted({result.content["data"] for result in results})
    if data is not None:
        results = [result for result in results if result.content["data"] == data]
    if not results:
        reason = f"none of {len(runs)} runs has results" + (
            f" on data={data}, but on {', '.join(there)}" if there else ""
        )
        raise ResultsError(" ".join([f"there is nothing to compare: {reason}.", *notes[:3]]))
    used = Counter(result.content["data"] for result in results)
    if len(used) > 1 and not across_data:
        counts = ", ".join(f"{number} on {name}" for name, number in used.items())
        raise ResultsError(
            f"numbers of different data sets do not rank together ({counts}); choose by data={min(used)}, or insist by "
            "across_data=true"
        )
    protocols = {(r.content["data"], json.dumps(r.content["protocol"], sort_keys=True)) for r in results}
    alike = len(protocols) == len(used)
    groups = _groups(results)
    if not alike:
        notes.append(
            "Not all runs were measured alike (protocol in results.json), so small differences mean nothing, and "
            "nothing is marked best; python -m interp_lightning evaluate run=… with one metrics=… for all mends that."
        )
    return Comparison(groups, [*notes, *_doubts(groups)], alike)


def _doubts(groups: Sequence[Group]) -> list[str]:
    """What must be said about how far groups of runs can be compared."""
    notes = []
    for group in groups:
        seeds = Counter(result.content["seed"] for result in group.results)
        if again := [seed for seed, runs in seeds.items() if runs > 1]:
            notes.append(
                f"{group.label}: {group.size}. Of the runs with seed {', '.join(map(str, again))} only the newest "
                "counts, as the same seed again tells nothing of the spread over seeds."
            )
        images = [result.content["budget"]["images"] or 0 for result in group.counted]
        if min(images) < UNFINISHED * max(images):
            notes.append(
                f"{group.label}: its runs have seen from {min(images):,} to {max(images):,} images, so they differ by "
                "more than their seed; resume those that were interrupted, or compare the others only."
            )
    single = [len(group.counted) == 1 for group in groups]
    if len(groups) > 1 and all(single):
        notes.append(
            "Each setting has one seed, which tells nothing of the spread over seeds, so nothing is marked best; train "
            "each with several, such as -m seed=0,1,2."
        )
    elif len(groups) > 1 and any(single):
        notes.append("Settings with one seed are judged by the spread of the others, which is weak evidence.")
    return notes


def _groups(results: Sequence[Result]) -> list[Group]:
    together: dict[str, list[Result]] = {}
    for result in results:
        together.setdefault(_key(result), []).append(result)
    members = list(together.values())
    return [Group(*each) for each in zip(labels([each[0] for each in members]), members, strict=True)]


def lines(comparison: Comparison, *keys: str) -> dict[str, list[Group]]:
    """Groups that differ by nothing but some settings, sorted by these, by the line's unique label."""
    together: dict[str, list[Group]] = {}
    for group in comparison.groups:
        together.setdefault(_key(group.results[0], keys), []).append(group)
    order = [sorted(line, key=lambda group: [group.setting(key) or 0.0 for key in keys]) for line in together.values()]
    return dict(zip(labels([line[0].results[0] for line in order], keys), order, strict=True))


def _key(result: Result, without: Sequence[str] = ()) -> str:
    """The same text for all runs of a group, or of a line of groups."""
    settings = {key: value for key, value in result.settings.items() if key not in without}
    return json.dumps([result.content["data"], result.cell, settings], sort_keys=True)


def labels(members: Sequence[Result], without: Sequence[str] = ()) -> list[str]:
    """A label for each of several runs, none twice: model × penalty, and the settings by which it differs.

    Args:
        members: a run of each group.
        without: settings that are told elsewhere, such as on an axis.
    """
    several_data = len({result.content["data"] for result in members}) > 1
    found = []
    for result in members:
        alike = [other for other in members if other.cell == result.cell]
        named = []
        for key, value in result.settings.items():
            others = alike if key.startswith(("model.", "penalty.")) else members
            known = key in without or key.endswith("_target_") or (several_data and key.startswith("data"))
            if not known and any(other.settings.get(key, value) != value for other in others):
                named.append(_told(members, result, key))
        on = f" on {result.content['data']}" if several_data else ""
        found.append(_label(", ".join([result.cell + on, *named])))
    for label in [label for label, times in Counter(found).items() if times > 1]:
        same = [at for at, other in enumerate(found) if other == label]
        keys = list(dict.fromkeys(key for at in same for key in members[at].settings if key not in without))
        differ = [key for key in keys if len({members[at].settings.get(key) for at in same}) > 1]
        for at in same:
            told = [_told([members[other] for other in same], members[at], key) for key in differ]
            found[at] = _label(", ".join([label, *filter(None, told)]))
    return _numbered(found)


def _told(members: Sequence[Result], result: Result, key: str) -> str:
    """A setting in words; the class of a group by the name of its file if that tells the members apart."""
    group, _, last = key.rpartition(".")
    if last == "_target_":
        choices = [str(each.content["config"]["choices"].get(group)) for each in members]
        classes = [each.settings.get(key) for each in members]
        if len(set(choices)) == len(set(zip(choices, classes, strict=True))):
            return f"{group}={result.content['config']['choices'].get(group)}"
    return f"{key}={shortened(str(result.settings[key]), MOST_OF_A_VALUE)}" if key in result.settings else ""


def _label(text: str) -> str:
    return shortened(printable(text), MOST_OF_A_LABEL)


def _numbered(texts: Sequence[str]) -> list[str]:
    """The texts, each that was there before with a number."""
    unique: list[str] = []
    for text in texts:
        number, one = 1, text
        while one in unique:
            number += 1
            one = f"{text} ({number})"
        unique.append(one)
    return unique
