"""Terms that critics share."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def squared_slope(critic: Callable[[Tensor], Tensor], points: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """Compute the mean of ‖∇D‖² over points: R1 or R2 of Mescheder et al. 2018, section 4.1, without its weight.

    The result can be differentiated. Source: https://arxiv.org/abs/1801.04406.

    Args:
        critic: D, points → (N,).
        points: where the slope is measured.

    Example:
        >>> squared_slope(lambda x: 3 * x[:, 0], torch.zeros(4, 2)).item()
        9.0
    """
    points = points.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return slope.flatten(1).square().sum(1).mean()
