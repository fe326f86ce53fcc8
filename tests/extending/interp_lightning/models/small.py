"""model=small: an autoencoder whose codes stay small."""

import torch.nn.functional as F
from torch import Tensor

from interp_lightning.models.ae import AE
from interp_lightning.models.base import Pass


class Small(AE):
    """Autoencoder with the mean squared code as a further loss.

    Args:
        weight: of that loss.
        network, penalty, …: see `Autoencoder`.
    """

    def __init__(self, weight: float = 0.1, **kwargs) -> None:
        super().__init__(**kwargs)
        self.weight = weight

    def autoencoder_losses(self, p: Pass) -> dict[str, Tensor]:
        return {
            "reconstruction": F.mse_loss(p.x_hat, p.x),
            "size": self.weight * p.z.square().mean(),
            "penalty": self.penalty.lam * self.divergence(p),
        }
