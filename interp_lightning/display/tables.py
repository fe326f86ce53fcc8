"""Print a run's numbers in the terminal."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from interp_lightning.metrics.catalogue import IMAGES, PATHS, SANITY, Entry, parse
from interp_lightning.runs.record import title
from interp_lightning.system.text import terminal

BORDER, GAP = 1, 3  # characters at a table's left edge, and between two columns


class Row(NamedTuple):
    """A row of a table of numbers."""

    label: str
    cells: Sequence[str | Text]
    style: str = ""


def report(results: dict[str, Any], folder: Path, said: Sequence[str] = ()) -> None:
    """Print a run's numbers, sentences about them, and where its files are."""
    console = console_of_width()
    metrics, budget = results["metrics"], results["budget"]
    table = Table(title=terminal(title(results["config"])), title_justify="left")
    table.add_column("test images", overflow="fold")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for name, value in metrics.items():
        entry, kind = parse(name)
        if not kind:
            table.add_row(*map(terminal, (entry.title, entry.format(value), entry.meaning)))
    speed = f"{amount(budget['images'])} images, {amount(results['images_per_second'])} per second"
    table.add_row("training", f"{amount(budget['seconds'])} s", speed)
    console.print(table)
    for heading, kinds in (("images", IMAGES), ("paths", PATHS)):
        numbers = {kind: _of_kind(metrics | results["sanity"], kind) for kind in kinds}
        titles = list(dict.fromkeys(entry for row in numbers.values() for entry in row))
        rows = [
            Row(kinds[kind], [entry.format(row.get(entry)) for entry in titles], "dim" if kind in SANITY else "")
            for kind, row in numbers.items()
            if row
        ]
        if titles:
            print_numbers(console, "", heading, [entry.title for entry in titles], rows)
    for sentence in said:
        console.print(terminal(sentence))
    for what, where in (
        ("Pictures", folder / "figures"),
        ("Numbers", folder / "results.json"),
        ("Resume", folder / "checkpoints" / "last.ckpt"),
    ):
        if where.exists():  # trainer.fast_dev_run leaves no checkpoint
            console.print(terminal(f"{what + ':':10}{where}"), soft_wrap=True)
    if (folder / "tensorboard").is_dir():
        curves = f"tensorboard --logdir {shlex.quote(str(folder.parent))}"
        console.print(terminal(f"{'Curves:':10}{curves}"), soft_wrap=True)


def amount(number: float | None) -> str:
    """Format a whole number for tables; "–" if it is missing."""
    return "–" if number is None else f"{number:,.0f}"


def _of_kind(numbers: dict[str, float], kind: str) -> dict[Entry, float]:
    """Return the numbers of one kind of image or path, by metric."""
    parsed = {parse(name): value for name, value in numbers.items()}
    return {entry: value for (entry, its_kind), value in parsed.items() if its_kind == kind}


def print_numbers(console: Console, title: str, heading: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Print a table of numbers. A table that is too wide is printed in several parts, so that no number is cut.

    Args:
        console: to print to.
        title, heading: of the table, and of its first column.
        columns: headings of the numbers.
        rows: of the table.
    """
    heads = ["\n".join(column.split()) for column in columns]
    widths = [
        max(cell_len(line) for text in (head, *(row.cells[i] for row in rows)) for line in str(text).splitlines())
        for i, head in enumerate(heads)
    ]
    labels = max(cell_len(line) for text in (heading, *(row.label for row in rows)) for line in text.splitlines())
    room = console.width - BORDER - GAP - min(labels, console.width // 3)
    parts: list[list[int]] = [[]]
    for i, width in enumerate(widths):
        if parts[-1] and sum(widths[j] + GAP for j in parts[-1]) + width + GAP > room:
            parts.append([])
        parts[-1].append(i)
    for part in parts:
        table = Table(title=escape(title) if part is parts[0] else None, title_justify="left")
        table.add_column(heading, overflow="fold")
        for i in part:
            table.add_column(heads[i], justify="right", no_wrap=True, overflow="fold")
        for row in rows:
            table.add_row(Text(row.label), *(row.cells[i] for i in part), style=row.style)
        console.print(table)


def console_of_width() -> Console:
    """Return a console as wide as the terminal, or 160 characters wide for a file or a pipe."""
    console = Console()
    return console if console.is_terminal else Console(width=160)
