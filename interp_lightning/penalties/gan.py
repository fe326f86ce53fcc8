"""penalty=gan: WAE-GAN, which is the adversarial autoencoder when the reconstruction is squared error."""

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_lightning.config.check import check
from interp_lightning.networks.layers import LatentDiscriminator
from interp_lightning.penalties.base import Penalty


class GAN(Penalty):
    """Jensen–Shannon divergence through a latent discriminator D, Tolstikhin et al. 2017, algorithm 1.

    The codes minimise −log σ(D(z)), the non-saturating form (Goodfellow et al. 2014, section 3); the
    discriminator minimises −log σ(D(p)) − log(1 − σ(D(z))) + r1/2 · ‖∇D‖². https://arxiv.org/abs/1711.01558

    The last term is not in the paper. Without it the discriminator soon tells all codes from all draws of the prior,
    its gradient no longer says where to go, and the codes drift and collapse (Mescheder et al. 2018, section 4,
    https://arxiv.org/abs/1801.04406, on either distribution; here on both).

    Args:
        lam: weight λ.
        width, depth: of the discriminator's hidden layers; 4 × 512 in the published code.
        lr: the discriminator's learning rate; half of the autoencoder's in the paper.
        r1: weight ≥ 0 of the mean squared norm of the discriminator's gradient; 0 in the paper.
    """

    def __init__(self, lam: float, width: int = 256, depth: int = 3, lr: float | None = 3e-3, r1: float = 0.1) -> None:
        super().__init__(lam, lr)
        check("penalty.width", width)
        check("penalty.depth", depth)
        self.r1 = check("penalty.r1", r1)
        self.discriminator = LatentDiscriminator(width, depth)

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return F.softplus(-self.discriminator(z)).mean()

    def critic_losses(self, z: Tensor, prior: Tensor) -> dict[str, Tensor]:
        return {
            "latent_prior": F.softplus(-self.discriminator(prior)).mean(),
            "latent_codes": F.softplus(self.discriminator(z)).mean(),
            **({"latent_slope": self.r1 / 2 * self._squared_slope(torch.cat([z, prior]))} if self.r1 else {}),
        }

    def critic_predictions(self, z: Tensor, prior: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        predicted = self.discriminator(torch.cat([z, prior])).sigmoid()
        target = torch.cat([torch.zeros_like(z[:, 0]), torch.ones_like(prior[:, 0])])
        return {"latent_discriminator": (predicted, target)}

    def _squared_slope(self, points: Tensor) -> Tensor:
        """Mean of ‖∇D‖² at points (N, d): ()."""
        points.requires_grad_()
        (slope,) = torch.autograd.grad(self.discriminator(points).sum(), points, create_graph=True)
        return slope.square().sum(1).mean()
