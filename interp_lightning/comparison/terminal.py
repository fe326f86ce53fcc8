"""Print a comparison in the terminal."""

from interp_lightning.comparison.groups import Comparison
from interp_lightning.comparison.tables import tables
from interp_lightning.display.tables import Row, console_of_width, print_numbers
from interp_lightning.system.text import printable, terminal


def show(comparison: Comparison) -> None:
    """Print runs side by side, the leading ones of each column in bold."""
    console = console_of_width()
    for content in tables(comparison):
        rows = []
        for row in content.rows:
            cells = [terminal(text, "bold" if best else "") for text, best in zip(row.cells, row.best, strict=True)]
            label = "\n".join(map(printable, row.title.split(", ")))
            rows.append(Row(label, [row.runs, *cells], "dim" if row.sanity else ""))
        print_numbers(console, content.heading, "", ["runs", *content.columns], rows)
        for sentence in content.said:
            console.print(terminal(sentence))
