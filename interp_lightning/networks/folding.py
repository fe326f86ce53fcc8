"""Compute layers in other ways: the same function of the same parameters, with less arithmetic on a CPU."""

from collections.abc import Callable
from typing import Any, TypeGuard, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

FEW = 8  # output channels, below which a transposed convolution takes two to four times as long as it should
Layer = TypeVar("Layer", bound=nn.Module)
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


class Folding(nn.Sequential):
    """A Sequential that on a CPU computes some layers in other ways. Parameters, state dict and values do not change.

    A GPU computes each layer by itself. Folding gains nothing there, and the gradient of folded upsampling was wrong:
    torch 2.11 with cuDNN, weights channels last.

    - A 1 × 1 convolution directly before a 3 × 3 one, as in ACAI's encoder, becomes one 3 × 3 convolution.
    - A nearest-neighbour upsampling by 2 before a 3 × 3 convolution becomes one transposed convolution of the small
      image, or for few output channels one 2 × 2 convolution for all four pixels that a small one becomes.
    - The gradient of a 4 × 4 convolution with stride 2 with respect to images of few channels, which is such a
      transposed convolution, becomes such a 2 × 2 convolution.

    Example:
        >>> layers = nn.Upsample(scale_factor=2), nn.Conv2d(3, 5, 3, padding=1)
        >>> x = torch.randn(2, 3, 8, 8)
        >>> torch.allclose(Folding(*layers)(x), nn.Sequential(*layers)(x), atol=1e-5)
        True
    """

    _compiled: Callable[[Tensor], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        return self._compiled(x) if self.training and self._compiled is not None else self._folded(x)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the training step in place. Evaluation is not compiled: it has few batches, of other sizes."""
        self._compiled = torch.compile(self._folded, *args, **kwargs)

    def _folded(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            return super().forward(x)
        layers = list(self)
        while layers:
            first, second = layers[0], layers[1] if len(layers) > 1 else None
            if _plain_conv(first, 1) and _plain_conv(second, 3):
                x = pointwise_then_conv(x, first, second)
            elif _doubles(first) and _plain_conv(second, 3):
                x = upsample_then_conv(x, second)
            else:
                x = halve(x, first) if _plain_conv(first, 4, stride=2) else first(x)
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
    """Compute conv(pointwise(x)) as one convolution: (B, C, H, W) → (B, C′, H, W).

    The second layer pads the first one's output with zeros, also where that output has a bias. So the bias enters as
    the weight of an additional channel of ones.

    Args:
        x: images.
        pointwise: 1 × 1 convolution with a bias.
        conv: 3 × 3 convolution with padding 1.
    """
    weight = torch.einsum("ochw,ck->okhw", conv.weight, pointwise.weight[:, :, 0, 0])
    assert pointwise.bias is not None
    bias = torch.einsum("ochw,c->ohw", conv.weight, pointwise.bias)[:, None]
    x = _as_stored(torch.cat([x, torch.ones_like(x[:, :1])], dim=1), conv)
    return F.conv2d(x, _as_stored(torch.cat([weight, bias], dim=1), conv), conv.bias, padding=1)


def upsample_then_conv(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Compute conv(upsample(x)) from the small image: (B, C, H, W) → (B, C′, 2H, 2W).

    Output pixel p takes input pixel m through w[k] where ⌊(p + k − 1)/2⌋ = m: with t = p − 2m + 1 these are k = 2 − t
    and 3 − t. So the transposed kernel is the flipped 3 × 3 kernel, summed over all its 2 × 2 windows, with borders.

    Args:
        x: images.
        conv: 3 × 3 convolution with padding 1.
    """
    weight = 4 * F.avg_pool2d(conv.weight.flip(2, 3), 2, stride=1, padding=1)  # (C′, C, 4, 4)
    if conv.out_channels < FEW:
        return _by_parity(x, weight, conv.bias)
    return F.conv_transpose2d(x, _as_stored(weight.transpose(0, 1), conv), conv.bias, stride=2, padding=1)


def halve(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Compute conv(x): (B, C, 2H, 2W) → (B, C′, H, W). The gradient of few channels takes a third of the time.

    Args:
        x: images.
        conv: 4 × 4 convolution with stride 2 and padding 1.
    """
    gains = x.requires_grad and conv.in_channels < FEW and x.device.type == "cpu"
    can = not (x.shape[2] % 2 or x.shape[3] % 2 or torch.is_autocast_enabled("cpu"))
    if gains and can and not torch.compiler.is_compiling():
        return _Halve.apply(x, conv.weight, conv.bias)
    return conv(x)


class _Halve(torch.autograd.Function):
    generate_vmap_rule = True  # for torch.func

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv2d(x, weight, bias, stride=2, padding=1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
        x, weight, _ = inputs
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (grad,), (x, weight) = grads, ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            _by_parity(grad, weight.transpose(0, 1), None) if of_x else None,
            conv2d_weight(x, weight.shape, grad, stride=2, padding=1) if of_weight else None,
            grad.sum((0, 2, 3)) if of_bias else None,
        )

    @staticmethod
    def jvp(ctx: Any, x_t: Tensor | None, weight_t: Tensor | None, bias_t: Tensor | None) -> Tensor:
        x, weight = ctx.saved_tensors
        pairs = [(x_t, weight), (x, weight_t)]
        parts = [F.conv2d(a, b, stride=2, padding=1) for a, b in pairs if a is not None and b is not None]
        return sum(parts if bias_t is None else [*parts, bias_t[:, None, None]])  # type: ignore[return-value]


def _by_parity(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute that transposed convolution as a convolution with four outputs per channel: one per parity of a pixel.

    Pixels 2m take the inputs m − 1 and m through t = 3 and 1, pixels 2m + 1 the inputs m and m + 1 through 2 and 0.

    Args:
        x: (B, C, H, W).
        weight: (C′, C, 4, 4).
        bias: (C′,).
    """
    height, width = x.shape[2:]
    weight = weight.flip(2, 3).unflatten(3, (2, 2)).unflatten(2, (2, 2))  # (C′, C, tap, parity, tap, parity)
    weight = weight.permute(0, 3, 5, 1, 2, 4).flatten(0, 2)  # (4C′, C, 2, 2)
    y = F.conv2d(x, weight, None if bias is None else bias.repeat_interleave(4), padding=1).unflatten(1, (-1, 2, 2))
    rows = [torch.stack([y[:, :, i, j, i : i + height, j : j + width] for j in (0, 1)], -1) for i in (0, 1)]
    return torch.stack(rows, 3).flatten(4).flatten(2, 3)


def _as_stored(tensor: Tensor, conv: nn.Conv2d) -> Tensor:
    """Return a tensor in the memory format of a layer's weight; any other slows down the layers that follow."""
    last = conv.weight.is_contiguous(memory_format=torch.channels_last)
    return tensor.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def _is(layer: nn.Module | None, kind: type[Layer]) -> TypeGuard[Layer]:
    """Return True for a layer of exactly this class without hooks: nothing else happens when it is called."""
    return type(layer) is kind and not any(getattr(layer, hooks) for hooks in HOOKS)


def _doubles(layer: nn.Module) -> bool:
    return _is(layer, nn.Upsample) and layer.scale_factor == 2 and layer.mode == "nearest"


def _plain_conv(layer: nn.Module | None, size: int, stride: int = 1) -> TypeGuard[nn.Conv2d]:
    """Return True for a plain convolution of this kernel size that divides the image's size by its stride."""
    return (
        _is(layer, nn.Conv2d)
        and (layer.kernel_size, layer.stride) == ((size, size), (stride, stride))
        and layer.padding == ((size - 1) // 2, (size - 1) // 2)
        and (layer.dilation, layer.groups, layer.padding_mode) == ((1, 1), 1, "zeros")
        and layer.bias is not None
    )
