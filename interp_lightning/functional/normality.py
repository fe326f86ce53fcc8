"""Distances of codes to the standard normal distribution that need no draws of it, or compare one direction at a time.

They are written for codes (N, d) in double precision; all are 0 in the limit at N(0, I).
"""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from interp_lightning.functional.divergences import squared_distances

LARGE = 20  # numbers per code, from which the Cramér–Wold distance has its closed form
HALF_WIDTH, NODES = 5.0, 17  # of the integral over frequencies
DIRECTIONS = 2**20  # numbers at a time: of codes × directions × nodes


def directions(draws: Float[Tensor, "L d"]) -> Float[Tensor, "L d"]:
    """Turn draws of N(0, I) into directions that are uniform on the sphere.

    Example:
        >>> directions(torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
    """
    return F.normalize(draws)


def normal_quantiles(n: int, like: Tensor) -> Float[Tensor, " {n}"]:
    """Return Φ⁻¹((i − ½)/n) for i = 1 … n: where n draws of N(0, 1) lie, in order.

    Example:
        >>> [round(x, 2) for x in normal_quantiles(4, torch.zeros(())).tolist()]
        [-1.15, -0.32, 0.32, 1.15]
    """
    return torch.special.ndtri((torch.arange(n, dtype=like.dtype, device=like.device) + 0.5) / n)


def sliced_w2(z: Float[Tensor, "N d"], directions: Float[Tensor, "L d"]) -> Float[Tensor, " L"]:
    """Compute the squared 2-Wasserstein distance of codes to N(0, 1) along each direction.

    In one dimension optimal transport sorts: the distance is the mean squared difference of sorted codes and quantiles.
    Those of N(0, 1) are known, so no draws of the prior add their noise. Source: Kolouri et al. 2018,
    https://arxiv.org/abs/1804.01947, eq. 6, with exact quantiles.

    Args:
        z: codes.
        directions: of norm 1.

    Example:
        >>> z = normal_quantiles(1000, torch.zeros(()))[:, None]
        >>> sliced_w2(z + 3, torch.ones(1, 1))
        tensor([9.])
    """
    along = (z @ directions.T).sort(dim=0).values
    return (along - normal_quantiles(len(z), z)[:, None]).square().mean(0)


def gaussian_mmd(z: Float[Tensor, "N d"], beta: float) -> Float[Tensor, ""]:
    """Compute the squared MMD to N(0, I) with the kernel exp(−β²‖x − y‖²/2), the prior integrated out.

    n⁻² Σᵢⱼ exp(−β²‖zᵢ − zⱼ‖²/2) − 2n⁻¹ (1 + β²)^(−d/2) Σᵢ exp(−β²‖zᵢ‖²/(2 + 2β²)) + (1 + 2β²)^(−d/2). It is the
    statistic of the BHEP test of normality; Henze and Zirkler 1990, eq. 1.1 to 1.3, here for known mean and covariance.

    Args:
        z: codes.
        beta: β > 0, one over the kernel's width.

    Example:
        >>> round(gaussian_mmd(torch.zeros(5, 1, dtype=torch.double), 1.0).item(), 4)  # 1 − √2 + 3^(−½)
        0.1631
    """
    n, d = z.shape
    b = beta**2
    within = torch.exp(-b / 2 * squared_distances(z, z)).sum() / n**2
    across = (1 + b) ** (-d / 2) * torch.exp(-b / (2 + 2 * b) * z.square().sum(1)).mean()
    return within - 2 * across + (1 + 2 * b) ** (-d / 2)


def cramer_wold(z: Float[Tensor, "N d"], gamma: float) -> Float[Tensor, ""]:
    """Compute the squared Cramér–Wold distance to N(0, I): the L² distance of smoothed densities over all directions.

    (2√π)⁻¹ (n⁻² Σᵢⱼ k(γ, ‖zᵢ − zⱼ‖²) + k(1 + γ, 0) − 2n⁻¹ Σᵢ k(γ + ½, ‖zᵢ‖²)) with k(v, s) = v^(−½) φ_d(s/(4v)).
    φ_d(s) = ₁F₁(½; d/2; −s) is e^(−s/2) I₀(s/2) for d = 2, and (1 + 4s/(2d − 3))^(−½) in the limit of large d. Source:
    Tabor et al. 2018, https://arxiv.org/abs/1805.09235, theorem 3.1 and section 4.

    Args:
        z: codes with d = 2 or d ≥ 20.
        gamma: variance γ > 0 of the smoothing.

    Example:
        >>> z = torch.randn(2000, 20, generator=torch.Generator().manual_seed(0), dtype=torch.double)
        >>> bool(cramer_wold(z, 0.1) < 0.01 < cramer_wold(z + 1, 0.1))
        True
    """
    n, d = z.shape

    def kernel(variance: float, squared: Tensor) -> Tensor:
        s = squared / (4 * variance)
        return variance**-0.5 * (torch.special.i0e(s / 2) if d == 2 else (1 + 4 * s / (2 * d - 3)).rsqrt())

    across = kernel(gamma + 0.5, z.square().sum(1)).mean()
    return (kernel(gamma, squared_distances(z, z)).sum() / n**2 - 2 * across + (1 + gamma) ** -0.5) / (
        2 * math.sqrt(math.pi)
    )


def epps_pulley(z: Float[Tensor, "N d"], directions: Float[Tensor, "L d"]) -> Float[Tensor, " L"]:
    """Compare the characteristic function of codes to that of N(0, 1) along each direction.

    ∫ |n⁻¹ Σⱼ exp(i t zⱼ·θ) − e^(−t²/2)|² e^(−t²/2) dt by the trapezoidal rule on 17 points of [−5, 5]: linear in n.
    Sources: Epps and Pulley 1983; Balestriero and LeCun 2025, https://arxiv.org/abs/2511.08544, definition 4 and
    algorithm 1, whose statistic is n times as large.

    Args:
        z: codes.
        directions: of norm 1.

    Example:
        >>> far = epps_pulley(torch.full((9, 1), 3.0), torch.ones(1, 1))
        >>> near = epps_pulley(normal_quantiles(99, far)[:, None], torch.ones(1, 1))
        >>> bool(near < 1e-3), bool(far > 1)
        (True, True)
    """
    t = torch.linspace(0, HALF_WIDTH, NODES // 2 + 1, dtype=z.dtype, device=z.device)  # |·|² is even in t
    normal = torch.exp(-t.square() / 2)
    weights = 2 * normal * (t[1] - t[0])
    weights[0], weights[-1] = weights[0] / 2, weights[-1] / 2

    def one(part: Tensor) -> Tensor:
        phase = (z @ part.T)[..., None] * t  # (N, L, nodes)
        return ((phase.cos().mean(0) - normal).square() + phase.sin().mean(0).square()) @ weights

    return torch.cat([one(part) for part in directions.split(max(1, DIRECTIONS // (len(z) * len(t))))])
