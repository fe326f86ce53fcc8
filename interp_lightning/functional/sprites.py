"""Render the coloured shapes of data=sprites from their factors."""

import math

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

SIZE = 32
SHAPES = ("disc", "square", "triangle", "cross")
SHAPE, HUE, RADIUS, ROTATION, X, Y = range(6)  # columns of factors
PERIODS = (1.0, math.pi / 2, 2 * math.pi / 3, math.pi / 2)  # of rotation, in radians; a disc has none to see
SMALLEST, LARGEST = 0.1, 0.2  # radius of a disc, as a share of the image's size
LEFT, RIGHT = 0.28, 0.72  # centres, as a share of the image's size: every sprite is wholly within the image


def render_sprites(factors: Float[Tensor, "N 6"], size: int = SIZE) -> Float[Tensor, "N 3 {size} {size}"]:
    """Render saturated shapes on black, anti-aliased by the distance of a pixel's centre to the edge.

    Args:
        factors: columns shape (0 to 3), hue, radius, rotation, x and y, all but the shape in [0, 1]. Hue and rotation
            are circular; rotation 1 is the smallest turn that looks like none. A disc looks alike at every rotation.
        size: height and width in pixels.

    Returns:
        Images in float32, −1 background, all hues with full saturation and value.

    Example:
        >>> render_sprites(torch.tensor([[0, 0, 0.5, 0, 0.5, 0.5]]))[0, :, 16, 16]  # the middle of a red disc
        tensor([ 1., -1., -1.])
    """
    factors = factors.double()
    masks = render_masks(factors[:, SHAPE].long(), factors[:, RADIUS:], size)
    return (masks[:, None] * hue_colours(factors[:, HUE])[:, :, None, None]).mul_(2).sub_(1).float()


def hue_colours(hues: Float[Tensor, " N"]) -> Float[Tensor, "N 3"]:
    """Return the red, green and blue share of saturated hues: 0 is red, 1/3 green, 2/3 blue.

    Example:
        >>> hue_colours(torch.tensor([0, 1 / 6, 2 / 3])).round(decimals=4).tolist()
        [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    turned = (6 * hues[:, None] + hues.new_tensor([0, 4, 2])) % 6
    return ((turned - 3).abs() - 1).clamp(0, 1)


def render_masks(
    shapes: Int[Tensor, " N"], geometry: Float[Tensor, "N 4"], size: int = SIZE
) -> Float[Tensor, "N {size} {size}"]:
    """Render the share of each pixel that shapes cover, in the precision of `geometry`.

    Args:
        shapes: indices of `SHAPES`.
        geometry: radius, rotation, x and y, as in `render_sprites`.
        size: height and width in pixels.

    Example:
        >>> mask = render_masks(torch.tensor([1]), torch.tensor([[0.5, 0.0, 0.5, 0.5]]))
        >>> round(mask.sum().sqrt().item(), 1)  # about its side in pixels, 4.8 √π
        8.6
    """
    radius = size * (SMALLEST + (LARGEST - SMALLEST) * geometry[:, 0])
    angle = geometry[:, 1] * geometry.new_tensor(PERIODS)[shapes]
    centre = size * (LEFT + (RIGHT - LEFT) * geometry[:, 2:])
    pixels = torch.arange(size, dtype=geometry.dtype, device=geometry.device) + 0.5
    across = (pixels - centre[:, :1])[:, None]  # (N, 1, size)
    down = (pixels - centre[:, 1:])[:, :, None]  # (N, size, 1)
    masks = geometry.new_empty(len(geometry), size, size)
    for shape in range(len(SHAPES)):
        here = (shapes == shape).nonzero()[:, 0]
        if len(here):
            column = (here, None, None)
            edge = _edge(shape, across[here], down[here], radius[column], angle[column])
            masks[here] = (0.5 - edge).clamp_(0, 1)
    return masks


def _edge(
    shape: int,
    x: Shaped[Tensor, "n 1 size"],
    y: Shaped[Tensor, "n size 1"],
    r: Shaped[Tensor, "n 1 1"],
    angle: Shaped[Tensor, "n 1 1"],
) -> Shaped[Tensor, "n size size"]:
    """Return the signed distance to a shape's edge in pixels, negative inside. All but the triangle have area πr²."""
    if shape == 0:
        return (x.square() + y.square()).sqrt() - r
    if shape == 2:
        angles = [angle + k * (2 * math.pi / 3) for k in range(3)]
        sides = [x * each.cos() + y * each.sin() for each in angles]
        return torch.maximum(torch.maximum(sides[0], sides[1]), sides[2]) - 0.675 * r
    cos, sin = angle.cos(), angle.sin()
    u, v = (x * cos + y * sin).abs(), (y * cos - x * sin).abs()
    if shape == 1:
        return torch.maximum(u, v) - (math.sqrt(math.pi) / 2) * r
    long = math.sqrt(math.pi * 9 / 20) * r  # arms reach this far, and are a third of it wide on either side
    return torch.maximum(torch.maximum(u, v) - long, torch.minimum(u, v) - long / 3)
