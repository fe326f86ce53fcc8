"""penalty=isometric: a decoder that keeps distances, so that straight lines between codes are short between images."""

from collections.abc import Callable

import torch
from torch import Tensor

from interp_lightning.functional.codes import mix
from interp_lightning.functional.isometry import distortion
from interp_lightning.parameters import Weight
from interp_lightning.penalties.base import Lam, Penalty


class Isometric(Penalty):
    """Relative variance of the eigenvalues of JᵀJ, J = ∂g/∂z of the decoder g; Lee et al. 2022, eq. 9.

    It is 0 if the decoder multiplies all distances by one number. It is measured at mixes of two codes, on the line
    through both and up to a fifth of its length beyond, as in section 4 of the paper. It says nothing of the codes'
    distribution. Cost: about six passes through the decoder; each of several devices measures the whole batch.
    https://openreview.net/forum?id=mQxt8l7JL04

    Args:
        lam: weight λ.
        beyond: share of the distance of two codes by which mixes may lie outside.

    Raises:
        ConfigError: an argument is not allowed by the signature.
        RuntimeError: no model has handed its decoder over.

    Example:
        >>> penalty = Isometric(lam=0.01)
        >>> penalty.attach(lambda z: 3 * z)
        >>> z = torch.randn(4096, 2, generator=torch.Generator().manual_seed(0))
        >>> bool(penalty(z, z) < 0.1)
        True
    """

    def __init__(self, lam: Lam, beyond: Weight = 0.2) -> None:
        super().__init__(lam)
        self.beyond = beyond
        self.decode: Callable[[Tensor], Tensor] | None = None

    def attach(self, decode: Callable[[Tensor], Tensor]) -> None:
        self.decode = decode

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        if self.decode is None:
            raise RuntimeError("penalty=isometric has no decoder; build the model with it, which calls attach")
        # The draws of the prior are the only random numbers that are equal on all devices: one gives a coefficient, the
        # draw of the partner the direction.
        alpha = (1 + 2 * self.beyond) * torch.special.ndtr(prior[:, 0]) - self.beyond
        return distortion(self.decode, mix(z, alpha), prior.flip(0))
