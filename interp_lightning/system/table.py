"""The one model of a table, and its renderers; that for HTML is in comparison/report.html.j2. Imports no torch."""

import csv
import io
import os
import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from interp_lightning.system.text import csv_cell, markdown, printable, terminal

BORDER, GAP = 1, 3  # widths on a terminal: a table's left edge, and the space between two columns
NUMBERS = ("number", "mean")  # kinds of columns
BREAKS = {"list": ", "}  # pattern at which a cell of a kind is broken into lines on a terminal …
WORDS = {"↑": "(higher is better)", "↓": "(lower is better)"}  # on a terminal without arrows
NARROW = BREAKS | {"mean": " (?=±)"}  # … and on one that is too narrow for the table
STYLES = {"": "", "anchor": "dim", "failed": "red"}  # of a row on a terminal


class Column(NamedTuple):
    """A column's title, and how its cells are laid out.

    Args:
        title: the heading.
        kind: "number" cells are right-aligned and never wrapped. "mean" cells are the same, but with the deviation
            below the mean on a terminal that is too narrow for the table. "word" cells are never wrapped, "text" cells
            wrapped, and "list" cells, whose parts are separated by commas, shown as a line for each part on a terminal.
    """

    title: str
    kind: Literal["number", "mean", "word", "text", "list"] = "number"


class Row(NamedTuple):
    """A row: its cells, the indices of the best ones, and its kind, which decides its style."""

    cells: Sequence[Any]
    best: Collection[int] = ()
    kind: Literal["", "anchor", "failed"] = ""  # an anchor holds numbers to compare with


@dataclass(frozen=True)
class Table:
    """A table with remarks below it. Cells are strings, except for the numbers of a CSV file.

    Args:
        title: the heading.
        columns: at least one.
        rows: cells by column.
        remarks: paragraphs.
        keys: the number of columns at the start that tell the rows apart. Each part of a table that is too wide for
            a terminal begins with them.
    """

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    remarks: Sequence[str] = ()
    keys: int = 1


def console() -> Console:
    """Return a console for the standard output: as wide as the terminal, or 160 columns in a file or a pipe.

    The environment variable COLUMNS overrides both.
    """
    found = Console()
    return found if found.is_terminal or "COLUMNS" in os.environ else Console(width=160)


def print_table(table: Table, to: Console | None = None) -> None:
    """Print a table with its remarks, in several parts below one another if it is too wide: no number is ever cut.

    Args:
        table: the table.
        to: the console, by default that of the standard output.
    """
    to = to or console()
    titles = [_spelled(column.title, to.encoding) for column in table.columns]
    heads = [
        _lines(title, " " if column.kind in NUMBERS else "")
        for title, column in zip(titles, table.columns, strict=True)
    ]
    columns, widths = _laid_out(table, heads, BREAKS)
    if BORDER + sum(width + GAP for width in widths) > to.width:
        columns, widths = _laid_out(table, heads, NARROW)
    for number, part in enumerate(_parts(table, widths, to.width)):
        title = terminal(table.title, "table.title") if table.title and number == 0 else None
        shown = RichTable(title=title, title_justify="left")
        for i in part:
            kind = table.columns[i].kind
            justify: Literal["left", "right"] = "right" if kind in NUMBERS else "left"
            shown.add_column(Text(heads[i]), justify=justify, no_wrap=kind in (*NUMBERS, "word"), overflow="fold")
        for at, row in enumerate(table.rows):
            cells = [Text(columns[i][at], "bold" if i in row.best else "") for i in part]
            shown.add_row(*cells, style=STYLES[row.kind])
        to.print(shown)
    for remark in table.remarks:
        to.print(terminal(remark))


def as_markdown(table: Table, quotes: bool = False) -> str:
    """Return a table with its title and remarks in Markdown.

    Args:
        table: the table.
        quotes: keep short code spans in cells and remarks, see `text.markdown`.
    """
    lines = [f"### {markdown(table.title)}", ""] if table.title else []
    lines.append(f"| {' | '.join(markdown(column.title) for column in table.columns)} |")
    lines.append(f"| {' | '.join('---:' if column.kind in NUMBERS else '---' for column in table.columns)} |")
    for row in table.rows:
        cells = [markdown(cell, quotes) for cell in row.cells]
        cells = [f"**{cell}**" if i in row.best else cell for i, cell in enumerate(cells)]
        if row.kind == "anchor":
            cells[0] = f"*{cells[0]}*"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"> {markdown(remark, quotes)}\n" for remark in table.remarks)])


def as_csv(table: Table) -> str:
    """Return a table's columns and rows as CSV, without its title and remarks."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    for row in ([column.title for column in table.columns], *(row.cells for row in table.rows)):
        writer.writerow(map(csv_cell, row))
    return text.getvalue()


def _parts(table: Table, widths: Sequence[int], width: int) -> list[list[int]]:
    """Divide a table's columns between parts of at most a width; each begins with the key columns."""
    keys = [*range(table.keys)]
    room = width - BORDER - GAP * len(keys) - min(sum(widths[: table.keys]), width * len(keys) // (len(keys) + 2))
    parts: list[list[int]] = [[]]
    for i, column in enumerate(table.columns[table.keys :], table.keys):
        full = sum(widths[j] + GAP for j in [*parts[-1], i] if table.columns[j].kind != "text") > room
        if parts[-1] and full and column.kind in NUMBERS:
            parts.append([])
        parts[-1].append(i)
    return [[*keys, *part] for part in parts]


def _laid_out(table: Table, heads: Sequence[str], breaks: Mapping[str, str]) -> tuple[list[list[str]], list[int]]:
    """Return the cells of each column, broken into lines, and each column's width."""
    columns = [
        [_lines(row.cells[i], breaks.get(column.kind, "")) for row in table.rows]
        for i, column in enumerate(table.columns)
    ]
    if breaks is NARROW:
        _wrap_anchors(table, columns[0], heads[0])
    return columns, [max(map(_width, [head, *cells])) for head, cells in zip(heads, columns, strict=True)]


def _wrap_anchors(table: Table, cells: list[str], head: str) -> None:
    """Break the titles of anchor rows between words, so that they do not make the first column wider."""
    own = [cell for cell, row in zip(cells, table.rows, strict=True) if row.kind != "anchor"]
    width = max(map(_width, [head, *own]))
    for at, row in enumerate(table.rows):
        if row.kind == "anchor":
            cells[at] = textwrap.fill(cells[at], max(width, 1), break_long_words=False)


def _spelled(text: str, encoding: str) -> str:
    """Return a text with words in place of arrows that an encoding lacks: "?" would say the opposite as well."""
    for arrow, words in WORDS.items():
        if not arrow.encode(encoding, "ignore"):
            text = text.replace(arrow, words)
    return text


def _lines(text: object, separator: str) -> str:
    """Return a text with a line for each of its parts."""
    parts = re.split(separator, str(text)) if separator else [text]
    return "\n".join(map(printable, parts))


def _width(text: str) -> int:
    return max(map(cell_len, text.split("\n")))
