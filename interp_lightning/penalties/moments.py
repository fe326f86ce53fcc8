"""penalty=moments: the KL divergence of the codes' Gaussian to the prior."""

from typing import Annotated

from torch import Tensor

from interp_lightning.functional.normality import blurred_kl
from interp_lightning.parameters import Positive, WayOut, check_integer
from interp_lightning.penalties.base import Lam, Penalty


class Moments(Penalty):
    """KL divergence of the Gaussian with the codes' mean and covariance to N(0, I), both blurred by some noise.

    ½ (Tr S/(1 + κ) + ‖z̄‖²/(1 + κ) − d − log det S + d log(1 + κ)) with S = Σ_z + κI. Without noise it is infinite for
    collapsed codes and for fewer than d + 1 of them. Like W2 it sees the first two moments only, and its estimate is
    biased in small batches. Cost: n d min(n, d).

    Args:
        lam: weight λ.
        noise: its variance κ.

    Raises:
        ConfigError: an argument is not allowed by the signature, or a batch has fewer than 2 codes.

    Example:
        >>> import torch
        >>> z = torch.tensor([[-1.0], [1.0]])  # variance 2
        >>> round(Moments(lam=0.1, noise=1.0)(z, z).item(), 4)  # ½ (3/2 − 1 − log(3/2))
        0.0473
    """

    def __init__(self, lam: Lam, noise: Annotated[Positive, WayOut("0.1 keeps gradients small")] = 0.1) -> None:
        super().__init__(lam)
        self.noise = noise

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        self.check(*z.shape)
        return blurred_kl(z.double(), self.noise)

    def check(self, batch_size: int, latent_dim: int) -> None:
        check_integer("data.batch_size", batch_size, least=2, way_out="a covariance requires two codes")
