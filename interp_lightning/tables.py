"""Numbers in the terminal."""

import shlex
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from interp_lightning.comparison import Comparison
from interp_lightning.comparison_tables import shortcomings, tables
from interp_lightning.metrics.catalogue import IMAGES, PATHS, SANITY, Entry, parse
from interp_lightning.runs import title
from interp_lightning.text import terminal


def report(results: dict[str, Any], folder: Path) -> None:
    """Print a run's numbers and where everything is."""
    console = _console()
    metrics, budget = results["metrics"], results["budget"]
    table = _table(title(results["config"]), "test images", "", "")
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
        table = _table("", heading, *(entry.title for entry in titles))
        for kind, row in numbers.items():
            if row:
                cells = [entry.format(row.get(entry)) for entry in titles]
                table.add_row(kinds[kind], *cells, style="dim" if kind in SANITY else "")
        if titles:
            console.print(table)
    for sentence in shortcomings(folder, results):
        console.print(terminal(sentence))
    for what, where in (
        ("Pictures", folder / "figures"),
        ("Numbers", folder / "results.json"),
        ("Go on", folder / "checkpoints" / "last.ckpt"),
    ):
        if where.exists():  # trainer.fast_dev_run leaves no checkpoint
            console.print(terminal(f"{what + ':':10}{where}"), soft_wrap=True)
    if (folder / "tensorboard").is_dir():
        curves = f"tensorboard --logdir {shlex.quote(str(folder.parent))}"
        console.print(terminal(f"{'Curves:':10}{curves}"), soft_wrap=True)


def amount(number: float | None) -> str:
    """A whole number as tables show it; "–" where there is none."""
    return "–" if number is None else f"{number:,.0f}"


def _of_kind(numbers: dict[str, float], kind: str) -> dict[Entry, float]:
    """The numbers of one kind of image or path, by metric."""
    parsed = {parse(name): value for name, value in numbers.items()}
    return {entry: value for (entry, its_kind), value in parsed.items() if its_kind == kind}


def _table(heading: str, *columns: str) -> Table:
    table = Table(title=terminal(heading) if heading else None, title_justify="left")
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
    for content in tables(comparison):
        table = _table(content.heading, "", "runs", *content.columns)
        for row in content.rows:
            cells = [terminal(text, "bold" if best else "") for text, best in zip(row.cells, row.best, strict=True)]
            title = Text("\n").join(map(terminal, row.title.split(", ")))
            table.add_row(title, row.runs, *cells, style="dim" if row.sanity else "")
        console.print(table)
        for sentence in content.said:
            console.print(terminal(sentence))
