"""network=linear: one layer each way."""

import math

from torch import nn

from interp_lightning.networks.base import Network


class LinearNetwork(Network):
    """Linear encoder and decoder."""

    def encoder(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(self.channels * self.size**2, self.latent_dim))

    def decoder(self) -> nn.Module:
        shape = (self.channels, self.size, self.size)
        return nn.Sequential(nn.Linear(self.latent_dim, math.prod(shape)), nn.Unflatten(1, shape))
