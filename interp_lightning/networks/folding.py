"""Pairs of layers computed as one, exactly: the same function of the same parameters, with less arithmetic."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Folding(nn.Sequential):
    """A Sequential that folds what it can: its parameters, state dict and values are those of the plain one.

    - A 1 × 1 convolution before a 3 × 3 one, with nothing in between (ACAI's encoders begin so): one 3 × 3 convolution.
    - Doubling the size (nearest) before a 3 × 3 convolution: one transposed convolution of the small image.
    """

    _compiled: Callable[[Tensor], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        return self._compiled(x) if self.training and self._compiled is not None else self._folded(x)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile what training steps compute, in place; in evaluation batches have other sizes, and are few."""
        self._compiled = torch.compile(self._folded, *args, **kwargs)

    def _folded(self, x: Tensor) -> Tensor:
        layers = list(self)
        while layers:
            first, second = layers[0], layers[1] if len(layers) > 1 else None
            if _plain_conv(first, 1) and _plain_conv(second, 3):
                x = pointwise_then_conv(x, first, second)  # type: ignore[arg-type]
            elif _doubles(first) and _plain_conv(second, 3):
                x = upsample_then_conv(x, second)  # type: ignore[arg-type]
            else:
                x = first(x)
                layers = layers[1:]
                continue
            layers = layers[2:]
        return x


def compile_networks(model: nn.Module) -> None:
    """Compile every `Folding` in a model."""
    for part in model.modules():
        if isinstance(part, Folding):
            part.compile()


def pointwise_then_conv(x: Tensor, pointwise: nn.Conv2d, conv: nn.Conv2d) -> Tensor:
    """conv(pointwise(x)), (B, C, H, W) → (B, C′, H, W), without the layer in between.

    The first layer's bias goes with a channel of ones, since the second pads the first one's output with zeros.
    """
    weight = torch.einsum("ochw,ck->okhw", conv.weight, pointwise.weight[:, :, 0, 0])
    assert pointwise.bias is not None
    bias = torch.einsum("ochw,c->ohw", conv.weight, pointwise.bias)[:, None]
    x = _as_stored(torch.cat([x, torch.ones_like(x[:, :1])], dim=1), conv)
    return F.conv2d(x, _as_stored(torch.cat([weight, bias], dim=1), conv), conv.bias, padding=1)


def upsample_then_conv(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """conv(x with each pixel doubled), (B, C, H, W) → (B, C′, 2H, 2W), from the small image.

    Output pixel p takes input pixel m through w[k] where ⌊(p + k − 1)/2⌋ = m: with t = p − 2m + 1 these are k = 2 − t
    and 3 − t, so the transposed kernel is the flipped 3 × 3 one, summed over all its 2 × 2 windows, borders included.
    """
    weight = 4 * F.avg_pool2d(conv.weight.flip(2, 3), 2, stride=1, padding=1)  # (C′, C, 4, 4)
    return F.conv_transpose2d(x, _as_stored(weight.transpose(0, 1), conv), conv.bias, stride=2, padding=1)


def _as_stored(tensor: Tensor, conv: nn.Conv2d) -> Tensor:
    """A tensor in the memory format of a layer's weight; one in another would make all that follow it slower."""
    last = conv.weight.is_contiguous(memory_format=torch.channels_last)
    return tensor.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _doubles(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Upsample) and layer.scale_factor == 2 and layer.mode == "nearest"


def _plain_conv(layer: nn.Module | None, size: int) -> bool:
    """Whether a layer is a convolution of that kernel which keeps the image's size, with nothing special about it."""
    return (
        isinstance(layer, nn.Conv2d)
        and (layer.kernel_size, layer.stride, layer.padding) == ((size, size), (1, 1), (size // 2, size // 2))
        and (layer.dilation, layer.groups, layer.padding_mode) == ((1, 1), 1, "zeros")
        and layer.bias is not None
    )
