"""Numbers in the terminal."""

import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from interp_lightning.comparison import Comparison, anchors, cell, head
from interp_lightning.metrics.catalogue import COLUMNS, IMAGES, PATHS, SANITY, Entry, parse
from interp_lightning.runs import title


def report(results: dict[str, Any], folder: Path) -> None:
    """Print a run's numbers and where everything is."""
    console = _console()
    metrics, budget = results["metrics"], results["budget"]
    table = _table(title(results["config"]), "test images", "", "")
    for name, value in metrics.items():
        entry, kind = parse(name)
        if not kind:
            table.add_row(entry.title, entry.format(value), entry.meaning)
    speed = f"{budget['images']:,} images, {results['images_per_second']:,.0f} per second"
    table.add_row("training", f"{budget['seconds']:,.0f} s", speed)
    console.print(table)
    for heading, kinds in (("images", IMAGES), ("paths", PATHS)):
        numbers = {kind: _of_kind(metrics | results["sanity"], kind) for kind in kinds}
        titles = list(dict.fromkeys(entry for row in numbers.values() for entry in row))
        table = _table("", heading, *(entry.title for entry in titles))
        for kind, row in numbers.items():
            if row:
                cells = [entry.format(row.get(entry)) for entry in titles]
                table.add_row(kinds[kind], *cells, style="dim" if kind in SANITY else "")
        if titles:
            console.print(table)
    for what, where in (
        ("Pictures", folder / "figures"),
        ("Numbers", folder / "results.json"),
        ("Go on", folder / "checkpoints" / "last.ckpt"),
    ):
        if where.exists():  # trainer.fast_dev_run leaves no checkpoint
            console.print(f"{what + ':':10}{where}", soft_wrap=True, highlight=False)
    if (folder / "tensorboard").is_dir():
        curves = f"tensorboard --logdir {shlex.quote(str(folder.parent))}"
        console.print(f"{'Curves:':10}{curves}", soft_wrap=True, highlight=False)


def _of_kind(numbers: dict[str, float], kind: str) -> dict[Entry, float]:
    """The numbers of one kind of image or path, by metric."""
    parsed = {parse(name): value for name, value in numbers.items()}
    return {entry: value for (entry, its_kind), value in parsed.items() if its_kind == kind}


def _table(heading: str, *columns: str) -> Table:
    table = Table(title=heading or None, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 or not column else "right", no_wrap=index == 0)
    return table


def _console() -> Console:
    """As wide as the terminal; in a file or a pipe, which wrap nothing, as wide as tables like to be."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def show(comparison: Comparison) -> None:
    """Print runs side by side, the leading ones of each column in bold."""
    console = _console()
    for heading, names in COLUMNS.items():
        columns = comparison.columns(names)
        if not columns:
            continue
        table = _table(heading, "", "runs", *(head(name) for name in columns))
        for group in comparison.groups:
            cells = [
                f"[bold]{cell(group, n)}[/]" if group in comparison.leading(n) else cell(group, n) for n in columns
            ]
            table.add_row(group.label.replace(", ", "\n"), str(len(group.results)), *cells)
        for what, values in anchors(comparison, columns):
            table.add_row(what, "", *values, style="dim")
        console.print(table)
