"""model=ae: the plain autoencoder; with a penalty, a Wasserstein autoencoder."""

import torch.nn.functional as F
from torch import Tensor

from interp_lightning.models.base import Autoencoder, Pass


class AE(Autoencoder):
    """Autoencoder; with a penalty, the WAE of Tolstikhin et al. 2017, eq. 4: https://arxiv.org/abs/1711.01558."""

    def forward(self, x: Tensor) -> Pass:
        z = self.encode(x)
        return Pass(x=x, z=z, x_hat=self.decode(z), prior=self.draw_prior(len(x), self.generator()))

    def autoencoder_losses(self, p: Pass) -> dict[str, Tensor]:
        return {
            "reconstruction": F.mse_loss(p.x_hat, p.x),
            "penalty": self.penalty.lam * self.divergence(p),
        }

    def critic_losses(self, p: Pass) -> dict[str, Tensor]:
        return self.penalty_critic_losses(p)
