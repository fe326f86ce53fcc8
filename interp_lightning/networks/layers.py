"""Layers that networks and penalties share."""

import torch
from torch import Tensor, nn

SLOPE = 0.2  # of every leaky ReLU
BEYOND = 0.003  # slope of bounded images outside [−1, 1] in training


class LatentDiscriminator(nn.Module):
    """Multilayer perceptron on codes, (N, d) → logits (N,). It takes d from the first codes.

    Args:
        width: of each hidden layer.
        depth: number of hidden layers.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.LazyLinear(width), nn.ReLU()]
        for _ in range(depth - 1):
            layers += [nn.Linear(width, width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).squeeze(1)


class Bounded(nn.Module):
    """Bound images to [−1, 1]: the identity within, a slope of 0.003 beyond in training, clamped in evaluation.

    So a decoder need not hit black and white exactly, and can leave them again: Adam's steps do not depend on how
    small a gradient is. Where the slope vanishes, as with tanh, training can stay at black images.

    Example:
        >>> images = Bounded()
        >>> images(torch.tensor([0.5, -1.5, 3.0]))
        tensor([ 0.5000, -1.0015,  1.0060])
        >>> images.eval()(torch.tensor([0.5, -1.5, 3.0]))
        tensor([ 0.5000, -1.0000,  1.0000])
    """

    def forward(self, x: Tensor) -> Tensor:
        images = x.clamp(-1, 1)
        return images.lerp(x, BEYOND) if self.training else images


class Mean(nn.Module):
    """Average the features of each image: (B, d) → (B,)."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=1)


def leaky_relu() -> nn.Module:
    """Build the activation, in place: nothing else uses its input, the output of a convolution."""
    return nn.LeakyReLU(SLOPE, inplace=True)


def conv3(width: int, out: int) -> tuple[nn.Module, nn.Module]:
    """Build a 3 × 3 convolution and its activation: (B, width, H, W) → (B, out, H, W)."""
    return nn.Conv2d(width, out, 3, padding=1), leaky_relu()


def initialise(module: nn.Module) -> nn.Module:
    """Draw weights from N(0, 1/((1 + slope²)·fan_in)) and set biases to 0, in place.

    This is He et al. 2015 without the factor 2, as in the published code of ACAI.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=(1 / ((1 + SLOPE**2) * fan_in)) ** 0.5)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    # Saves a third of the time of convolutions on a CPU, and suits the tensor cores of a GPU.
    return module.to(memory_format=torch.channels_last)
