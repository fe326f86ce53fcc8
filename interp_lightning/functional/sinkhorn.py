"""Entropic optimal transport between two clouds of codes."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from interp_lightning.functional.divergences import squared_distances


def sinkhorn_divergence(
    z: Float[Tensor, "N d"], prior: Float[Tensor, "M d"], epsilon: float, iterations: int
) -> Float[Tensor, ""]:
    """Compute OT_ε(z, p) − ½ OT_ε(z, z) − ½ OT_ε(p, p) for the cost ‖x − y‖²/2: 0 for equal clouds.

    Source: Feydy et al. 2019, https://arxiv.org/abs/1810.08278, eq. 3. The gradient is that of the costs with the plan
    held fixed, which is exact once the iterations have converged.

    Args:
        z: codes.
        prior: draws of the prior.
        epsilon: weight ε > 0 of the entropy.
        iterations: of Sinkhorn's algorithm, in the log domain.

    Example:
        >>> z = torch.randn(50, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
        >>> round(sinkhorn_divergence(z + 2, z, 1.0, 100).item(), 4)  # 3 · 2²/2
        6.0
    """
    across = _entropic_cost(z, prior, epsilon, iterations)
    within = _entropic_cost(z, z, epsilon, iterations) + _entropic_cost(prior, prior, epsilon, iterations)
    return across - within / 2


def _entropic_cost(
    x: Float[Tensor, "N d"], y: Float[Tensor, "M d"], epsilon: float, iterations: int
) -> Float[Tensor, ""]:
    """Compute the dual value Σᵢ fᵢ/N + Σⱼ gⱼ/M of the entropic transport between two clouds."""
    cost = squared_distances(x, y) / 2
    with torch.no_grad():
        f, g = torch.zeros_like(cost[:, 0]), torch.zeros_like(cost[0])
        for _ in range(iterations):  # both at once and averaged: a cloud's transport to itself converges quickly
            f, g = (f + _softmin(cost - g, epsilon)) / 2, (g + _softmin(cost.T - f, epsilon)) / 2
        f, g = _softmin(cost - g, epsilon), _softmin(cost.T - f, epsilon)
        plan = torch.exp((f[:, None] + g - cost) / epsilon) / cost.numel()
    return f.mean() + g.mean() + (plan * (cost - cost.detach())).sum()


def _softmin(costs: Float[Tensor, "N M"], epsilon: float) -> Float[Tensor, " N"]:
    """Return −ε log of the mean of exp(−cost/ε) over columns."""
    return -epsilon * (torch.logsumexp(-costs / epsilon, dim=1) - math.log(costs.shape[1]))
