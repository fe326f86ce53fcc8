"""Layers that several networks share."""

import torch
from torch import Tensor, nn

SLOPE = 0.2  # of every leaky ReLU


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


def leaky_relu() -> nn.Module:
    return nn.LeakyReLU(SLOPE, inplace=True)  # of convolutions' outputs, which nobody else needs


def conv3(width: int, out: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(width, out, 3, padding=1), leaky_relu()


def initialise(module: nn.Module) -> nn.Module:
    """Weights N(0, 1/((1 + slope²)·fan_in)), biases 0: He et al. 2015 without its factor 2, as ACAI's code has it."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            fan_in = layer.weight[0].numel()
            nn.init.normal_(layer.weight, std=(1 / ((1 + SLOPE**2) * fan_in)) ** 0.5)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    # Convolutions on a CPU take a third less time; on a GPU it is what tensor cores want.
    return module.to(memory_format=torch.channels_last)
