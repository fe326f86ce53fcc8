"""penalty=sliced: the sliced Wasserstein autoencoder."""

from torch import Tensor

from interp_lightning.functional.normality import directions, sliced_w2
from interp_lightning.penalties.base import Lam, Penalty


class Sliced(Penalty):
    """Mean squared 2-Wasserstein distance to N(0, 1) over random directions; Kolouri et al. 2018, eq. 6.

    Along a direction, optimal transport sorts. The quantiles of N(0, 1) are known, so the prior adds no noise. Each
    draw of the prior gives one direction: as many as there are codes, other ones at each step, and the same on all
    devices. Cost: n² d for the projections, n² log n to sort. https://arxiv.org/abs/1804.01947

    Args:
        lam: weight λ.

    Raises:
        ConfigError: an argument is not allowed by the signature.

    Example:
        >>> import torch
        >>> prior = torch.randn(512, 2, generator=torch.Generator().manual_seed(0))
        >>> penalty = Sliced(lam=0.01)
        >>> bool(penalty(prior, prior) < 0.05), round(penalty(prior + 4, prior).item())  # a shift of (4, 4): 4²·2/2
        (True, 16)
    """

    def __init__(self, lam: Lam) -> None:
        super().__init__(lam)

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return sliced_w2(z, directions(prior)).mean()
