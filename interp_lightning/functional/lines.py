"""Render the lines of ACAI's benchmark."""

import torch
from jaxtyping import Float
from torch import Tensor

SIZE = 32


def render_lines(angles: Float[Tensor, " N"], size: int = SIZE) -> Float[Tensor, "N 1 {size} {size}"]:
    """Render lines from the centre outwards, 2 pixels wide and size/2 − 1 long, one per angle.

    Args:
        angles: radians, counter-clockwise from the right.
        size: height and width in pixels.

    Returns:
        Images in float32, −1 background, 1 line. Source: Berthelot et al. 2018, section 3.1. Every pixel
        equals that of the published renderer, which measures the width along the minor axis and anti-aliases the end
        of a line only towards the left and the top.

    Example:
        >>> render_lines(torch.zeros(1), size=8)[0, 0, 3]  # the upper row of a line to the right
        tensor([-1., -1., -1., -1.,  1.,  1.,  1., -1.])
    """
    centre = size / 2
    angles = angles.double()
    x = centre + (centre - 1) * angles.cos() - centre
    y = centre + (centre - 1) * (-angles).sin() - centre
    flat = y.abs() < x.abs()  # the major axis is horizontal
    major, minor = torch.where(flat, x, y), torch.where(flat, y, x)
    first, last = centre + major.clamp(max=0), centre + major.clamp(min=0)

    rows = torch.arange(size, dtype=torch.float64, device=angles.device)  # along the major axis
    weight = (rows[None] + 1 - first[:, None]).clamp(0, 1) * (rows[None] < last[:, None])  # (N, size)
    middle = centre + (rows[None] - 0.5 - centre) * (minor / major)[:, None]  # of the line in each row, (N, size)
    coverage = (1.5 - (rows + 0.5 - middle[:, :, None]).abs_()).clamp_(0, 1)  # (N, size, size)
    images = coverage.mul_(weight[:, :, None]).mul_(2).sub_(1).float()
    return torch.where(flat[:, None, None], images.mT, images)[:, None]
