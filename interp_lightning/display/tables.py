"""Print a run's numbers in the terminal."""

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from interp_lightning.metrics.catalogue import CONSTANT, IMAGES, METRICS, SANITY, WAYS, Entry, must_beat, parse, title
from interp_lightning.runs.record import run_title
from interp_lightning.system.table import Column, Row, Table, as_markdown, console, print_table
from interp_lightning.system.text import terminal


def print_results(results: dict[str, Any], folder: Path, remarks: Sequence[str] = ()) -> None:
    """Print a run's numbers, remarks on them, and the location of all files."""
    for table in _tables(results):
        print_table(table)
    out = console()
    for remark in remarks:
        out.print(terminal(remark))
    for name, path in (
        ("Pictures", folder / "figures"),
        ("Numbers", folder / "results.json"),
        ("Resume", folder / "checkpoints" / "last.ckpt"),
    ):
        if path.exists():  # trainer.fast_dev_run leaves no checkpoint
            out.print(terminal(f"{name + ':':10}{path}"), soft_wrap=True)
    if (folder / "tensorboard").is_dir():
        command = f"tensorboard --logdir {shlex.quote(str(folder.parent))}"
        out.print(terminal(f"{'Curves:':10}{command}"), soft_wrap=True)


def results_markdown(results: dict[str, Any]) -> str:
    """Return a run's numbers in Markdown, each with its baseline and its meaning."""
    columns = [Column("number", "text"), Column("value"), Column("baseline"), Column("meaning", "text")]
    rows = []
    for name, value in results["metrics"].items():
        entry, _ = parse(name)
        baseline = entry.format(results["sanity"].get(must_beat(name) or ""))
        rows.append(Row([title(name), entry.format(value), baseline, entry.meaning]))
    return as_markdown(Table(run_title(results["config"]), columns, rows))


def amount(number: float | None) -> str:
    """Return a whole number as tables show it; "–" if it is missing.

    Example:
        >>> amount(275000), amount(None)
        ('275,000', '–')
    """
    return "–" if number is None else f"{number:,.0f}"


def _tables(results: dict[str, Any]) -> list[Table]:
    """Return the tables of a run; the last one is seen last, so it has the numbers that say most."""
    numbers = results["metrics"] | results["sanity"]
    found = [
        _overview(results, numbers),
        _by_kind("images", IMAGES, numbers, omitted=("kid",)),  # it says what FID says
        _by_kind("paths, own speed", WAYS, numbers, omitted=("detour",)),  # the same at any speed
        _by_kind("paths, constant speed", {way + CONSTANT: name for way, name in WAYS.items()}, numbers),
    ]
    return _explained([table for table in found if table.rows])


def _overview(results: dict[str, Any], numbers: dict[str, float]) -> Table:
    """Return the table of the codes, the test set and the training."""
    budget, parsed = results["budget"], [(*parse(name), value) for name, value in numbers.items()]
    rows = [Row([entry.title, entry.format(value), entry.meaning]) for entry, kind, value in parsed if not kind]
    speed = f"{amount(budget['images'])} images, {amount(results['images_per_second'])} per second"
    rows.append(Row(["training", f"{amount(budget['seconds'])} s", speed]))
    columns = [Column("test images", "text"), Column("value"), Column("meaning", "text")]
    return Table(run_title(results["config"]), columns, rows)


def _by_kind(heading: str, kinds: Mapping[str, str], numbers: dict[str, float], omitted: Collection[str] = ()) -> Table:
    """Return a table with a row for each kind of image or path that has numbers.

    Args:
        heading: of the kinds.
        kinds: their names by the last part of a number's name.
        numbers: by name.
        omitted: metrics without a column.
    """
    of_kind = {kind: _of_kind(numbers, kind) for kind in kinds}
    seen = {entry for row in of_kind.values() for entry in row}
    entries = [entry for name, entry in METRICS.items() if entry in seen and entry.tables and name not in omitted]
    rows = [
        Row([kinds[kind], *(entry.format(row.get(entry)) for entry in entries)], (), _row_kind(kind))
        for kind, row in of_kind.items()
        if row and entries
    ]
    return Table("", [Column(heading, "text"), *(Column(entry.title) for entry in entries)], rows)


def _explained(tables: Sequence[Table]) -> list[Table]:
    """Explain each column once, below the last table that has it."""
    meanings = {entry.title: entry.meaning for entry in METRICS.values()}
    told: set[str] = set()
    found: list[Table] = []
    for table in reversed(tables):
        titles = [column.title for column in table.columns if column.title in meanings and column.title not in told]
        told.update(titles)
        found.insert(0, replace(table, remarks=[f"{title}: {meanings[title]}" for title in titles]))
    return found


def _row_kind(kind: str) -> Literal["", "anchor"]:
    return "anchor" if kind in SANITY else ""


def _of_kind(numbers: dict[str, float], kind: str) -> dict[Entry, float]:
    """Return the numbers of one kind of image or path, by metric."""
    parsed = {parse(name): value for name, value in numbers.items()}
    return {entry: value for (entry, its_kind), value in parsed.items() if its_kind == kind}
