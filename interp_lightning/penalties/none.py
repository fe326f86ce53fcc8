"""penalty=none: no penalty on the codes."""

from torch import Tensor

from interp_lightning.penalties.base import Lam, Penalty


class NoPenalty(Penalty):
    """D = 0: leave the codes' distribution free.

    Args:
        lam: weight λ, without effect.

    Example:
        >>> import torch
        >>> NoPenalty()(torch.ones(4, 2), torch.randn(4, 2))
        tensor(0.)
    """

    def __init__(self, lam: Lam = 0.0) -> None:
        super().__init__(lam)

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return z.new_zeros(())
