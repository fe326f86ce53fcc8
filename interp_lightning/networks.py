"""Encoders, decoders and critics. A network is a recipe: it builds the parts that a model asks for."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from interp_lightning.errors import ConfigError
from interp_lightning.folding import Folding
from interp_lightning.settings import check

SLOPE = 0.2  # of every leaky ReLU


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


class ACAINetwork(Network):
    """The convolutional autoencoder of ACAI, https://arxiv.org/abs/1807.07543, appendix B.

    Args:
        latent_width: the code's spatial size; latent_dim = latent_width² · channels.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], latent_dim: int, depth: int = 16, latent_width: int = 4
    ) -> None:
        super().__init__(image_shape, latent_dim, depth)
        check("network.latent_width", latent_width)
        halvings = math.log2(self.size / latent_width)
        if not halvings.is_integer() or halvings < 1:
            widths = [self.size >> s for s in range(1, self.size.bit_length()) if self.size % (1 << s) == 0]
            raise ConfigError(f"`network.latent_width` (={latent_width}) must be one of {widths} for this data set")
        area = latent_width**2
        if latent_dim % area:
            raise ConfigError(
                f"`latent_dim` (={latent_dim}) must be a multiple of {area} = network.latent_width², as the code "
                f"is a {latent_width}×{latent_width} grid of channels; use another of them, or network=fast"
            )
        self.scales = int(halvings)
        self.latent_shape = (latent_dim // area, latent_width, latent_width)

    def encoder(self) -> nn.Module:
        layers: list[nn.Module] = [nn.Conv2d(self.channels, self.depth, 1)]  # (B, depth, H, W)
        width = self.depth
        for scale in range(self.scales):
            out = self.depth << scale
            layers += [*_conv3(width, out), *_conv3(out, out), nn.AvgPool2d(2)]  # (B, out, H / 2^(s+1), ·)
            width = out
        layers += [*_conv3(width, self.depth << self.scales)]
        layers += [nn.Conv2d(self.depth << self.scales, self.latent_shape[0], 3, padding=1)]  # (B, *latent_shape)
        return _initialise(Folding(*layers, nn.Flatten()))  # (B, d)

    def decoder(self) -> nn.Module:
        layers: list[nn.Module] = [nn.Unflatten(1, self.latent_shape)]
        width = self.latent_shape[0]
        for scale in reversed(range(self.scales)):
            out = self.depth << scale
            layers += [*_conv3(width, out), *_conv3(out, out), nn.Upsample(scale_factor=2)]  # (B, out, H / 2^s, ·)
            width = out
        layers += [*_conv3(width, self.depth), nn.Conv2d(self.depth, self.channels, 3, padding=1)]  # (B, C, H, W)
        return _initialise(Folding(*layers))


class FastNetwork(Network):
    """ACAINetwork's blocks from half resolution down, where they are cheap, and one linear layer: any latent_dim."""

    def __init__(self, image_shape: tuple[int, int, int], latent_dim: int, depth: int = 16) -> None:
        super().__init__(image_shape, latent_dim, depth)
        if self.size % 8:
            raise ConfigError(f"network=fast needs images whose size (={self.size}) is a multiple of 8; pad them")
        self.inner_shape = (4 * depth, self.size // 8, self.size // 8)

    def encoder(self) -> nn.Module:
        d = self.depth
        return _initialise(
            Folding(
                *(
                    nn.Conv2d(self.channels, d, 4, stride=2, padding=1),
                    _leaky_relu(),
                ),  # (B, d, H/2, W/2)
                *(*_conv3(d, d), nn.AvgPool2d(2)),  # (B, d, H/4, W/4)
                *(*_conv3(d, 2 * d), *_conv3(2 * d, 2 * d), nn.AvgPool2d(2)),  # (B, 2d, H/8, W/8)
                *(*_conv3(2 * d, 4 * d), nn.Flatten()),  # (B, 4d · H/8 · W/8)
                nn.Linear(math.prod(self.inner_shape), self.latent_dim),
            )
        )

    def decoder(self) -> nn.Module:
        d = self.depth
        return _initialise(
            Folding(
                nn.Linear(self.latent_dim, math.prod(self.inner_shape)),
                *(nn.Unflatten(1, self.inner_shape), _leaky_relu()),  # (B, 4d, H/8, W/8)
                *(*_conv3(4 * d, 2 * d), nn.Upsample(scale_factor=2)),  # (B, 2d, H/4, W/4)
                *(*_conv3(2 * d, 2 * d), *_conv3(2 * d, d), nn.Upsample(scale_factor=2)),  # (B, d, H/2, W/2)
                *(*_conv3(d, d), nn.Upsample(scale_factor=2)),  # (B, d, H, W)
                nn.Conv2d(d, self.channels, 3, padding=1),
            )
        )


class LatentDiscriminator(nn.Module):
    """Multilayer perceptron on codes, (N, d) → (N,) logits; d is inferred from the first codes it sees."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.LazyLinear(width), nn.ReLU()]
        for _ in range(depth - 1):
            layers += [nn.Linear(width, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).squeeze(1)


class Mean(nn.Module):
    """(B, d) → (B,)."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=1)


def _leaky_relu() -> nn.Module:
    return nn.LeakyReLU(SLOPE, inplace=True)  # of convolutions' outputs, which nobody else needs


def _conv3(width: int, out: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(width, out, 3, padding=1), _leaky_relu()


def _initialise(module: nn.Module) -> nn.Module:
    """Weights N(0, 1/((1 + slope²)·fan_in)), biases 0: He et al. 2015 without its factor 2, as ACAI's code has it."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=(1 / ((1 + SLOPE**2) * fan_in)) ** 0.5)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    # Convolutions on a CPU take a third less time; on a GPU it is what tensor cores want.
    return module.to(memory_format=torch.channels_last)
