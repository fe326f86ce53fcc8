"""Print a run's numbers in the terminal."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from interp_lightning.metrics.catalogue import IMAGES, METRICS, PATHS, SANITY, Entry, must_beat, parse, title
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
    """Return the tables of a run: the test set and the training, metrics of images, metrics of paths."""
    metrics, budget = results["metrics"], results["budget"]
    parsed = [(*parse(name), value) for name, value in (metrics | results["sanity"]).items()]
    rows = [Row([entry.title, entry.format(value), entry.meaning]) for entry, kind, value in parsed if not kind]
    speed = f"{amount(budget['images'])} images, {amount(results['images_per_second'])} per second"
    rows.append(Row(["training", f"{amount(budget['seconds'])} s", speed]))
    columns = [Column("test images", "text"), Column(""), Column("", "text")]
    tables = [Table(run_title(results["config"]), columns, rows)]
    for heading, kinds in (("images", IMAGES), ("paths", PATHS)):
        numbers = {kind: _of_kind(metrics | results["sanity"], kind) for kind in kinds}
        seen = {entry for row in numbers.values() for entry in row}
        entries = [entry for entry in METRICS.values() if entry in seen and entry.tables]
        rows = [
            Row([kinds[kind], *(entry.format(row.get(entry)) for entry in entries)], (), _row_kind(kind))
            for kind, row in numbers.items()
            if row
        ]
        if entries:
            columns = [Column(heading, "text"), *(Column(entry.title) for entry in entries)]
            tables.append(Table("", columns, rows))
    return tables


def _row_kind(kind: str) -> Literal["", "anchor"]:
    return "anchor" if kind in SANITY else ""


def _of_kind(numbers: dict[str, float], kind: str) -> dict[Entry, float]:
    """Return the numbers of one kind of image or path, by metric."""
    parsed = {parse(name): value for name, value in numbers.items()}
    return {entry: value for (entry, its_kind), value in parsed.items() if its_kind == kind}
