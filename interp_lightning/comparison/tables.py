"""Tables of a comparison: one content, shown on the terminal, in Markdown and in HTML; and a CSV file of all runs."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp_lightning.comparison.groups import Comparison, Group, Result, best_of
from interp_lightning.metrics.catalogue import COLUMNS, FADED, IMAGES, MUST_BEAT, conditions, must_beat, parse
from interp_lightning.system.disk import replace
from interp_lightning.system.text import csv_cell, markdown

REAL = dict.fromkeys(IMAGES, "real")
NOISE = dict.fromkeys(IMAGES, "noise")
WHOSE = {
    "midpoints_lerp": "midpoints",
    "midpoints_slerp": "midpoints on the great circle",
    "lerp": "paths",
    "slerp": "paths on the great circle",
    "reconstructions": "reconstructions",
    "prior": "samples of the prior",
}
WHOM = {"midpoints_blend": "fading pixels over", "blend": "fading pixels over", "noise": "noise"}


@dataclass(frozen=True)
class Row:
    """A group of runs, or what to compare groups with."""

    title: str
    runs: str
    cells: Sequence[str]
    best: Sequence[bool]
    sanity: bool = False


@dataclass(frozen=True)
class Table:
    """The metrics that answer one question, and what must be said about them."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[Row]
    said: Sequence[str]


def tables(comparison: Comparison) -> list[Table]:
    """All tables; a cell is marked best as `Comparison.leading` says."""
    found = []
    for heading, every in COLUMNS.items():
        if names := comparison.columns(every):
            leading = [comparison.leading(name) for name in names]
            rows = [
                Row(group.label, group.size, [cell(group, n) for n in names], [group in best for best in leading])
                for group in comparison.groups
            ]
            rows += [Row(what, "", cells, [False] * len(names), True) for what, cells in _sanity(comparison, names)]
            found.append(Table(heading, [head(name) for name in names], rows, said(comparison, names)))
    return found


def cell(group: Group, name: str) -> str:
    """A group's number as a table shows it: mean ± standard deviation over seeds."""
    entry, _ = parse(name)
    mean, deviation = group.mean(name), group.deviation(name)
    if math.isnan(deviation):
        return entry.format(mean)
    return f"{entry.format(mean)} ± {entry.format(deviation) if entry.percent else f'{deviation:.2g}'}"


def head(name: str) -> str:
    """A column's heading: the metric, and which way is better."""
    return f"{_column(name)} {'↑' if parse(name)[0].higher_is_better else '↓'}"


def _column(name: str) -> str:
    entry, kind = parse(name)
    return f"{'midpoint ' if kind.startswith('midpoints') else ''}{entry.title}"


def _sanity(comparison: Comparison, names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Rows to compare with, by what was measured: real images, pixels that fade into one another, noise."""
    if len({result.content["data"] for result in comparison.results}) > 1:
        return []  # they differ from data set to data set
    rows = []
    for what, instead in (("real images", REAL), ("pixels faded over", FADED), ("noise", NOISE)):
        cells = []
        for name in names:
            entry, kind = parse(name)
            cells.append(entry.format(comparison.groups[0].sanity(f"{name.removesuffix(kind)}{instead.get(kind)}")))
        if any(value != "–" for value in cells):
            rows.append((what, cells))
    return rows


def said(comparison: Comparison, names: Sequence[str]) -> list[str]:
    """What must be said about the columns of a table, so that no number is taken for more than it is worth."""
    lost: dict[tuple[str, str], list[tuple[str, str]]] = {}  # (condition, column) by who loses against whom
    unmarked: dict[tuple[str, str], list[str]] = {}
    level, mixed = [], []
    for name in comparison.columns(names):
        having = comparison.having(name)
        deserving = [group for group in having if comparison.deserves(group, name)]
        if not deserving:
            all_fail = [each for each in conditions(name) if not any(comparison.beats(g, each) for g in having)]
            if all_fail:
                lost.setdefault(_duel(all_fail[0]), []).append((all_fail[0], _column(name)))
            else:
                mixed.append(_column(name))
        elif len(having) > 1 and comparison.alike and not math.isnan(comparison.pooled_deviation(name)):
            best = best_of(having, name)
            if best not in deserving:
                failed = next(each for each in conditions(name) if not comparison.beats(best, each))
                unmarked.setdefault((best.label, _loses(best, [failed])), []).append(_column(name))
            if not comparison.leading(name):
                level.append(_column(name))
    sentences = []
    for (whose, whom), pairs in lost.items():
        numbers = _numbers_of(comparison.groups[0], [condition for condition, _ in pairs])
        columns = ", ".join(column for _, column in pairs)
        sentences.append(f"No run's {whose} beat {whom} ({numbers}), so nothing is marked best in {columns}.")
    sentences += [
        f"{label} has the best number in {', '.join(columns)}, but is not marked: its {failed}."
        for (label, failed), columns in unmarked.items()
    ]
    if mixed:
        sentences.append(f"No run beats all that it must in {', '.join(mixed)}, so nothing is marked best there.")
    if level:
        sentences.append(
            f"All are within the spread over seeds in {', '.join(level)}, so nothing is marked best there."
        )
    return sentences


def _loses(group: Group, names: Sequence[str]) -> str:
    """What a group does not beat in some metrics of the same kind of image or path."""
    whose, whom = _duel(names[0])
    return f"{whose} do not beat {whom} ({_numbers_of(group, names)})"


def _numbers_of(group: Group, names: Sequence[str]) -> str:
    """The sanity numbers that some metrics must beat."""
    found = {parse(name)[0]: group.sanity(must_beat(name) or "") for name in names}
    return ", ".join(f"{entry.title} {entry.format(value)}" for entry, value in found.items())


def _duel(name: str) -> tuple[str, str]:
    """Who must beat whom in a metric, in words."""
    kind = parse(name)[1]
    return WHOSE[kind], WHOM[MUST_BEAT[kind]]


def records(comparison: Comparison) -> list[dict[str, Any]]:
    """Return a row for each run: where it is, its settings that differ, all its metrics, and whether it counts."""
    facts, settings, metrics = [], [], []
    for group in comparison.groups:
        for result in group.results:
            content = result.content
            facts.append(
                {"run": str(result.run), "group": group.label, "counts": result in group.counted}
                | {key: content[key] for key in ("model", "penalty", "data", "seed", "config_hash", "git_commit")}
                | {"images_seen": content["budget"]["images"], "seconds": content["budget"]["seconds"]}
            )
            settings.append(result.settings)
            metrics.append(content["metrics"])
    columns = list(dict.fromkeys(key for rows in (facts, settings, metrics) for row in rows for key in row))
    rows = [  # a setting replaces no metric, and neither replaces a fact
        was_set | measured | fact for measured, was_set, fact in zip(metrics, settings, facts, strict=True)
    ]
    return [{column: row.get(column) for column in columns} for row in rows]


def write_csv(comparison: Comparison, path: Path) -> None:
    """Write the records of a comparison, one row for each run."""
    rows = records(comparison)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(map(csv_cell, rows[0]))
    writer.writerows([map(csv_cell, row.values()) for row in rows])
    replace(path, text.getvalue())


def as_markdown(comparison: Comparison) -> str:
    """All tables, the leading groups of each column in bold."""
    lines = []
    for table in tables(comparison):
        lines += [f"### {table.heading}", "", f"| | runs | {' | '.join(map(markdown, table.columns))} |"]
        lines.append("|---|" + "---:|" * (1 + len(table.columns)))
        for row in table.rows:
            title = f"*{markdown(row.title)}*" if row.sanity else markdown(row.title)
            cells = [f"**{markdown(c)}**" if best else markdown(c) for c, best in zip(row.cells, row.best, strict=True)]
            lines.append(f"| {title} | {row.runs} | {' | '.join(cells)} |")
        lines += ["", *(f"> {markdown(sentence)}\n" for sentence in table.said)]
    return "\n".join([*lines, *(f"> {markdown(note, quotes=True)}\n" for note in comparison.notes)])


def shortcomings(run: Path, results: dict[str, Any]) -> list[str]:
    """What of a single run is worth no more than the sanity numbers, a sentence for each kind of image or path."""
    group = Group("", [Result(run, results)])
    comparison = Comparison([group], [])
    lost: dict[tuple[str, str], list[str]] = {}
    for name in comparison.columns([name for every in COLUMNS.values() for name in every]):
        if not comparison.beats(group, name):
            lost.setdefault(_duel(name), []).append(name)
    return [f"The {_loses(group, names)}." for names in lost.values()]
