"""The tables of the report: settings in columns, keys to sort by, and an explanation of each number."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from interp_lightning.comparison.groups import Comparison, Group, best_first
from interp_lightning.comparison.labels import varied
from interp_lightning.comparison.overview import main_anchors, main_numbers, seconds
from interp_lightning.comparison.tables import questions, runs_table
from interp_lightning.comparison.verdicts import verdicts
from interp_lightning.metrics.catalogue import heading, parse, title
from interp_lightning.runs.jobs import number_of, short, shown
from interp_lightning.system.text import counted, duration


class Heading(NamedTuple):
    """A column's title, layout and explanation, and the order of its first sorting.

    Args:
        title: the heading.
        kind: see `system.table.Column`.
        hint: an explanation.
        first: the order in which the best number, or the first text, comes first.
    """

    title: str
    kind: str
    hint: str = ""
    first: Literal["ascending", "descending"] = "ascending"


class Cell(NamedTuple):
    """A cell's text, and what lies behind it.

    Args:
        text: a mean, or a text.
        spread: the deviation, such as "± 0.1"; "" for none.
        key: a number or a text to sort by; "" sorts last in both orders.
        hint: an explanation; "" for none.
        best: mark the cell.
    """

    text: str
    spread: str = ""
    key: float | str = ""
    hint: str = ""
    best: bool = False


@dataclass(frozen=True)
class Sortable:
    """A table whose rows a reader sorts; its anchors stay where they are.

    Args:
        title: the heading.
        headings: of all columns.
        rows: cells by column.
        anchors: rows of numbers to compare with: a title in place of the key columns, and a text for each other one.
        remarks: paragraphs below.
        keys: the number of columns at the start that tell the rows apart.
    """

    title: str
    headings: Sequence[Heading]
    rows: Sequence[Sequence[Cell]]
    anchors: Sequence[tuple[str, Sequence[str]]] = ()
    remarks: Sequence[str] = ()
    keys: int = 1


def sortable_tables(comparison: Comparison) -> list[Sortable]:
    """Return a table for each question that metrics answer, see `tables.tables`."""
    keys, settings = _settings(comparison.groups)
    runs = Heading("runs", "number", "runs of a setting, each with another seed")
    found = []
    for question, names in questions(comparison).items():
        rows = [
            [*own, Cell(group.size, key=len(group.results)), *_numbers(comparison, group, names)]
            for group, own in zip(comparison.groups, settings, strict=True)
        ]
        beside = [(name, ["", *cells]) for name, cells in comparison.anchors(names).items()]
        headings = [*keys, runs, *map(_heading, names)]
        found.append(Sortable(question, headings, rows, beside, verdicts(comparison, names), len(keys)))
    return found


def sortable_overview(comparison: Comparison, objective: str) -> Sortable:
    """Return a table of the main numbers and the time of training, the best setting first.

    Args:
        comparison: the settings.
        objective: the number that decides, which at least one run has.
    """
    groups, names = best_first(comparison.groups, objective), main_numbers(comparison, objective)
    keys, settings = _settings(groups)
    rows = [
        [*own, *_numbers(comparison, group, names), _time(group)] for group, own in zip(groups, settings, strict=True)
    ]
    beside = [(name, [*cells, ""]) for name, cells in main_anchors(comparison, objective).items()]
    headings = [*keys, *map(_heading, names), Heading("training", "number", "mean time of training over seeds")]
    return Sortable("", headings, rows, beside, keys=len(keys))


def names(comparison: Comparison) -> dict[str, str]:
    """Return a name for each group as the tables' columns have it, such as "penalty=mmd lam=0.1", by its label."""
    keys, settings = _settings(comparison.groups)
    if [key.kind for key in keys] == ["list"]:
        return {group.label: group.label for group in comparison.groups}
    return {
        group.label: " ".join(f"{key.title}={cell.text}" for key, cell in zip(keys, own, strict=True))
        for group, own in zip(comparison.groups, settings, strict=True)
    }


def sortable_runs(comparison: Comparison) -> Sortable:
    """Return the table of the runs' origins."""
    table = runs_table(comparison)
    headings = [Heading(column.title, column.kind) for column in table.columns]
    rows = [[Cell(str(cell), key=_key(str(cell).replace(",", ""))) for cell in row.cells] for row in table.rows]
    return Sortable(table.title, headings, rows)


def _settings(groups: Sequence[Group]) -> tuple[list[Heading], list[list[Cell]]]:
    """Return the columns of the settings in which groups differ, or a column of labels, and each group's cells."""
    found = varied([group.results[0] for group in groups])
    if not found:
        return [Heading("setting", "list")], [[Cell(group.label, key=group.label)] for group in groups]
    columns = [[Cell(shown(value) or "–", key=_key(value)) for value in values] for values in found.values()]
    headings = [Heading(name, "text", key) for name, key in zip(short([*found]), found, strict=True)]
    return headings, [list(row) for row in zip(*columns, strict=True)]


def _heading(name: str) -> Heading:
    entry = parse(name)[0]
    return Heading(heading(name), "number", _meaning(name), "descending" if entry.higher_is_better else "ascending")


def _numbers(comparison: Comparison, group: Group, names: Sequence[str]) -> list[Cell]:
    return [_number(group, name, group in comparison.leading(name)) for name in names]


def _time(group: Group) -> Cell:
    time = seconds(group)
    return Cell("–") if math.isnan(time) else Cell(duration(time), key=time, hint=f"{time:.1f} s")


def _number(group: Group, name: str, best: bool) -> Cell:
    values = group.values(name)
    if not values:
        return Cell("–", hint=f"not measured. {_meaning(name)}")
    mean, _, deviation = group.formatted(name).partition(" ± ")
    exact = [f"mean {_exact(name, group.mean(name))}"]
    if deviation:
        exact.append(f"standard deviation {_exact(name, group.deviation(name))}")
    exact.append(f"{counted(len(values), 'seed')}: {', '.join(_exact(name, value) for value in values)}")
    hint = f"{'; '.join(exact)}. {_meaning(name)}"
    return Cell(mean, f"± {deviation}" if deviation else "", group.mean(name), hint, best)


def _meaning(name: str) -> str:
    entry = parse(name)[0]
    return f"{title(name)}: {entry.meaning}; {'higher' if entry.higher_is_better else 'lower'} is better"


def _exact(name: str, value: float) -> str:
    return f"{value:.3%}" if parse(name)[0].percent else f"{value:.6g}"


def _key(text: str) -> float | str:
    """Return a text as a number to sort by if it is one; NaN is none."""
    number = number_of(text)
    return text if isinstance(number, float) and not math.isfinite(number) else number
