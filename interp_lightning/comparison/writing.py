"""Write a comparison's tables, report and figures: what fails costs one file, or one figure of the report."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from interp_lightning.comparison.groups import Comparison
from interp_lightning.comparison.report import html
from interp_lightning.comparison.tables import all_numbers, comparison_markdown
from interp_lightning.comparison.walks import Walks
from interp_lightning.display.figures import png, skipping
from interp_lightning.metrics.catalogue import HEADLINE
from interp_lightning.system.disk import replace
from interp_lightning.system.table import as_csv

REPORT = "report.html"


def write(
    comparison: Comparison,
    drawn: Mapping[str, Figure],
    folder: Path,
    walks: Walks | None = None,
    objective: str = HEADLINE,
) -> list[str]:
    """Write tables first, then the report, then the figures; warn of each that cannot be drawn or written.

    Args:
        comparison: the groups of runs.
        drawn: figures by name.
        folder: where to write; it exists.
        walks: paths for the report.
        objective: the number that decides.

    Returns:
        The names of the files that are missing.
    """
    missing = _missing(
        folder,
        {
            "comparison.csv": lambda: as_csv(all_numbers(comparison)),
            "comparison.md": lambda: comparison_markdown(comparison) + "\n",
        },
    )
    pictures = {}
    for name, figure in drawn.items():
        with skipping(name):
            pictures[name] = png(figure)
    missing += [f"{name}.png" for name in drawn if name not in pictures]
    missing += _missing(folder, {REPORT: lambda: html(comparison, pictures, walks, objective)})
    return missing + _missing(folder, {f"{name}.png": partial(bytes, file) for name, file in pictures.items()})


def _missing(folder: Path, files: Mapping[str, Callable[[], str | bytes]]) -> list[str]:
    """Write files by name; return the names of those that cannot be made or written."""
    missing = [*files]
    for name, content in files.items():
        with skipping(name, "file"):
            replace(folder / name, content())
            missing.remove(name)
    return missing
