"""The interface of every penalty."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from interp_lightning.config.check import check


class Penalty(nn.Module, ABC):
    """D(Q_z, P_z), a divergence between the codes' distribution and the prior.

    Its parameters, if it has any, belong to the critic player. Models call it in float32 or higher, outside
    autocast, on the codes of the global batch.

    Args:
        lam: the weight λ ≥ 0 with which the model minimises it.
        lr: learning rate of the penalty's own parameters; None takes the optimizer's.
    """

    def __init__(self, lam: float, lr: float | None = None) -> None:
        super().__init__()
        self.lam = check("penalty.lam", lam)
        self.lr = check("penalty.lr", lr)

    @abstractmethod
    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        """The divergence, unweighted: codes (N, d) and as many draws of the prior (N, d) → ()."""

    def critic_losses(self, z: Tensor, prior: Tensor) -> dict[str, Tensor]:
        """What the penalty's own parameters minimise, by name; z comes detached. Empty if nothing is adversarial."""
        return {}

    def critic_predictions(self, z: Tensor, prior: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the critic's predictions and targets, (M,) each, by critic name. Empty if there is no critic."""
        return {}

    def prior(self, noise: Tensor) -> Tensor:
        """Turn standard normal noise, (N, d), into draws of the prior P_z, (N, d)."""
        return noise

    def check(self, batch_size: int, latent_dim: int) -> None:
        """Raise ConfigError if batches of that many codes of that size cannot work; warn if they work badly."""
