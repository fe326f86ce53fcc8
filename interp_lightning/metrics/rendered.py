"""Measure paths of images that a formula renders: what data=lines and data=sprites have in common."""

import math
from typing import Any

from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.metrics.base import Means


class RenderedPaths(Means):
    """Mean distance to the nearest rendered image, and mean smoothness of the factors, over paths.

    A path without net change has no smoothness and counts as 0 in the mean, as in the published code of ACAI; if no
    path changes, the smoothness is NaN.

    Args:
        data: the name of the data set; `compute` gives {"<data>_mean_distance": (), "<data>_smoothness": ()}.
    """

    higher_is_better = False

    def __init__(self, data: str, **kwargs: Any) -> None:
        super().__init__("distance", "smoothness", "changing", **kwargs)
        self.data = data

    def add_paths(self, distance: Tensor, smoothness: Tensor) -> None:
        """Add paths: distances of their images (pairs · steps,), and their smoothness (pairs,), NaN if undefined."""
        self.add(distance.view(len(smoothness), -1).mean(1), smoothness.nan_to_num(0), smoothness.isfinite())

    def compute(self) -> dict[str, Tensor]:
        means = super().compute()
        smoothness = means["smoothness"].where(means["changing"] > 0, math.nan)
        return {f"{self.data}_mean_distance": means["distance"], f"{self.data}_smoothness": smoothness}


def check_paths(paths: Tensor) -> None:
    """Raise ConfigError unless the paths (pairs, steps, …, H, W) hold finite square images in two steps at least."""
    height, width = paths.shape[-2:]
    if height != width:
        raise ConfigError(f"`paths` (images of {height}×{width}) must hold square images; crop or pad them")
    if paths.shape[1] < 2:
        raise ConfigError(f"`paths` (={paths.shape[1]} steps) must have at least 2 steps; use 16, as in the paper")
    wrong = int((~paths.isfinite()).sum())
    if wrong:
        raise ConfigError(f"`paths` (={wrong} NaN or infinite pixels) must be finite; evaluate an earlier checkpoint")


def evaluated(metric: RenderedPaths, paths: Tensor) -> tuple[float, float]:
    """Return mean distance and mean smoothness of all paths, (pairs, steps, …)."""
    metric.update(paths)
    distance, smoothness = metric.compute().values()
    return distance.item(), smoothness.item()
