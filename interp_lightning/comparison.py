"""Trained runs side by side: groups of runs that differ by their seed only, and their numbers."""

import csv
import io
import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp_lightning.errors import ResultsError
from interp_lightning.folders import replace
from interp_lightning.metrics.catalogue import COLUMNS, IMAGES, PATHS, parse
from interp_lightning.relevance import Effect, flat, relevant
from interp_lightning.runs import read_results

LAMBDAS = ("penalty.lam", "model.lam")


@dataclass(frozen=True)
class Result:
    """One run's results.json."""

    run: Path
    content: dict[str, Any]

    @property
    def cell(self) -> str:
        return f"{self.content['model']} × {self.content['penalty']}"

    @property
    def settings(self) -> dict[str, Any]:
        """What makes this another model than others, by dotted name."""
        return {key: str(value) for key, value in relevant(self.content["config"], Effect.WEIGHTS).items()}


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed only."""

    label: str
    results: Sequence[Result]

    @property
    def cell(self) -> str:
        return self.results[0].cell

    def setting(self, key: str) -> float | None:
        """A number among the settings, such as penalty.lam; None if there is none."""
        value = flat(self.results[0].content["config"]).get(key)
        return float(value) if isinstance(value, (int, float)) else None

    def values(self, name: str) -> list[float]:
        """A metric of all runs that have it."""
        found = [result.content["metrics"].get(name) for result in self.results]
        return [value for value in found if value is not None and math.isfinite(value)]

    def mean(self, name: str) -> float:
        """Mean of a metric over seeds; NaN where no run has it."""
        return statistics.mean(self.values(name)) if self.values(name) else math.nan

    def deviation(self, name: str) -> float:
        """Standard deviation over seeds (n − 1); NaN for fewer than two runs."""
        return statistics.stdev(self.values(name)) if len(self.values(name)) > 1 else math.nan


@dataclass(frozen=True)
class Comparison:
    """All groups, and what must be said about comparing them."""

    groups: Sequence[Group]
    notes: Sequence[str]

    @property
    def results(self) -> list[Result]:
        return [result for group in self.groups for result in group.results]

    def columns(self, names: Sequence[str]) -> list[str]:
        """Those metrics that any run has."""
        return [name for name in names if any(group.values(name) for group in self.groups)]

    def leading(self, name: str) -> list[Group]:
        """The group with the best mean, and those less than a standard deviation behind; none if all there are lead."""
        having = [group for group in self.groups if group.values(name)]
        sign = -1 if parse(name)[0].higher_is_better else 1
        best = min(having, key=lambda group: sign * group.mean(name), default=None)
        leading = [group for group in having if best and _level(group, best, name)]
        return leading if len(leading) < len(having) else []


def _level(group: Group, best: Group, name: str) -> bool:
    """Whether a group's mean is as good as the best one's, within the deviation of either over seeds."""
    deviations = [each.deviation(name) for each in (group, best) if not math.isnan(each.deviation(name))]
    return abs(group.mean(name) - best.mean(name)) <= max(deviations, default=0.0)


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
            results.append(Result(run, read_results(run)))
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
    if len({(result.content["data"], str(result.content["protocol"])) for result in results}) > len(used):
        notes.append(
            "Not all runs were measured alike (protocol in results.json), so small differences mean nothing; "
            "python -m interp_lightning.evaluate run=… with one metrics=… for all would mend that."
        )
    return Comparison(_groups(results), notes)


def _groups(results: Sequence[Result]) -> list[Group]:
    together: dict[str, list[Result]] = {}
    for result in results:
        together.setdefault(f"{result.content['data']} {result.cell} {result.settings}", []).append(result)
    several_data = len({result.content["data"] for result in results}) > 1
    groups = []
    for members in together.values():
        first = members[0]
        alike = [result for result in results if result.cell == first.cell]
        names = []
        for key, value in first.settings.items():
            others = alike if key.startswith(("model.", "penalty.")) else results
            known = key.endswith("_target_") or (several_data and key.startswith("data"))
            if not known and any(other.settings.get(key, value) != value for other in others):
                names.append(f"{key}={value}")
        on = f" on {first.content['data']}" if several_data else ""
        groups.append(Group(", ".join([first.cell + on, *names]), members))
    return groups


def cell(group: Group, name: str) -> str:
    """A group's number as a table shows it: mean ± standard deviation over seeds."""
    entry, _ = parse(name)
    mean, deviation = group.mean(name), group.deviation(name)
    if math.isnan(deviation):
        return entry.format(mean)
    return f"{entry.format(mean)} ± {entry.format(deviation) if entry.percent else f'{deviation:.2g}'}"


def anchors(comparison: Comparison, names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Rows to compare with, by what was measured: real images, pixels that fade into one another, noise."""
    if len({result.content["data"] for result in comparison.results}) > 1:
        return []  # they differ from data set to data set
    sanity = comparison.results[0].content["sanity"]
    rows = []
    for what, instead in (
        ("real images", dict.fromkeys(IMAGES, "real")),
        (
            "pixels faded over",
            {"midpoints_lerp": "midpoints_blend", "midpoints_slerp": "midpoints_blend"} | dict.fromkeys(PATHS, "blend"),
        ),
        ("noise", dict.fromkeys(IMAGES, "noise")),
    ):
        cells = []
        for name in names:
            entry, kind = parse(name)
            cells.append(entry.format(sanity.get(f"{name.removesuffix(kind)}{instead.get(kind)}")))
        if any(value != "–" for value in cells):
            rows.append((what, cells))
    return rows


def write_csv(comparison: Comparison, path: Path) -> None:
    """One row for each run: where it is, what was set, all its numbers."""
    rows = []
    for group in comparison.groups:
        for result in group.results:
            content = result.content
            facts = {key: content[key] for key in ("model", "penalty", "data", "seed", "config_hash", "git_commit")}
            rows.append(
                {"run": str(result.run), "group": group.label, **facts, **result.settings}
                | {"images_seen": content["budget"]["images"], "seconds": content["budget"]["seconds"]}
                | content["metrics"]
            )
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    replace(path, text.getvalue())


def markdown(comparison: Comparison) -> str:
    """All tables, the leading groups of each column in bold."""
    lines = []
    for heading, names in COLUMNS.items():
        if columns := comparison.columns(names):
            lines += [f"### {heading}", "", f"| | runs | {' | '.join(head(name) for name in columns)} |"]
            lines.append("|---|" + "---:|" * (1 + len(columns)))
            for group in comparison.groups:
                cells = [f"**{cell(group, n)}**" if group in comparison.leading(n) else cell(group, n) for n in columns]
                lines.append(f"| {group.label} | {len(group.results)} | {' | '.join(cells)} |")
            lines += [f"| *{title}* | | {' | '.join(cells)} |" for title, cells in anchors(comparison, columns)]
            lines.append("")
    return "\n".join([*lines, *(f"> {note}" for note in comparison.notes)])


def head(name: str) -> str:
    """A column's heading: the metric, and which way is better."""
    entry, kind = parse(name)
    return (
        f"{'midpoint ' if kind.startswith('midpoints') else ''}{entry.title} {'↑' if entry.higher_is_better else '↓'}"
    )
