"""Write a comparison as one HTML file that loads nothing: no network, no other file."""

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup

from interp_lightning import __version__
from interp_lightning.comparison.groups import Comparison
from interp_lightning.comparison.overview import conclusion
from interp_lightning.comparison.sortable import names, sortable_overview, sortable_runs, sortable_tables
from interp_lightning.comparison.walks import FRAMES, Line, Walks, lines
from interp_lightning.display.figures import skipping
from interp_lightning.metrics.catalogue import COLUMNS, HEADLINE, METRICS, parse
from interp_lightning.system.text import printable

CAPTIONS = {
    "trade": "Each point is a setting, averaged over its seeds; bars are standard deviations.",
    "against": "Mean and standard deviation over seeds.",
    "pair": "",
    "sheet": "",
}


IMAGES = ("pair", "sheet")  # figures of images, which the paths with sliders replace


def html(
    comparison: Comparison, figures: Mapping[str, bytes], walks: Walks | None = None, objective: str = HEADLINE
) -> str:
    """Return the report: the best setting, paths with sliders, tables, figures, meanings, and the runs' origin.

    Args:
        comparison: the groups of runs.
        figures: PNG files by name; the part before the first underscore chooses the caption.
        walks: paths between the same pairs of images. They take the place of the figures of pairs.
        objective: the number that decides which setting is best. If no run has it, the report does without an answer.
    """
    named = names(comparison)
    pairs_of_lines: list[list[Line]] = []
    with skipping("The paths with sliders"):
        pairs_of_lines = [] if walks is None else lines(walks, named)
    shown = {parse(name)[0] for names in COLUMNS.values() for name in comparison.columns(names)}
    kinds = {name: name.split("_")[0] for name in figures}
    pictures = [
        (name, base64.b64encode(figure).decode(), CAPTIONS[kinds[name]])
        for name, figure in figures.items()
        if not pairs_of_lines or kinds[name] not in IMAGES
    ]
    style, script = (Path(__file__).with_suffix(kind).read_text(encoding="utf-8") for kind in (".css", ".js"))
    return _template().render(
        data=", ".join(sorted({result.content["data"] for result in comparison.results})),
        style=Markup(style),
        style_hash=Markup(_hash(style)),
        script=Markup(script),
        script_hash=Markup(_hash(script)),
        runs=len(comparison.results),
        protocol=", ".join(f"{key} {value}" for key, value in comparison.results[0].content["protocol"].items()),
        version=__version__,
        now=f"{datetime.now():%Y-%m-%d %H:%M}",
        answer=conclusion(comparison, objective, named),
        overview=sortable_overview(comparison, objective) if comparison.having(objective) else None,
        doubt=comparison.doubt,
        notes=comparison.notes,
        walks=walks if pairs_of_lines else None,
        frames=FRAMES,
        pairs_of_lines=pairs_of_lines,
        pictures=[each for each in pictures if kinds[each[0]] in IMAGES],
        curves=[each for each in pictures if kinds[each[0]] not in IMAGES],
        tables=sortable_tables(comparison),
        entries=[entry for entry in METRICS.values() if entry in shown],
        settings=len(comparison.groups),
        origins=sortable_runs(comparison),
    )


def _template() -> Template:
    """Load report.html.j2: every expression is made printable and escaped, unless it is our own markup."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
    )
    return environment.get_template("report.html.j2")


def _hash(text: str) -> str:
    """Return the only inline text that the page's Content-Security-Policy lets a browser use."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
