"""A comparison as one HTML file that needs nothing else: no network, no other file."""

import base64
import io
from collections.abc import Mapping
from datetime import datetime
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from interp_lightning import __version__
from interp_lightning.comparison import Comparison, anchors, cell, head
from interp_lightning.metrics.catalogue import COLUMNS, METRICS, parse

STYLE = Path(__file__).with_suffix(".css")
SAME_PAIRS = "Two test images at both ends, and what each run decodes from the straight line between their codes."
CAPTIONS = {
    "trade": "Each point is a setting, averaged over its seeds; bars are standard deviations.",
    "against": "Mean and standard deviation over seeds.",
    "pair": "",
}


def html(comparison: Comparison, figures: Mapping[str, Figure]) -> str:
    """The report: tables, figures by name, what the numbers mean, and where they come from."""
    first = comparison.results[0].content
    data = ", ".join(sorted({result.content["data"] for result in comparison.results}))
    runs, groups = len(comparison.results), len(comparison.groups)
    protocol = ", ".join(f"{key} {value}" for key, value in first["protocol"].items())
    parts = [
        f"<h1>{groups} setting{'s' * (groups != 1)} on {escape(data)}</h1>",
        f"<p class=facts>{runs} run{'s' * (runs != 1)} · measured with {escape(protocol)} · "
        f"interp_lightning {__version__} · {datetime.now():%Y-%m-%d %H:%M}</p>",
        *(f"<p class=note>{escape(note)}</p>" for note in comparison.notes),
    ]
    pairs = {name: figure for name, figure in figures.items() if name.startswith("pair_")}
    curves = {name: figure for name, figure in figures.items() if name not in pairs}
    if pairs:
        parts += [f"<h2>The same pairs by every run</h2><p class=facts>{SAME_PAIRS}</p>"]
        parts += [_figure(name, figure) for name, figure in pairs.items()]
    for heading, names in COLUMNS.items():
        if columns := comparison.columns(names):
            parts += [f"<h2>{heading}</h2>", _table(comparison, columns)]
    if curves:
        parts += ["<h2>Curves</h2>", *(_figure(name, figure) for name, figure in curves.items())]
    parts += ["<h2>What the numbers mean</h2>", _glossary(comparison), "<h2>Runs</h2>", _runs(comparison)]
    body = "\n".join(parts)
    return f"""<!doctype html>
<html lang=en><head><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>Comparison on {escape(data)}</title><style>
{STYLE.read_text(encoding="utf-8")}</style></head>
<body>
{body}
</body></html>
"""


def _table(comparison: Comparison, columns: list[str]) -> str:
    heads = "".join(f"<th>{escape(head(name))}" for name in columns)
    rows = []
    for group in comparison.groups:
        cells = "".join(
            f"<td{' class=best' * (group in comparison.leading(name))}>{escape(cell(group, name))}" for name in columns
        )
        rows.append(f"<tr><td>{escape(group.label)}<td>{len(group.results)}{cells}")
    for title, values in anchors(comparison, columns):
        rows.append(f"<tr class=anchor><td>{escape(title)}<td>{''.join(f'<td>{escape(value)}' for value in values)}")
    return f"<div class=wide><table><thead><tr><th><th>runs{heads}</thead><tbody>{''.join(rows)}</tbody></table></div>"


def _figure(name: str, figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150)
    data = base64.b64encode(file.getvalue()).decode()
    caption = CAPTIONS[name.split("_")[0]]
    image = f'<img alt="{escape(name)}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}{caption and f'<figcaption>{caption}</figcaption>'}</figure>"


def _glossary(comparison: Comparison) -> str:
    shown = {parse(name)[0] for names in COLUMNS.values() for name in comparison.columns(names)}
    terms = [
        f"<dt>{escape(entry.title)} {'↑' if entry.higher_is_better else '↓'}<dd>{escape(entry.meaning)}"
        for entry in METRICS.values()
        if entry in shown
    ]
    signs = "↑ higher is better, ↓ lower is better; ± is the standard deviation over seeds."
    return f"<dl>{''.join(terms)}</dl><p class=facts>{signs}</p>"


def _runs(comparison: Comparison) -> str:
    rows = [
        f"<tr><td><code>{escape(str(result.run))}</code><td>{escape(group.label)}<td>{result.content['seed']}"
        f"<td>{result.content['budget']['images']:,}<td>{result.content['budget']['seconds']:,.0f}"
        f"<td><code>{(result.content['git_commit'] or '–')[:10]}</code>"
        for group in comparison.groups
        for result in group.results
    ]
    heads = "<th>folder<th>setting<th>seed<th>images seen<th>seconds<th>commit"
    return f"<div class=wide><table><thead><tr>{heads}</thead><tbody>{''.join(rows)}</tbody></table></div>"
