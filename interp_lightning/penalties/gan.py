"""penalty=gan: WAE-GAN. With squared error as reconstruction loss it is the adversarial autoencoder."""

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from interp_lightning.functional.critics import squared_slope
from interp_lightning.networks.layers import LatentDiscriminator
from interp_lightning.parameters import Count, Rate, Weight
from interp_lightning.penalties.base import Lam, Penalty


class GAN(Penalty):
    """Jensen–Shannon divergence by a latent discriminator D; Tolstikhin et al. 2017, algorithm 1.

    The encoder minimises −log σ(D(z)), the non-saturating form (Goodfellow et al. 2014, section 3). The discriminator
    minimises −log σ(D(p)) − log(1 − σ(D(z))) + r1/2 · ‖∇D‖². https://arxiv.org/abs/1711.01558

    The gradient term is not in the paper. Without it the discriminator soon separates all codes from all draws of the
    prior, its gradient carries no direction, and the codes drift and collapse. Mescheder et al. 2018, section 4,
    https://arxiv.org/abs/1801.04406, take it on one of the two distributions; this class takes it on both.

    Args:
        lam: weight λ.
        width: of each hidden layer of the discriminator; 512 in the published code.
        depth: hidden layers of the discriminator; 4 in the published code.
        lr: learning rate of the discriminator; half of the autoencoder's in the paper.
        r1: weight of the mean squared norm of the discriminator's gradient; 0 in the paper.

    Raises:
        ConfigError: an argument is not allowed by the signature.

    Example:
        >>> z, prior = torch.zeros(8, 2), torch.randn(8, 2)
        >>> penalty = GAN(lam=0.01)
        >>> penalty(z, prior).shape
        torch.Size([])
        >>> sorted(penalty.critic_losses(z, prior))
        ['latent_codes', 'latent_prior', 'latent_slope']
    """

    def __init__(
        self,
        lam: Lam,
        width: Count = 256,
        depth: Annotated[int, Field(ge=1, le=1_000)] = 3,
        lr: Rate | None = 3e-3,
        r1: Weight = 0.1,
    ) -> None:
        super().__init__(lam, lr)
        self.r1 = r1
        self.discriminator = LatentDiscriminator(width, depth)

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return F.softplus(-self.discriminator(z)).mean()

    def critic_losses(self, z: Tensor, prior: Tensor) -> dict[str, Tensor]:
        return {
            "latent_prior": F.softplus(-self.discriminator(prior)).mean(),
            "latent_codes": F.softplus(self.discriminator(z)).mean(),
            **(
                {"latent_slope": self.r1 / 2 * squared_slope(self.discriminator, torch.cat([z, prior]))}
                if self.r1
                else {}
            ),
        }

    def critic_predictions(self, z: Tensor, prior: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        predicted = self.discriminator(torch.cat([z, prior])).sigmoid()
        target = torch.cat([torch.zeros_like(z[:, 0]), torch.ones_like(prior[:, 0])])
        return {"latent_discriminator": (predicted, target)}
