"""Define the interface of every penalty."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated

from torch import Tensor, nn

from interp_lightning.parameters import Configurable, Rate, WayOut, Weight

Lam = Annotated[Weight, WayOut("use penalty=none to switch it off")]


class Penalty(Configurable, nn.Module, ABC, group="penalty"):
    """A divergence D(Q_z, P_z) between the codes' distribution Q_z and the prior P_z.

    The critic player trains the penalty's parameters, if there are any. Models call the penalty outside autocast, in
    float32 or higher, on the codes of the global batch.

    Args:
        lam: weight λ of the penalty in the autoencoder's loss.
        lr: learning rate of the penalty's own parameters; None takes the optimizer's.

    Raises:
        ConfigError: an argument is not allowed by the signature.

    Example:
        >>> import torch
        >>> class SecondMoment(Penalty):
        ...     def forward(self, z, prior):
        ...         return (z.square().mean() - prior.square().mean()).square()
        >>> SecondMoment(lam=0.1)(torch.zeros(4, 2), torch.ones(4, 2))
        tensor(1.)
    """

    def __init__(self, lam: Lam, lr: Rate | None = None) -> None:
        super().__init__()
        self.lam = lam
        self.lr = lr

    @abstractmethod
    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        """Return the divergence without its weight: codes (N, d), as many draws of the prior (N, d) → ()."""

    def attach(self, decode: Callable[[Tensor], Tensor]) -> None:
        """Learn how the model decodes, codes (N, d) → images; for penalties of the decoder. Called once."""

    def of_gaussians(self, z: Tensor, prior: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the divergence of stochastic codes; by default that of one draw of each.

        Args:
            z: (N, d) draws of the codes' Gaussians.
            prior: (N, d) draws of the prior.
            mean, variance: (N, d) of the Gaussians.
        """
        return self(z, prior)

    def critic_losses(self, z: Tensor, prior: Tensor) -> dict[str, Tensor]:
        """Return the losses of the penalty's own parameters, by name; empty if it has none. z comes detached."""
        return {}

    def critic_predictions(self, z: Tensor, prior: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the critic's predictions and targets, (M,) each, by critic name. Empty if there is no critic."""
        return {}

    def prior(self, noise: Tensor) -> Tensor:
        """Turn standard normal noise (N, d) into draws of the prior P_z (N, d)."""
        return noise

    def check(self, batch_size: int, latent_dim: int) -> None:
        """Raise ConfigError if batches of this size cannot work with codes of this size; warn if they work badly."""
