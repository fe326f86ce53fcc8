"""The interface of every network: a recipe that builds the parts that a model asks for."""

from abc import ABC, abstractmethod

from torch import nn

from interp_lightning.config.check import check
from interp_lightning.errors import ConfigError
from interp_lightning.networks.layers import Mean


class Network(ABC):
    """Recipe for the parts of an autoencoder of square images, all on flat codes.

    Args:
        image_shape: (C, H, W) with H = W, as the data module gives it.
        latent_dim: numbers per code, d.
        depth: channels of the widest scale; every halving of the image doubles them.
    """

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, depth: int) -> None:
        self.channels, self.size, width = image_shape
        if self.size != width:
            raise ConfigError(f"images must be square, but the data set gives {self.size}×{width}; pad or crop them")
        self.latent_dim = check("latent_dim", latent_dim)
        self.depth = check("network.depth", depth)

    @abstractmethod
    def encoder(self) -> nn.Module:
        """(B, C, H, W) → (B, d)."""

    @abstractmethod
    def decoder(self) -> nn.Module:
        """(B, d) → (B, C, H, W)."""

    def critic(self) -> nn.Module:
        """(B, C, H, W) → (B,): the encoder's architecture, averaged over its outputs (ACAI, section 2)."""
        return nn.Sequential(self.encoder(), Mean())
