"""Write a comparison as one HTML file that loads nothing: no network, no other file."""

import base64
import io
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup
from matplotlib.figure import Figure

from interp_lightning import __version__
from interp_lightning.comparison.groups import Comparison
from interp_lightning.comparison.tables import runs_table, tables
from interp_lightning.metrics.catalogue import COLUMNS, METRICS, parse
from interp_lightning.system.text import printable

CAPTIONS = {
    "trade": "Each point is a setting, averaged over its seeds; bars are standard deviations.",
    "against": "Mean and standard deviation over seeds.",
    "pair": "",
    "sheet": "",
}


def html(comparison: Comparison, figures: Mapping[str, Figure]) -> str:
    """Return the report: tables, figures, the meaning of the numbers, and the origin of the runs.

    Args:
        comparison: the groups of runs.
        figures: by name; the part before the first underscore chooses the caption.
    """
    shown = {parse(name)[0] for names in COLUMNS.values() for name in comparison.columns(names)}
    pictures = [(name, _png(figure), CAPTIONS[name.split("_")[0]]) for name, figure in figures.items()]
    return _template().render(
        data=", ".join(sorted({result.content["data"] for result in comparison.results})),
        style=Markup(Path(__file__).with_suffix(".css").read_text(encoding="utf-8")),
        runs=len(comparison.results),
        protocol=", ".join(f"{key} {value}" for key, value in comparison.results[0].content["protocol"].items()),
        version=__version__,
        now=f"{datetime.now():%Y-%m-%d %H:%M}",
        notes=comparison.notes,
        pairs=[each for each in pictures if each[0].startswith("pair_")],
        sheets=[each for each in pictures if each[0].startswith("sheet")],
        curves=[each for each in pictures if not each[0].startswith(("pair_", "sheet"))],
        tables=tables(comparison),
        entries=[entry for entry in METRICS.values() if entry in shown],
        settings=len(comparison.groups),
        origins=runs_table(comparison),
    )


def _template() -> Template:
    """Load report.html.j2: every expression is made printable and escaped, unless it is our own markup."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
    )
    return environment.get_template("report.html.j2")


def _png(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi)
    return base64.b64encode(file.getvalue()).decode()
