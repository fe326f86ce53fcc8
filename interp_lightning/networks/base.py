"""Define the interface of every network."""

from abc import ABC, abstractmethod
from copy import copy

from torch import nn

from interp_lightning.errors import ConfigError
from interp_lightning.networks.layers import Bounded, Mean
from interp_lightning.parameters import Configurable, Count

ImageShape = tuple[Count, Count, Count]  # (C, H, W)


class Network(Configurable, ABC, group="network", top_level=("latent_dim",)):
    """A recipe for the parts of an autoencoder of square images, on flat codes.

    Args:
        image_shape: (C, H, W) with H = W, as the data set declares it.
        latent_dim: numbers per code, d.
        depth: channels at the highest resolution; each halving of the image doubles them.
        bounded: bound decoded images to [−1, 1], so that black is black; see `Bounded`.

    Raises:
        ConfigError: an argument is not allowed by the signature, or the images are not square.

    Example:
        >>> import torch
        >>> class Linear(Network):
        ...     def __init__(self, image_shape, latent_dim, depth=1):
        ...         super().__init__(image_shape, latent_dim, depth)
        ...     def encoder(self):
        ...         return nn.Sequential(nn.Flatten(), nn.LazyLinear(self.latent_dim))
        ...     def decoder(self):
        ...         shape = (self.channels, self.size, self.size)
        ...         return nn.Sequential(nn.LazyLinear(self.channels * self.size**2), nn.Unflatten(1, shape))
        >>> Linear((1, 32, 32), latent_dim=2).encoder()(torch.zeros(5, 1, 32, 32)).shape
        torch.Size([5, 2])
    """

    def __init__(self, image_shape: ImageShape, latent_dim: Count, depth: Count, bounded: bool = True) -> None:
        self.channels, self.size, width = image_shape
        if self.size != width:
            raise ConfigError(f"images must be square, but the data set gives {self.size}×{width}; pad or crop them")
        self.latent_dim = latent_dim
        self.depth = depth
        self.bounded = bounded

    def output(self, width: int) -> tuple[nn.Module, ...]:
        """Build the decoder's last layers: (B, width, H, W) → images (B, C, H, W)."""
        convolution = nn.Conv2d(width, self.channels, 3, padding=1)
        return (convolution, Bounded()) if self.bounded else (convolution,)

    @abstractmethod
    def encoder(self) -> nn.Module:
        """Build the encoder: images (B, C, H, W) → codes (B, d)."""

    @abstractmethod
    def decoder(self) -> nn.Module:
        """Build the decoder: codes (B, d) → images (B, C, H, W)."""

    def gaussian_encoder(self) -> nn.Module:
        """Build an encoder with twice as many outputs: images (B, C, H, W) → means and log σ² of codes (B, 2d)."""
        wider = copy(self)
        wider.latent_dim = 2 * self.latent_dim
        return wider.encoder()

    def critic(self) -> nn.Module:
        """Build the critic, images (B, C, H, W) → (B,): an encoder and the mean of its outputs (ACAI, section 2)."""
        return nn.Sequential(self.encoder(), Mean())
