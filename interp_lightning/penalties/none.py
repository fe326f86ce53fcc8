"""penalty=none: no penalty on the codes."""

from typing import Annotated

from pydantic import Field
from torch import Tensor

from interp_lightning.parameters import WayOut
from interp_lightning.penalties.base import Penalty


class NoPenalty(Penalty):
    """D = 0: leave the codes' distribution free.

    Args:
        lam: weight λ, which must be 0.

    Example:
        >>> import torch
        >>> NoPenalty()(torch.ones(4, 2), torch.randn(4, 2))
        tensor(0.)
    """

    def __init__(
        self, lam: Annotated[float, Field(ge=0, le=0, description="0"), WayOut("choose another penalty")] = 0.0
    ) -> None:
        super().__init__(lam)

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return z.new_zeros(())
