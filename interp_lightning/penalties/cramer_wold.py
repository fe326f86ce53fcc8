"""penalty=cramer_wold: the Cramér–Wold autoencoder."""

from typing import Annotated

from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.functional.normality import LARGE, cramer_wold
from interp_lightning.parameters import Positive, WayOut
from interp_lightning.penalties.base import Lam, Penalty


class CramerWold(Penalty):
    """Squared Cramér–Wold distance to N(0, I): of smoothed densities over all directions; Tabor et al. 2018.

    Its closed form is exact for d = 2 and an approximation for d ≥ 20; there is none between. The paper minimises its
    logarithm, whose gradient does not vanish near the prior. Cost: n² d. https://arxiv.org/abs/1805.09235

    Args:
        lam: weight λ.
        gamma: variance of the smoothing; None takes (4/(3n))^(2/5), Silverman's rule, as the paper does.

    Raises:
        ConfigError: an argument is not allowed by the signature, or codes have neither 2 nor at least 20 numbers.

    Example:
        >>> import torch
        >>> prior = torch.randn(512, 20, generator=torch.Generator().manual_seed(0))
        >>> penalty = CramerWold(lam=1.0)
        >>> bool(penalty(prior, prior) < 0.01 < penalty(prior + 1, prior))
        True
    """

    def __init__(self, lam: Lam, gamma: Annotated[Positive, WayOut("null is (4/(3n))^(2/5)")] | None = None) -> None:
        super().__init__(lam)
        self.gamma = gamma

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        self.check(*z.shape)
        return cramer_wold(z.double(), self.gamma or (4 / (3 * len(z))) ** 0.4)

    def check(self, batch_size: int, latent_dim: int) -> None:
        if latent_dim != 2 and latent_dim < LARGE:
            raise ConfigError(
                f"`latent_dim` (={latent_dim}) must be 2 or ≥ {LARGE} for penalty=cramer_wold, whose closed form holds "
                "there only; use penalty=bhep or penalty=sliced for other sizes"
            )
