"""One table, shown in every format."""

import io

import pytest
from rich.console import Console

from interp_lightning.system.table import Column, Row, Table, as_csv, as_markdown, print_table

TABLE = Table(
    "A title",
    [Column("", "list"), Column("first number"), Column("second"), Column("note", "text")],
    [Row(["a, b=1", "1.5", "2", "`x` (=1)"], best=[1]), Row(["noise", "–", "3", ""], kind="anchor")],
    ["A remark."],
)


def printed(table: Table, width: int) -> list[str]:
    text = io.StringIO()
    print_table(table, Console(file=text, width=width))
    return [line.strip() for line in text.getvalue().splitlines()]


def test_markdown_marks_the_best_and_what_to_compare_with():
    assert as_markdown(TABLE, quotes=True).splitlines() == [
        "### A title",
        "",
        "|  | first number | second | note |",
        "| --- | ---: | ---: | --- |",
        "| a, b=1 | **1.5** | 2 | `x` (=1) |",
        "| *noise* | – | 3 |  |",
        "",
        "> A remark.",
    ]
    assert "`" not in as_markdown(TABLE)


def test_a_terminal_has_a_line_for_each_part_and_a_part_for_numbers_that_do_not_fit():
    wide, narrow = printed(TABLE, 80), printed(TABLE, 26)
    assert wide[0] == narrow[0] == "A title"
    assert wide[-1] == narrow[-1] == "A remark."
    assert [line.split()[1] for line in wide if line.startswith("│")] == ["a", "b=1", "noise"]
    assert sum(line.startswith("┏") for line in wide) == 1
    assert sum(line.startswith("┏") for line in narrow) == 2


def test_csv_has_numbers_as_they_are():
    table = Table("", [Column("run"), Column("loss")], [Row(["=a", -1.5]), Row(["b", None])])
    assert as_csv(table) == "run,loss\r\n'=a,-1.5\r\nb,\r\n"


@pytest.mark.parametrize(("encoding", "up", "down"), [("utf-8", "↑", "↓"), ("ascii", "higher", "lower")])
def test_a_terminal_without_arrows_still_says_which_direction_is_better(encoding, up, down):
    file = io.BytesIO()
    stream = io.TextIOWrapper(file, encoding, errors="replace")
    print_table(Table("", [Column("score ↑"), Column("MSE ↓")], [Row(["1", "2"])]), Console(file=stream, width=80))
    stream.flush()
    head = file.getvalue().decode(encoding).partition("1")[0]
    assert up in head
    assert down in head
    assert "?" not in head
