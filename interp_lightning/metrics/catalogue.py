"""Every number of results.json: its name, what it means, which way is better."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One kind of metric.

    Args:
        title: for tables and axes.
        meaning: in one sentence.
        higher_is_better: which way.
        percent: whether it is a share of 1.
        requires: the metric by which the same paths, or their midpoints, must beat pixels faded over before this one
            says something of interpolation: a blurred path is short and even.
        of_blends: whether pixels faded over have this number, too.
    """

    title: str
    meaning: str
    higher_is_better: bool = False
    percent: bool = False
    requires: str = ""
    of_blends: bool = True

    def format(self, value: float | None) -> str:
        """A number as tables show it; "–" where there is none."""
        if value is None or math.isnan(value):
            return "–"
        if self.percent:
            return f"{value:.1%}"
        return f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:.4g}"


HOW = ("lerp", "slerp")  # kinds of paths

METRICS = {
    "reconstruction_mse": Entry("MSE", "mean squared error of reconstructions, pixels in [−1, 1]"),
    "probe_accuracy": Entry("probe", "test accuracy of one softmax layer on the codes", True, percent=True),
    "cluster_accuracy": Entry("clustering", "test accuracy of k-means on whitened codes", True, percent=True),
    "latent_w2": Entry("W2²", "squared 2-Wasserstein distance of the codes' Gaussian to N(0, I)"),
    "latent_mmd": Entry("MMD²", "squared maximum mean discrepancy of the codes to N(0, I)"),
    "lines_mean_distance": Entry("distance to lines", "cosine distance of the images to the nearest line"),
    "lines_smoothness": Entry(
        "unevenness of turning",
        "largest share of a path's turn in one step, above an even one",
        requires="lines_mean_distance",
    ),
    "fid": Entry("FID", "Fréchet distance of features to those of test images"),
    "kid": Entry("KID", "kernel distance of features to those of test images"),
    "precision": Entry("precision", "share of images within the manifold of test images", True, percent=True),
    "recall": Entry("recall", "share of test images within the manifold of the images", True, percent=True),
    "realism": Entry("realism", "share of images that a classifier is at least 90 % sure of", True, percent=True),
    "entropy": Entry("entropy", "a classifier's doubt about the images, in nats"),
    "evenness": Entry(
        "max/mean step",
        "longest step of a path over its mean step, in feature space; 1 is even (evenness)",
        requires="fid_midpoints",
    ),
    "detour": Entry(
        "detour",
        "length of a path over the distance of its ends, in feature space; 1 is straight",
        requires="fid_midpoints",
    ),
    "path_length": Entry(
        "path length",
        "perceptual path length, mean squared speed in feature space: small for smooth paths, and for dull ones",
        requires="fid_midpoints",
        of_blends=False,
    ),
}

# What was looked at, by the end of the name; the last ones are there to compare with.
IMAGES = {
    "reconstructions": "reconstructions",
    "prior": "samples of the prior",
    "midpoints_lerp": "midpoints, lerp",
    "midpoints_slerp": "midpoints, slerp",
    "midpoints_blend": "midpoints, pixel by pixel",
    "real": "other real images",
    "noise": "noise",
}
PATHS = {"lerp": "paths, lerp", "slerp": "paths, slerp", "blend": "paths, pixel by pixel"}
SANITY = ("midpoints_blend", "real", "noise", "blend")
# What is worth nothing unless it beats the sanity number of the same metric, by the ends of their names. Real images
# are no such number: they are the goal.
FADED = {"midpoints_lerp": "midpoints_blend", "midpoints_slerp": "midpoints_blend", "lerp": "blend", "slerp": "blend"}
MUST_BEAT = FADED | {"reconstructions": "noise", "prior": "noise"}

# What comparisons of runs show, by the question it answers; data sets have those that make sense for them.
COLUMNS = {
    "Interpolation": (
        "fid_midpoints_lerp",
        "realism_midpoints_lerp",
        "evenness_lerp",
        "detour_lerp",
        "path_length_lerp",
        "lines_mean_distance_lerp",
        "lines_smoothness_lerp",
    ),
    "Interpolation on a great circle": (
        "fid_midpoints_slerp",
        "realism_midpoints_slerp",
        "evenness_slerp",
        "detour_slerp",
        "path_length_slerp",
        "lines_mean_distance_slerp",
        "lines_smoothness_slerp",
    ),
    "Codes": ("probe_accuracy", "cluster_accuracy", "latent_w2", "latent_mmd"),
    "Reconstruction": (
        "reconstruction_mse",
        "fid_reconstructions",
        "kid_reconstructions",
        "precision_reconstructions",
        "recall_reconstructions",
    ),
    "Samples of the prior": ("fid_prior", "kid_prior", "precision_prior", "recall_prior", "realism_prior"),
}


def parse(name: str) -> tuple[Entry, str]:
    """What a number's name stands for: its metric, and of which images ("" for the codes and the whole test set)."""
    for key, entry in METRICS.items():
        if name == key or name.startswith(f"{key}_"):
            return entry, name[len(key) + 1 :]
    return Entry(name, "a metric of another version"), ""


def must_beat(name: str) -> str | None:
    """The sanity number that a number must beat; None if there is none, as for the codes."""
    entry, kind = parse(name)
    if kind not in MUST_BEAT or (kind in FADED and not entry.of_blends):
        return None
    return f"{name.removesuffix(kind)}{MUST_BEAT[kind]}"


def conditions(name: str) -> list[str]:
    """The numbers that must beat their sanity numbers before one may be called the best: another's first, its own."""
    entry, kind = parse(name)
    return [*([f"{entry.requires}_{kind}"] if entry.requires else []), *([name] if must_beat(name) else [])]


def title(name: str) -> str:
    """A number's name in words, such as "FID of midpoints, lerp"."""
    entry, kind = parse(name)
    return f"{entry.title} of {(IMAGES | PATHS).get(kind, kind)}" if kind else entry.title
