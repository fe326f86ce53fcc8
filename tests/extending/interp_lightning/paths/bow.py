"""how=bow: a bent line."""

import math

from torch import Tensor

from interp_lightning.paths.base import Path


class Bow(Path):
    """Straight line, pushed away from the origin in the middle.

    Args:
        height: factor on the codes in the middle, minus 1.
    """

    def __init__(self, height: float) -> None:
        self.height = height

    def __call__(self, z_a: Tensor, z_b: Tensor, t: Tensor) -> Tensor:
        t = t[..., None]
        return (1 + self.height * (math.pi * t).sin()) * ((1 - t) * z_a[:, None] + t * z_b[:, None])
