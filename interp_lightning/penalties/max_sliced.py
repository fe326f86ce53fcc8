"""penalty=max_sliced: the sliced Wasserstein distance along its worst direction, which the critic player looks for."""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from interp_lightning.functional.normality import sliced_w2
from interp_lightning.parameters import Count, Rate
from interp_lightning.penalties.base import Lam, Penalty


class MaxSliced(Penalty):
    """Squared 2-Wasserstein distance to N(0, 1) along the worst direction; Deshpande et al. 2019, eq. 6.

    The critic player turns directions to where codes and prior differ most, by one step of gradient ascent per step of
    training; the worst of them counts. One alone would often stay at a direction that others have become worse than.
    The paper's algorithm 1 learns a direction in the same way, in the feature space of a discriminator. The quantiles
    of N(0, 1) are known, so the prior adds no noise. Cost: with m directions n m d for the projections, m n log n to
    sort. https://arxiv.org/abs/1904.05877

    Args:
        lam: weight λ.
        directions: their number m.
        lr: learning rate of the directions: about the angle of a step in radians, over √d.

    Raises:
        ConfigError: an argument is not allowed by the signature.

    Example:
        >>> import torch
        >>> prior = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
        >>> penalty, shifted = MaxSliced(lam=0.001), prior + torch.tensor([3.0, 4, 0, 0, 0, 0, 0, 0])
        >>> 0 < penalty(shifted, prior).item() < 30  # with learned directions, about 3² + 4²
        True
        >>> sorted(penalty.critic_losses(shifted, prior))
        ['direction_norm', 'worst_directions']
    """

    def __init__(self, lam: Lam, directions: Count = 32, lr: Rate | None = 0.01) -> None:
        super().__init__(lam, lr)
        self.directions = nn.LazyLinear(directions, bias=False)

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return self._along(z).amax()

    def critic_losses(self, z: Tensor, prior: Tensor) -> dict[str, Tensor]:
        # Distances ignore the norm, which Adam's steps would lengthen, and longer vectors turn more slowly.
        squared_norms = self.directions.weight.square().sum(1)
        return {"worst_directions": -self._along(z).mean(), "direction_norm": (squared_norms - 1).square().mean()}

    def _along(self, z: Tensor) -> Tensor:
        """Return the distance along each direction, (m,)."""
        if is_lazy(self.directions.weight):
            self.directions(z.to(self.directions.weight.dtype))
        return sliced_w2(z, F.normalize(self.directions.weight).to(z.dtype))
