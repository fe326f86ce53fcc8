"""penalty=bhep: WAE-MMD with a Gaussian kernel and no draws of the prior."""

from typing import Annotated

from torch import Tensor

from interp_lightning.functional.normality import gaussian_mmd
from interp_lightning.parameters import Positive, WayOut
from interp_lightning.penalties.base import Lam, Penalty


class BHEP(Penalty):
    """Squared MMD to N(0, I) with the kernel exp(−β²‖x − y‖²/2), the prior integrated out; Henze and Zirkler 1990.

    It has no noise of draws, and is ≥ 0: codes of N(0, I) give (1 − (1 + 2β²)^(−d/2))/n on average. Cost: n² d.

    Args:
        lam: weight λ.
        beta: one over the kernel's width; None takes 1/√d, so that the kernel of two draws is about 1/e.

    Raises:
        ConfigError: an argument is not allowed by the signature.

    Example:
        >>> import torch
        >>> prior = torch.randn(512, 2, generator=torch.Generator().manual_seed(0))
        >>> penalty = BHEP(lam=1.0)
        >>> bool(penalty(prior, prior) < 0.01 < penalty(prior + 1, prior))
        True
    """

    def __init__(self, lam: Lam, beta: Annotated[Positive, WayOut("null is 1/√d")] | None = None) -> None:
        super().__init__(lam)
        self.beta = beta

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return gaussian_mmd(z.double(), self.beta or z.shape[1] ** -0.5)
