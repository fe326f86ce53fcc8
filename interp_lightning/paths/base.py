"""Paths between latent codes, as pure functions."""

import torch
from torch import Tensor

from interp_lightning.metrics.catalogue import HOW
from interp_lightning.parameters import check_choice, check_integer


def mix(z: Tensor, alpha: Tensor) -> Tensor:
    """Mix each code with its partner in the reversed batch: α·z₁ + (1 − α)·z₂.

    Args:
        z: codes, (B, d). An odd batch would mix its middle code with itself.
        alpha: coefficients, (B,).

    Returns:
        (B, d). Source: Berthelot et al. 2018, https://arxiv.org/abs/1807.07543, section 2.
    """
    alpha = alpha[:, None]
    return alpha * z + (1 - alpha) * z.flip(0)


def lerp(z_a: Tensor, z_b: Tensor, t: Tensor) -> Tensor:
    """Straight line (1 − t)·z_a + t·z_b; all arguments broadcast, the last dimension is the code's."""
    return (1 - t) * z_a + t * z_b


def slerp(z_a: Tensor, z_b: Tensor, t: Tensor) -> Tensor:
    """Great-circle path (Shoemake 1985), with the norm going linearly from ‖z_a‖ to ‖z_b‖.

    Straight lines between samples of a high-dimensional Gaussian pass through norms that the prior hardly
    ever has; this path does not. For (anti-)parallel or zero codes the plane of rotation is undefined and
    the path is the straight line. Arguments as in `lerp`.
    """
    norm_a, norm_b = z_a.norm(dim=-1, keepdim=True), z_b.norm(dim=-1, keepdim=True)
    tiny = torch.finfo(z_a.dtype).eps
    unit_a, unit_b = z_a / norm_a.clamp_min(tiny), z_b / norm_b.clamp_min(tiny)
    # 2·atan2(‖u − v‖, ‖u + v‖) keeps its digits for nearly parallel vectors, where arccos(u·v) loses half.
    omega = 2 * torch.atan2((unit_a - unit_b).norm(dim=-1, keepdim=True), (unit_a + unit_b).norm(dim=-1, keepdim=True))
    sin_omega = omega.sin()
    direction = (((1 - t) * omega).sin() * unit_a + (t * omega).sin() * unit_b) / sin_omega
    undefined = (sin_omega < 1e-4) | (norm_a < tiny) | (norm_b < tiny)
    return torch.where(undefined, lerp(z_a, z_b, t), lerp(norm_a, norm_b, t) * direction)


BETWEEN = dict(zip(HOW, (lerp, slerp), strict=True))


def path(z_a: Tensor, z_b: Tensor, steps: int, how: str = "lerp") -> Tensor:
    """Codes at `steps` equidistant points from z_a to z_b, both ends included.

    Args:
        z_a, z_b: (B, d).
        steps: at least 2.
        how: "lerp" or "slerp".

    Returns:
        (B, steps, d).
    """
    check_integer("steps", steps, least=2)
    between = BETWEEN[check_choice("how", how, HOW)]
    t = torch.linspace(0, 1, steps, device=z_a.device, dtype=z_a.dtype)[None, :, None]
    return between(z_a[:, None], z_b[:, None], t)
