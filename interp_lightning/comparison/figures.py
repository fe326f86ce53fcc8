"""Draw several runs side by side, as matplotlib figures."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from interp_lightning.comparison.groups import LAMBDAS, Comparison, Group
from interp_lightning.comparison.labels import labels
from interp_lightning.display.figures import path_columns
from interp_lightning.display.grid import faded, image_grid, legend_label
from interp_lightning.metrics.catalogue import WAYS, anchor, parse, title
from interp_lightning.models.base import Autoencoder

AGAINST_LAMBDA = (
    "score_graph_constant",
    "realism_graph_constant",
    "membership_graph_constant",
    "realism_lerp_constant",
    "fid_midpoints_lerp",
    "reconstruction_mse",
    "probe_accuracy",
    "cluster_accuracy",
    "lines_mean_distance_lerp",
    "lines_smoothness_lerp",
)
FADED = WAYS["blend"]
QUALITY = ("score_graph_constant", "fid_midpoints_lerp", "lines_mean_distance_lerp")  # the first that a run has
COLOURS, MARKERS, STYLES = 10, "osD^vP*X<>", ("-", "--", ":", "-.")
BASELINES: dict[str, dict[str, Any]] = {
    "real images": {"color": "0.45", "linestyle": "--", "linewidth": 1},
    FADED: {"color": "0.45", "linestyle": ":", "linewidth": 1},
}
LEGEND_LINE = 0.16  # inches
# Of a point: above it, on white, so that no curve strikes it through.
LABEL: dict[str, Any] = {
    "xytext": (0, 7),
    "textcoords": "offset points",
    "ha": "center",
    "fontsize": 7,
    "bbox": {"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85},
}


def against_lambda(comparison: Comparison) -> dict[str, Figure]:
    """Plot metrics against each λ that was varied, as mean ± standard deviation over seeds.

    Returns:
        A figure for each λ, by name.
    """
    drawn = {}
    for key in LAMBDAS:
        varied = {
            label: curve
            for label, curve in curves(comparison, key).items()
            if len({group.setting(key) for group in curve} - {None}) > 1
        }
        names = comparison.columns(AGAINST_LAMBDA)
        if not varied or not names:
            continue
        columns = min(3, len(names))
        rows = math.ceil(len(names) / columns)
        figure = Figure(figsize=(3.6 * columns, 2.8 * rows + 0.4), dpi=150, layout="constrained")
        beside: dict[str, dict[str, Any]] = {}
        for index, name in enumerate(names):
            axes = figure.add_subplot(rows, columns, index + 1)
            for number, curve in enumerate(varied.values()):
                if known := [group for group in curve if group.values(name) and group.setting(key) is not None]:
                    _errorbar(axes, known, key, name, number)
            _lambda_axis(axes, [group.setting(key) or 0.0 for curve in varied.values() for group in curve])
            beside |= _baselines(axes, comparison, name)  # now that the scale of the axis is known
            axes.set_xlabel(f"λ ({key})", fontsize=8)
            _value_axis(axes, "y", name)
        _legend(figure, list(varied), beside)
        drawn[f"against_{key.replace('.', '_')}"] = figure
    return drawn


def trade_off(comparison: Comparison) -> dict[str, Figure]:
    """Plot reconstruction against interpolation quality, a curve over λ for each combination of other settings.

    Returns:
        The figure by name, or an empty dictionary if no run has both metrics.
    """
    quality = comparison.columns(QUALITY)[:1]
    if not quality or not comparison.columns(["reconstruction_mse"]):
        return {}
    figure = Figure(figsize=(6.4, 4.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    found = curves(comparison, *LAMBDAS)
    for number, curve in enumerate(found.values()):
        x, y = ([group.mean(name) for group in curve] for name in ("reconstruction_mse", quality[0]))
        x_spread, y_spread = ([_spread(group, name) for group in curve] for name in ("reconstruction_mse", quality[0]))
        axes.errorbar(x, y, y_spread, x_spread, capsize=2, **_look(number))
        if len(curve) > 1:
            for group, at_x, at_y in zip(curve, x, y, strict=True):
                varied = [group.setting(key) for key in LAMBDAS if len({g.setting(key) for g in curve}) > 1]
                values = ["–" if value is None else f"{value:g}" for value in varied]
                if math.isfinite(at_x) and math.isfinite(at_y):
                    axes.annotate(f"λ={', '.join(values)}", (at_x, at_y), **LABEL)
    axes.margins(0.12)  # room for the labels
    _value_axis(axes, "x", "reconstruction_mse")
    _value_axis(axes, "y", quality[0])
    best = "upper" if parse(quality[0])[0].higher_is_better else "lower"
    axes.set_title(f"Reconstruction against interpolation: {best} left is better", fontsize=9)
    _legend(figure, list(found))
    return {"trade_off": figure}


def side_by_side(models: Sequence[tuple[str, Autoencoder]], x: Tensor, steps: int = 11) -> dict[str, Figure]:
    """Draw the straight lines between the same pairs of images by every model, and fading pixels, a row for each.

    Args:
        models: names and models.
        x: images, (2·pairs, C, H, W); paths lead from the first half to the second.
        steps: points on each path.

    Returns:
        A figure for each pair, by name.
    """
    x_a, x_b, fading = *x.chunk(2), faded(x, steps)
    with torch.inference_mode():
        paths = [
            model.interpolate(x_a.to(model.device), x_b.to(model.device), steps, "lerp").cpu() for _, model in models
        ]
    drawn = {}
    for pair in range(len(x_a)):
        rows = torch.stack([torch.cat([x_a[pair, None], path[pair], x_b[pair, None]]) for path in [*paths, fading]])
        names = [*(name for name, _ in models), FADED]
        title = f"Pair {pair + 1}: straight lines between codes (lerp), at their own speed"
        drawn[f"pair_{pair + 1}"] = image_grid(rows, title, rows=names, columns=path_columns(steps))
    return drawn


def sheet(strips: Mapping[str, Mapping[str, Tensor]], title: str, below: str = FADED) -> Figure:
    """Draw the same pairs of images by every setting, a row for each, and one of fading pixels.

    The kinds of path are side by side, and there is a gap between the pairs.

    Args:
        strips: paths between the pairs with the images themselves at both ends, (pairs, steps + 2, C, H, W), by kind
            of path, by the setting's label. A kind that a setting lacks leaves a gap.
        title: of the figure.
        below: the name of the row of fading pixels.
    """
    kinds = dict.fromkeys(kind for each in strips.values() for kind in each)
    like = next(strip for each in strips.values() for strip in each.values())
    white = torch.ones_like(like)
    ends = torch.cat([like[:, 0], like[:, -1]])
    fading = torch.cat([like[:, :1], faded(ends, like.shape[1] - 2), like[:, -1:]], dim=1)
    rows = []
    for each in [*strips.values(), dict.fromkeys(kinds, fading)]:
        parts = [part for kind in kinds for part in (white[:, :1], each.get(kind, white))]
        rows.append(torch.cat(parts[1:], dim=1))
    blocks = torch.stack([*rows, torch.ones_like(rows[0])], dim=1)  # an empty row after each pair
    columns = [name for _ in kinds for name in ("", *path_columns(like.shape[1] - 2))]
    names = [*strips, below, ""] * len(blocks)
    return image_grid(blocks.flatten(0, 1)[:-1], title, names[:-1], columns[1:])


def curves(comparison: Comparison, *keys: str) -> dict[str, list[Group]]:
    """Collect groups that differ in some settings only, sorted by these settings, by the curve's unique label."""
    together: dict[str, list[Group]] = {}
    for group in comparison.groups:
        together.setdefault(group.results[0].key(keys), []).append(group)
    order = [sorted(each, key=lambda group: [group.setting(key) or 0.0 for key in keys]) for each in together.values()]
    return dict(zip(labels([curve[0].results[0] for curve in order], keys), order, strict=True))


def _errorbar(axes: Axes, curve: list[Group], key: str, name: str, number: int) -> None:
    x, y = [group.setting(key) or 0.0 for group in curve], [group.mean(name) for group in curve]
    axes.errorbar(x, y, [_spread(group, name) for group in curve], ms=4, capsize=2, **_look(number))


def _look(number: int) -> dict[str, Any]:
    """Return the colour, marker and style of a curve by its number; the first 400 are all different."""
    around, rest = divmod(number, COLOURS)
    marker = MARKERS[(rest + around) % len(MARKERS)]
    return {"color": f"C{rest}", "marker": marker, "linestyle": STYLES[around // len(MARKERS) % len(STYLES)]}


def _baselines(axes: Axes, comparison: Comparison, name: str) -> dict[str, dict[str, Any]]:
    """Draw a metric's sanity numbers as lines, unless they differ between data sets; return their looks by title."""
    if len({result.content["data"] for result in comparison.results}) > 1:
        return {}
    values = {baseline: comparison.groups[0].sanity(anchor(name, baseline)) for baseline in BASELINES}
    drawn = {baseline: look for baseline, look in BASELINES.items() if math.isfinite(values[baseline])}
    for baseline, look in drawn.items():
        axes.axhline(values[baseline], **look)
    return drawn


def _legend(figure: Figure, entries: Sequence[str], beside: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Add a legend of curves, and of what is beside them, below a figure; increase its height by as much."""
    handles = [Line2D([], [], label=legend_label(entry), **_look(number)) for number, entry in enumerate(entries)]
    handles += [Line2D([], [], label=title, **look) for title, look in (beside or {}).items()]
    texts = [str(handle.get_label()) for handle in handles]
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + LEGEND_LINE * (1 + sum(text.count("\n") + 1 for text in texts)))
    figure.legend(handles=handles, loc="outside lower left", fontsize=7, frameon=False)


def _spread(group: Group, name: str) -> float:
    deviation = group.deviation(name)
    return 0.0 if math.isnan(deviation) else deviation


def _lambda_axis(axes: Axes, values: list[float]) -> None:
    """Make the axis of λ logarithmic, with a place for 0."""
    positive = [value for value in values if value > 0]
    if positive and len(positive) < len(values):
        axes.set_xscale("symlog", linthresh=min(positive))
    elif positive:
        axes.set_xscale("log")


def _value_axis(axes: Axes, which: str, name: str) -> None:
    entry, _ = parse(name)
    arrow = "higher is better" if entry.higher_is_better else "lower is better"
    shown = title(name).replace(" paths at ", " paths\nat ") if which == "y" else title(name)
    axes.set(**{f"{which}label": f"{shown}\n({arrow})"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    if entry.percent:
        axis.set_major_formatter(lambda value, _: f"{value:.1%}")
    axis.label.set_fontsize(8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3)
