"""Measure how far a decoder is from keeping distances."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def distortion(
    decode: Callable[[Tensor], Tensor], z: Float[Tensor, "N d"], probes: Float[Tensor, "N d"]
) -> Float[Tensor, ""]:
    """Estimate d·E[Tr H²] / E[Tr H]² − 1, the relative variance of all eigenvalues of H = JᵀJ, J = ∂g/∂z, over codes.

    It is 0 if and only if H = c·I with one c for all codes. Distances of codes and images are then proportional.
    Both traces are Hutchinson's estimates: Tr H = E‖J v‖² and Tr H² = E‖JᵀJ v‖² for v ~ N(0, I).

    The distortion measure is that of Lee et al. 2022, "Regularized autoencoders for isometric representation
    learning", ICLR, eq. 9 (https://openreview.net/forum?id=mQxt8l7JL04), shifted so that its least value is 0.

    Args:
        decode: g, codes (N, d) → images (N, …).
        z: where it is measured.
        probes: v, one per code.

    Example:
        >>> stretch = torch.diag(torch.tensor([1.0, 3.0]))  # H = diag(1, 9) everywhere: 2·(1 + 81) / (1 + 9)² − 1
        >>> v = torch.randn(100_000, 2, generator=torch.Generator().manual_seed(0))
        >>> round(distortion(lambda z: z @ stretch, torch.zeros(100_000, 2), v).item(), 1)
        0.6
    """
    wanted = torch.is_grad_enabled()  # validation does not
    with torch.inference_mode(False), torch.enable_grad():
        z = z if z.requires_grad else z.clone().requires_grad_()
        images = decode(z)
        along = torch.zeros_like(images, requires_grad=True)
        (pulled,) = torch.autograd.grad(images, z, along, create_graph=True)  # Jᵀ u, linear in u
        (pushed,) = torch.autograd.grad(pulled, along, probes.clone(), create_graph=True)  # J v
        (both,) = torch.autograd.grad(images, z, pushed, create_graph=wanted)  # JᵀJ v
        first, second = pushed.flatten(1).square().sum(1).mean(), both.square().sum(1).mean()
        value = z.shape[1] * second / first.square() - 1
    return value if wanted else value.detach()
