"""penalty=max_sliced: the sliced Wasserstein distance along its worst direction."""

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lightning.functional.normality import directions, sliced_w2
from interp_lightning.parameters import Natural, Positive
from interp_lightning.penalties.base import Lam, Penalty


class MaxSliced(Penalty):
    """Squared 2-Wasserstein distance to N(0, 1) along the direction where it is largest; Deshpande et al. 2019, eq. 6.

    The best of as many random directions as there are codes, and of the codes' mean, climbs by gradient steps on the
    sphere. The paper trains a network for it instead. Cost: that of `Sliced`, and n log n per step.
    https://arxiv.org/abs/1904.05877

    Args:
        lam: weight λ.
        steps: of gradient ascent.
        rate: angle of the first step; it falls to 0 linearly.

    Raises:
        ConfigError: an argument is not allowed by the signature.

    Example:
        >>> import torch
        >>> prior = torch.randn(512, 8, generator=torch.Generator().manual_seed(0))
        >>> shift = torch.tensor([3.0, 4, 0, 0, 0, 0, 0, 0])
        >>> 20 < MaxSliced(lam=0.01)(prior + shift, prior).item() < 30  # 3² + 4²
        True
    """

    def __init__(self, lam: Lam, steps: Natural = 10, rate: Positive = 0.3) -> None:
        super().__init__(lam)
        self.steps, self.rate = steps, rate

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return sliced_w2(z, self.worst(z.detach(), prior)).squeeze()

    @torch.enable_grad()
    def worst(self, z: Tensor, prior: Tensor) -> Tensor:
        """Return the direction where codes (N, d) are farthest from N(0, 1), (1, d)."""
        tried = torch.cat([directions(prior), directions(z.mean(0, keepdim=True))])
        theta = tried[sliced_w2(z, tried).argmax()][None]
        for step in range(self.steps):
            theta = theta.detach().requires_grad_()
            (slope,) = torch.autograd.grad(sliced_w2(z, theta).sum(), theta)
            along = F.normalize(slope - (slope * theta).sum() * theta, dim=1)
            theta = F.normalize(theta + self.rate * (1 - step / self.steps) * along, dim=1)
        return theta.detach()
