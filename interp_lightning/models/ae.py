"""model=ae: the plain autoencoder; with a penalty, a Wasserstein autoencoder."""

import torch.nn.functional as F
from torch import Tensor

from interp_lightning.models.base import Autoencoder, Pass


class AE(Autoencoder):
    """Autoencoder; with a penalty, the WAE of Tolstikhin et al. 2017, eq. 4: https://arxiv.org/abs/1711.01558."""

    def forward(self, x: Tensor) -> Pass:
        generator = self.generator()
        prior = self.draw_prior(len(x), generator)
        codes = self.embed(x, generator)
        return Pass(x=x, x_hat=self.decode(codes["z"]), prior=prior, **codes)

    def autoencoder_losses(self, p: Pass) -> dict[str, Tensor]:
        return {
            "reconstruction": F.mse_loss(p.x_hat, p.x),
            "penalty": self.penalty.lam * self.divergence(p),
        }

    def critic_losses(self, p: Pass) -> dict[str, Tensor]:
        return self.penalty_critic_losses(p)
