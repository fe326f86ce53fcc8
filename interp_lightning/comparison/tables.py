"""The tables of a comparison: groups by metric, and all runs."""

from typing import Any

from interp_lightning.comparison.groups import Comparison
from interp_lightning.comparison.verdicts import verdicts
from interp_lightning.display.tables import amount
from interp_lightning.metrics.catalogue import COLUMNS, heading
from interp_lightning.system.table import Column, Row, Table, as_markdown
from interp_lightning.system.text import markdown


def tables(comparison: Comparison) -> list[Table]:
    """Return a table for each question that metrics answer; `Comparison.leading` decides which cells are best."""
    found = []
    for question, names in questions(comparison).items():
        leading = [comparison.leading(name) for name in names]
        rows = [
            Row(
                [group.label, group.size, *map(group.formatted, names)],
                [at for at, best in enumerate(leading, 2) if group in best],
            )
            for group in comparison.groups
        ]
        rows += [Row([title, "", *cells], kind="anchor") for title, cells in comparison.anchors(names).items()]
        columns = [Column("", "list"), Column("runs"), *(Column(heading(name)) for name in names)]
        found.append(Table(question, columns, rows, verdicts(comparison, names)))
    return found


def questions(comparison: Comparison) -> dict[str, list[str]]:
    """Return the metrics that at least one run has, by the question that they answer."""
    found = {question: comparison.columns(every) for question, every in COLUMNS.items()}
    return {question: names for question, names in found.items() if names}


def comparison_markdown(comparison: Comparison) -> str:
    """Return all tables and notes in Markdown."""
    notes = [f"> {markdown(note, quotes=True)}\n" for note in comparison.caveats]
    return "\n".join([*map(as_markdown, tables(comparison)), *notes])


def runs_table(comparison: Comparison) -> Table:
    """Return a table with the origin of each run, for readers; see `all_numbers` for programs."""
    columns = [Column("folder", "text"), Column("setting", "text"), Column("seed"), Column("images seen")]
    columns += [Column("seconds"), Column("commit", "word")]
    rows = []
    for group in comparison.groups:
        for result in group.results:
            content, again = result.content, "" if result in group.counted else " (again, not counted)"
            cost = [amount(content["budget"][key]) for key in ("images", "seconds")]
            commit = (content["git_commit"] or "–")[:10]
            rows.append(Row([result.run, group.label, f"{content['seed']}{again}", *cost, commit]))
    return Table("Runs", columns, rows)


def all_numbers(comparison: Comparison) -> Table:
    """Return a table of everything known of each run: its folder, settings and metrics, and whether it counts."""
    runs = []
    for group in comparison.groups:
        for result in group.results:
            content = result.content
            facts: dict[str, Any] = {"run": result.run, "group": group.label, "counts": result in group.counted}
            facts |= {key: content[key] for key in ("model", "penalty", "data", "seed", "config_hash", "git_commit")}
            facts |= {"images_seen": content["budget"]["images"], "seconds": content["budget"]["seconds"]}
            runs.append((facts, result.settings, content["metrics"]))
    names = list(dict.fromkeys(name for part in zip(*runs, strict=True) for values in part for name in values))
    # If a name occurs twice, a fact hides a metric, and a metric hides a setting.
    rows = [Row([(settings | metrics | facts).get(name) for name in names]) for facts, settings, metrics in runs]
    return Table("", [Column(name) for name in names], rows)
