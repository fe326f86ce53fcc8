"""Every number of results.json: its name, its meaning, which way is better. Imports no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from interp_lightning.errors import ConfigError
from interp_lightning.system.conf import CONF, choices, read

Kind = Literal["codes", "features", "frames", "logits", "seen", "path_features", "speed", "paths", "mixtures", "cycle"]

# Inputs of a metric's `update`, and the tables of a comparison that have columns for its numbers.
TABLES: dict[Kind, tuple[str, ...]] = {
    "codes": ("codes",),  # codes (n, d), labels (n,) and split, "train" or "test"
    "mixtures": ("codes",),  # decoded mixtures of two codes (n, C, H, W), and their α in [0, ½]
    "features": ("midpoints", "reconstructions", "prior"),  # a judge's features (n, d); True for real images
    "logits": ("midpoints", "reconstructions", "prior", "paths"),  # a judge's logits of images (…, classes)
    "frames": ("paths",),  # a judge's features (n, d) of all images along paths; True for real images
    "seen": ("paths",),  # a `metrics.base.Seen`: features and logits, and those of real images
    "path_features": ("paths",),  # a judge's features along paths, (pairs, steps, d)
    "speed": ("paths",),  # a judge's features at t and t + ε, (n, d) each, and ε
    "paths": ("paths",),  # images along paths, (pairs, steps, C, H, W) in [−1, 1]
    "cycle": ("paths",),  # codes along paths (pairs, steps, d), and the same, decoded and encoded
}
HOW = choices("path")  # kinds of paths


@dataclass(frozen=True)
class Entry:
    """One number of a metric.

    Args:
        title: for tables and axes.
        meaning: in one sentence.
        higher_is_better: direction.
        percent: the number is a share of 1.
        requires: the number of the same paths, or of their midpoints, that must beat pixel fading before this one says
            anything about interpolation: a blurred path is short and even.
        fading_wins: no path is better in this number than pixel fading, at any speed. At constant speed that is so for
            every number with `requires`.
        of_blends: pixel fading has this number, too.
        tables: the tables of a comparison with a column for it; by default all that suit its metric.
    """

    title: str
    meaning: str
    higher_is_better: bool = False
    percent: bool = False
    requires: str = ""
    fading_wins: bool = False
    of_blends: bool = True
    tables: tuple[str, ...] = ()

    def format(self, value: float | None) -> str:
        """Format a number for tables; "–" if it is missing.

        Example:
            >>> Entry("realism", "…", percent=True).format(0.257)
            '25.7%'
        """
        if value is None or math.isnan(value):
            return "–"
        if self.percent:
            return f"{value:.1%}"
        return f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:.4g}"


@dataclass(frozen=True)
class Spec:
    """A file of conf/metric.

    Args:
        of: the inputs of its `update`, a key of `TABLES`.
        numbers: that its `compute` returns, by name.
        data: the only data set it makes sense for; None is every one.
        settings: `_target_` and arguments of its class; `${classes}` and `${restarts}` are filled in.
    """

    of: Kind
    numbers: Mapping[str, Entry]
    data: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


def _read(name: str) -> Spec:
    content = read(CONF / "metric" / f"{name}.yaml")
    of, numbers, data = content.pop("of", None), content.pop("numbers", {}), content.pop("data", None)
    if of not in TABLES:
        raise ConfigError(f"`of` (={of!r}) in conf/metric/{name}.yaml must be one of: {', '.join(TABLES)}")
    entries = {
        key: Entry(**values | {"tables": tuple(values.get("tables", TABLES[of]))}) for key, values in numbers.items()
    }
    return Spec(of, entries, data, content)


SPECS = sorted(map(_read, choices("metric")), key=lambda spec: list(TABLES).index(spec.of))
METRICS = {
    "reconstruction_mse": Entry("MSE", "mean squared error of reconstructions, pixels in [−1, 1]"),
    "judge_accuracy": Entry("judge", "test accuracy of the judge itself", True, True),
    **{name: entry for spec in SPECS for name, entry in spec.numbers.items()},
}

# Last part of a number's name: the images or paths measured. Those in SANITY are baselines.
IMAGES = {
    "reconstructions": "reconstructions",
    "prior": "samples of the prior",
    "prior_mixture": "samples of a Gaussian mixture",
    **{f"prior_{how}": f"samples of the prior, {how}" for how in HOW},
    **{f"midpoints_{how}": f"midpoints, {how}" for how in HOW},
    "neighbours": "midpoints of near codes",
    "midpoints_blend": "midpoints, pixels faded over",
    "real": "other real images",
    "noise": "noise",
}
HEADLINE = "score_graph_constant"  # the number that says most
CONSTANT = "_constant"  # suffix of paths at constant speed, in a judge's features
WAYS = {**{how: how for how in HOW}, "blend": "pixels faded over", "transport": "optimal transport"}
PATHS = {
    **{way + CONSTANT: f"paths, {name}" for way, name in WAYS.items()},
    **{way: f"{name} at its own speed" for way, name in WAYS.items()},
}
SANITY = ("midpoints_blend", "real", "noise", "blend_constant", "blend", "transport_constant", "transport")
# The baseline that images or paths must beat. Real images are no baseline: they are the goal.
FADED = {
    **{f"midpoints_{how}": "midpoints_blend" for how in HOW},
    **{how + CONSTANT: "blend_constant" for how in HOW},
    **dict.fromkeys(HOW, "blend"),
}
MUST_BEAT = FADED | dict.fromkeys(("reconstructions", "prior", "prior_mixture"), "noise")
# What tables and curves show beside the runs: the numbers of other images or paths in their place.
ANCHORS: dict[str, Mapping[str, str]] = {
    "real images": dict.fromkeys((*IMAGES, *PATHS), "real"),
    WAYS["blend"]: FADED,
    "noise": dict.fromkeys(IMAGES, "noise"),
}


def _columns(table: str) -> list[str]:
    return [name for name, entry in METRICS.items() if table in entry.tables]


# Columns of comparisons, by question. A data set has those that make sense for it.
COLUMNS = {
    **{
        f"Interpolation, {how}": (
            *(f"{name}_{how}{CONSTANT}" for name in _columns("paths")),
            *(f"{name}_midpoints_{how}" for name in _columns("midpoints")),
            *(f"{name}_{how}" for name in _columns("paths")),
        )
        for how in HOW
    },
    "Codes": (*_columns("codes"), "fid_neighbours"),
    "Reconstruction": ("reconstruction_mse", *(f"{name}_reconstructions" for name in _columns("reconstructions"))),
    "Samples of the prior": tuple(f"{name}_prior" for name in _columns("prior")),
    "Samples of a Gaussian mixture of the codes": tuple(f"{name}_prior_mixture" for name in _columns("prior")),
}


def parse(name: str) -> tuple[Entry, str]:
    """Split a number's name into its entry and the images or paths measured, "" for the codes and the test set.

    Example:
        >>> entry, kind = parse("fid_midpoints_lerp")
        >>> entry.title, kind
        ('FID', 'midpoints_lerp')
    """
    found = [key for key in METRICS if name == key or name.startswith(f"{key}_")]
    if not found:
        return Entry(name, "a metric of another version"), ""
    key = max(found, key=len)
    return METRICS[key], name[len(key) + 1 :]


def spec_of(name: str) -> Spec | None:
    """Return the metric that computes a number, None for one that none computes.

    Example:
        >>> spec_of("fid_midpoints_lerp").of
        'features'
    """
    entry, _ = parse(name)
    return next((spec for spec in SPECS if entry in spec.numbers.values()), None)


def must_beat(name: str) -> str | None:
    """Return the baseline's number that a number must beat; None if there is none, as for the codes.

    Example:
        >>> must_beat("fid_midpoints_lerp")
        'fid_midpoints_blend'
    """
    entry, kind = parse(name)
    if kind not in MUST_BEAT or idle(name) or (kind in FADED and not entry.of_blends):
        return None
    return f"{name.removesuffix(kind)}{MUST_BEAT[kind]}"


def idle(name: str) -> bool:
    """Return True for a number of paths that is best where pixels fade: it says little by itself.

    Example:
        >>> idle("detour_graph"), idle("evenness_graph_constant"), idle("evenness_graph")
        (True, True, False)
    """
    entry, kind = parse(name)
    return entry.fading_wins or (bool(entry.requires) and kind.endswith(CONSTANT))


def anchor(name: str, title: str) -> str:
    """Return the number of `ANCHORS` in the place of another; a name that no run has if there is none.

    Example:
        >>> anchor("fid_midpoints_lerp", "real images")
        'fid_real'
    """
    kind = parse(name)[1]
    return f"{name.removesuffix(kind)}{ANCHORS[title].get(kind)}"


def conditions(name: str) -> list[str]:
    """Return the numbers that must beat their baselines before this one may be marked best; its own comes last."""
    entry, kind = parse(name)
    return [*([f"{entry.requires}_{kind}"] if entry.requires else []), *([name] if must_beat(name) else [])]


def title(name: str) -> str:
    """Spell out a number's name.

    Example:
        >>> title("fid_midpoints_lerp")
        'FID of midpoints, lerp'
        >>> title("score_graph_constant")
        'score of graph paths at constant speed'
    """
    entry, kind = parse(name)
    if kind in FADED and kind in PATHS:
        how = kind.removesuffix(CONSTANT)
        return f"{entry.title} of {how} paths at {'their own' if kind == how else 'constant'} speed"
    return f"{entry.title} of {(IMAGES | PATHS).get(kind, kind)}" if kind else entry.title


def column_title(name: str) -> str:
    """Return the title of a metric's column.

    Example:
        >>> column_title("fid_midpoints_lerp")
        'midpoint FID'
        >>> column_title("score_graph"), column_title("score_graph_constant"), column_title("fid_neighbours")
        ('own-speed score', 'score', 'iFID')
    """
    entry, kind = parse(name)
    prefixes = {"midpoints": "midpoint ", "neighbours": "i"}  # midpoint FID, iFID
    return ("own-speed " if kind in HOW else prefixes.get(kind.partition("_")[0], "")) + entry.title


def heading(name: str) -> str:
    """Return a metric's title for a column, with an arrow that says which way is better.

    Example:
        >>> heading("fid_midpoints_lerp")
        'midpoint FID ↓'
    """
    return f"{column_title(name)} {'↑' if parse(name)[0].higher_is_better else '↓'}"
