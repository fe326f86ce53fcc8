"""penalty=mean: compare means only."""

from torch import Tensor

from interp_lightning.penalties.base import Penalty


class Mean(Penalty):
    """Squared distance of the codes' mean to the mean of the prior's draws."""

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return (z.mean(0) - prior.mean(0)).square().sum()
