"""Measure interpolations of lines: do the images stay lines, and do these turn evenly?"""

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int
from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.functional.lines import render_lines
from interp_lightning.metrics.rendered import RenderedPaths, check_paths, evaluated

TEMPLATES = 10_000


@functools.lru_cache(maxsize=2)
def line_templates(size: int, device: torch.device) -> Float64[Tensor, "templates {size**2}"]:
    """Render lines at angles 2π·k / TEMPLATES, normalised to length 1. Cached."""
    angles = torch.arange(TEMPLATES, dtype=torch.float64) * (2 * math.pi / TEMPLATES)
    lines = [F.normalize(render_lines(chunk, size).flatten(1).double()) for chunk in angles.split(500)]
    return torch.cat(lines).to(device)


def nearest_lines(images: Float[Tensor, "n size size"]) -> tuple[Float64[Tensor, " n"], Int[Tensor, " n"]]:
    """Find the most similar line of each image, by the cosine of all pixels in [−1, 1].

    Returns:
        Cosine distance to the nearest template, 1 for an image of zeros, and the template's index.

    Example:
        >>> distance, index = nearest_lines(render_lines(torch.tensor([math.pi / 2]))[:, 0])
        >>> round(distance.item(), 6), index.item()
        (0.0, 2500)
    """
    templates = line_templates(images.shape[-1], images.device)
    # float64: neighbouring templates differ by 1e-6, too little for a float32 sum, TF32 or autocast.
    chunks = images.flatten(1).split(256)
    nearest = [(F.normalize(chunk.double()) @ templates.T).max(1) for chunk in chunks]
    return 1 - torch.cat([best.values for best in nearest]), torch.cat([best.indices for best in nearest])


def path_smoothness(templates: Int[Tensor, "pairs T"]) -> Float64[Tensor, " pairs"]:
    """Compute max_t |θ_{t+1} − θ_t| / |θ_T − θ_1| − 1/(T − 1), with angles θ unwrapped along the path: 0 is even.

    The denominator is the net turn, as in the published code: turning back and forth raises the score, even above 1.

    Args:
        templates: index of the nearest template; integers, so that a net turn of 0 is exactly 0.

    Returns:
        Smoothness, NaN where the net turn is 0. Source: Berthelot et al. 2018, section 3.1.

    Example:
        >>> path_smoothness(torch.tensor([[0, 10, 20], [0, 0, 20]]))
        tensor([0.0000, 0.5000], dtype=torch.float64)
    """
    turns = templates.diff(dim=1)
    turns = turns - TEMPLATES * (turns / TEMPLATES).round().long()  # the short way round; ± half a circle stays
    net = turns.sum(1).abs().double()
    return (turns.abs().amax(1) / net - 1 / turns.shape[1]).where(net > 0, math.nan)


def line_evaluation(paths: Tensor) -> tuple[float, float]:
    """Compute the mean cosine distance to the nearest line, and the mean smoothness of the lines' angles.

    A path without net turn has no smoothness and counts as 0 in the mean, as in the published code; if no path turns,
    the smoothness is NaN. Source: Berthelot et al. 2018, section 3.1, https://arxiv.org/abs/1807.07543.

    Args:
        paths: images in [−1, 1], (pairs, steps, H, W), both ends included.

    Returns:
        (mean_distance, smoothness), both 0 at best.

    Raises:
        ConfigError: `paths` is not 4-dimensional, not square, shorter than 2 steps or not finite.
    """
    return evaluated(LineEvaluation(), paths)


class LineEvaluation(RenderedPaths):
    """`line_evaluation`, which gives protocol and source, of all paths of all updates on all devices."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("lines", **kwargs)

    @torch.no_grad()
    def update(self, paths: Tensor) -> None:
        """Add images along paths, (pairs, steps, H, W) or (pairs, steps, 1, H, W), in [−1, 1]."""
        paths = paths.squeeze(2)
        if paths.ndim != 4:
            shape = tuple(paths.shape)
            raise ConfigError(f"`paths` (of shape {shape}) must have 4 dimensions; reshape to (pairs, steps, H, W)")
        check_paths(paths)
        distance, templates = nearest_lines(paths.flatten(0, 1))
        self.add_paths(distance, path_smoothness(templates.view(paths.shape[:2])))
