"""network=fast: about half of the paper's network's cost, and any latent_dim."""

import math

from torch import nn

from interp_lightning.errors import ConfigError
from interp_lightning.networks.base import Network
from interp_lightning.networks.folding import Folding
from interp_lightning.networks.layers import conv3, initialise, leaky_relu


class FastNetwork(Network):
    """ACAINetwork's blocks from half resolution down, where they are cheap, and one linear layer: any latent_dim."""

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, depth: int = 16) -> None:
        super().__init__(image_shape, latent_dim, depth)
        if self.size % 8:
            raise ConfigError(f"network=fast needs images whose size (={self.size}) is a multiple of 8; pad them")
        self.inner_shape = (4 * depth, self.size // 8, self.size // 8)

    def encoder(self) -> nn.Module:
        d = self.depth
        return initialise(
            Folding(
                *(
                    nn.Conv2d(self.channels, d, 4, stride=2, padding=1),
                    leaky_relu(),
                ),  # (B, d, H/2, W/2)
                *(*conv3(d, d), nn.AvgPool2d(2)),  # (B, d, H/4, W/4)
                *(*conv3(d, 2 * d), *conv3(2 * d, 2 * d), nn.AvgPool2d(2)),  # (B, 2d, H/8, W/8)
                *(*conv3(2 * d, 4 * d), nn.Flatten()),  # (B, 4d · H/8 · W/8)
                nn.Linear(math.prod(self.inner_shape), self.latent_dim),
            )
        )

    def decoder(self) -> nn.Module:
        d = self.depth
        return initialise(
            Folding(
                nn.Linear(self.latent_dim, math.prod(self.inner_shape)),
                *(nn.Unflatten(1, self.inner_shape), leaky_relu()),  # (B, 4d, H/8, W/8)
                *(*conv3(4 * d, 2 * d), nn.Upsample(scale_factor=2)),  # (B, 2d, H/4, W/4)
                *(*conv3(2 * d, 2 * d), *conv3(2 * d, d), nn.Upsample(scale_factor=2)),  # (B, d, H/2, W/2)
                *(*conv3(d, d), nn.Upsample(scale_factor=2)),  # (B, d, H, W)
                nn.Conv2d(d, self.channels, 3, padding=1),
            )
        )
