"""how=rescaled: straight lines with interpolated norms."""

import torch

from interp_lightning.paths.base import Codes, Path, Points, Positions
from interp_lightning.paths.lerp import Lerp


class Rescaled(Path):
    """Straight line, rescaled so that the norm changes linearly from ‖z_a‖ to ‖z_b‖.

    Source: the third interpolation of Ghosh et al. 2020, https://arxiv.org/abs/1903.12436. A line through the origin
    has no direction there, and stays at the origin.

    Example:
        >>> middle = Rescaled()(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 3.0]]), torch.tensor([0.5]))
        >>> middle.norm().round(decimals=3)
        tensor(2.)
    """

    def __call__(self, z_a: Codes, z_b: Codes, t: Positions) -> Points:
        line = Lerp()(z_a, z_b, t)
        norms = Lerp()(z_a.norm(dim=1, keepdim=True), z_b.norm(dim=1, keepdim=True), t)
        tiny = torch.finfo(line.dtype).tiny
        return line * norms / line.norm(dim=-1, keepdim=True).clamp_min(tiny)
