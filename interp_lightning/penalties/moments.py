"""penalty=moments: the Kullback–Leibler divergence of the codes' Gaussian from the prior."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from interp_lightning.functional.divergences import gaussian_divergence
from interp_lightning.parameters import check_integer
from interp_lightning.penalties.base import Lam, Penalty

Blur = Annotated[float, Field(gt=0, le=1)]


class Moments(Penalty):
    """½·(‖z̄‖² + Tr Σ − d − log det Σ): KL(N(z̄, Σ) ‖ N(0, I)) of the codes' mean and covariance.

    It sees what W2 sees, but pulls harder on directions in which codes hardly vary. The estimate is biased by about
    d(d + 3)/4n. Cost: n d² + d³; on a GPU d small operations after another. Source: Kullback 1959, chapter 9.

    Args:
        lam: weight λ.
        blur: share ε of the identity in Σ, which bounds that pull.

    Raises:
        ConfigError: an argument is not allowed by the signature, or a batch has fewer than 2 codes.

    Example:
        >>> import torch
        >>> z = torch.randn(4096, 3, generator=torch.Generator().manual_seed(0))
        >>> penalty = Moments(lam=0.002)
        >>> bool(penalty(z, z) < 0.01), round(penalty(z + 2, z).item())  # ½·3·2²
        (True, 6)
    """

    def __init__(self, lam: Lam, blur: Blur = 0.01) -> None:
        super().__init__(lam)
        self.blur = blur

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        self.check(*z.shape)
        return gaussian_divergence(z.double(), self.blur)

    def check(self, batch_size: int, latent_dim: int) -> None:
        check_integer("data.batch_size", batch_size, least=2, way_out="a covariance needs two codes")
