"""network=acai: the convolutional autoencoder of the ACAI paper."""

import math

from torch import nn

from interp_lightning.errors import ConfigError
from interp_lightning.networks.base import ImageShape, Network
from interp_lightning.networks.folding import Folding
from interp_lightning.networks.layers import conv3, initialise
from interp_lightning.parameters import Count


class ACAINetwork(Network):
    """Convolutional autoencoder; Berthelot et al. 2018, https://arxiv.org/abs/1807.07543, appendix B.

    Args:
        image_shape: (C, H, W) with H = W.
        latent_dim: numbers per code, d = latent_width² · channels of the code.
        depth: channels at full resolution; each halving of the image doubles them.
        latent_width: height and width of the code, H divided by a power of 2.
        bounded: see `Network`; published without.

    Raises:
        ConfigError: an argument is not allowed by the signature, or the sizes of image and code do not match.

    Example:
        >>> import torch
        >>> network = ACAINetwork((1, 32, 32), latent_dim=32)
        >>> z = network.encoder()(torch.zeros(5, 1, 32, 32))
        >>> z.shape, network.decoder()(z).shape
        (torch.Size([5, 32]), torch.Size([5, 1, 32, 32]))
    """

    def __init__(
        self,
        image_shape: ImageShape,
        latent_dim: Count,
        depth: Count = 16,
        latent_width: Count = 4,
        bounded: bool = True,
    ) -> None:
        super().__init__(image_shape, latent_dim, depth, bounded)
        halvings = math.log2(self.size / latent_width)
        if not halvings.is_integer() or halvings < 1:
            widths = [self.size >> s for s in range(1, self.size.bit_length()) if self.size % (1 << s) == 0]
            if not widths:
                raise ConfigError(
                    f"network=acai requires images whose size (={self.size}) is even; choose another data.image_size, "
                    "or pad the images"
                )
            raise ConfigError(f"`network.latent_width` (={latent_width}) must be one of {widths} for this data set")
        area = latent_width**2
        if latent_dim % area:
            raise ConfigError(
                f"`latent_dim` (={latent_dim}) must be a multiple of {area} = network.latent_width², as the code "
                f"is a {latent_width}×{latent_width} grid of channels; use a multiple, or network=fast"
            )
        self.scales = int(halvings)
        self.latent_width = latent_width

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of a code as an image: (channels, height, width)."""
        return (self.latent_dim // self.latent_width**2, self.latent_width, self.latent_width)

    def encoder(self) -> nn.Module:
        layers: list[nn.Module] = [nn.Conv2d(self.channels, self.depth, 1)]  # (B, depth, H, W)
        width = self.depth
        for scale in range(self.scales):
            out = self.depth << scale
            layers += [*conv3(width, out), *conv3(out, out), nn.AvgPool2d(2)]  # (B, out, H / 2^(s+1), ·)
            width = out
        layers += [*conv3(width, self.depth << self.scales)]
        layers += [nn.Conv2d(self.depth << self.scales, self.latent_shape[0], 3, padding=1)]  # (B, *latent_shape)
        return initialise(Folding(*layers, nn.Flatten()))  # (B, d)

    def decoder(self) -> nn.Module:
        layers: list[nn.Module] = [nn.Unflatten(1, self.latent_shape)]
        width = self.latent_shape[0]
        for scale in reversed(range(self.scales)):
            out = self.depth << scale
            layers += [*conv3(width, out), *conv3(out, out), nn.Upsample(scale_factor=2)]  # (B, out, H / 2^s, ·)
            width = out
        layers += [*conv3(width, self.depth), *self.output(self.depth)]  # (B, C, H, W)
        return initialise(Folding(*layers))
