"""penalty=gan: WAE-GAN, which is the adversarial autoencoder when the reconstruction is squared error."""

import torch.nn.functional as F
from torch import Tensor

from interp_lightning.errors import check_integer
from interp_lightning.networks import LatentDiscriminator
from interp_lightning.penalties.base import Penalty


class GAN(Penalty):
    """Jensen–Shannon divergence through a latent discriminator D, Tolstikhin et al. 2017, algorithm 1.

    The codes minimise −log σ(D(z)), the non-saturating form (Goodfellow et al. 2014, section 3); the
    discriminator minimises −log σ(D(p)) − log(1 − σ(D(z))). https://arxiv.org/abs/1711.01558

    Args:
        lam: weight λ.
        width, depth: of the discriminator's hidden layers; 4 × 512 in the published code.
        lr: the discriminator's learning rate; half of the autoencoder's in the paper.
    """

    def __init__(self, lam: float, width: int = 512, depth: int = 4, lr: float | None = 5e-4) -> None:
        super().__init__(lam, lr)
        check_integer("penalty.width", width, least=1)
        check_integer("penalty.depth", depth, least=1)
        self.discriminator = LatentDiscriminator(width, depth)

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return F.softplus(-self.discriminator(z)).mean()

    def critic_losses(self, z: Tensor, prior: Tensor) -> dict[str, Tensor]:
        return {
            "latent_prior": F.softplus(-self.discriminator(prior)).mean(),
            "latent_codes": F.softplus(self.discriminator(z)).mean(),
        }
