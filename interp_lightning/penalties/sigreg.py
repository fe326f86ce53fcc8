"""penalty=sigreg: a test of normality along random directions, linear in the number of codes."""

from torch import Tensor

from interp_lightning.functional.normality import directions, epps_pulley
from interp_lightning.penalties.base import Lam, Penalty


class SIGReg(Penalty):
    """Epps–Pulley distance of characteristic functions to that of N(0, 1), over random directions.

    Each draw of the prior gives one direction: as many as there are codes, other ones at each step, and the same on all
    devices. The gradient of each code is bounded, so that outliers do not dominate. The paper's statistic is n times as
    large. Cost: n² (d + 17), linear in n for a fixed number of directions. Source: Balestriero and LeCun 2025,
    https://arxiv.org/abs/2511.08544.

    Args:
        lam: weight λ.

    Raises:
        ConfigError: an argument is not allowed by the signature.

    Example:
        >>> import torch
        >>> prior = torch.randn(512, 2, generator=torch.Generator().manual_seed(0))
        >>> penalty = SIGReg(lam=0.1)
        >>> bool(penalty(prior, prior) < 0.02 < penalty(prior + 1, prior))
        True
    """

    def __init__(self, lam: Lam) -> None:
        super().__init__(lam)

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return epps_pulley(z, directions(prior)).mean()
