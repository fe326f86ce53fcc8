"""Measure interpolations of sprites: do the images stay sprites, and do their factors change evenly?"""

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.functional.sprites import SHAPE, SHAPES, render_masks
from interp_lightning.metrics.rendered import RenderedPaths, check_paths, evaluated

GRID = 16  # height and width of the images in the coarse search
RADII, TURNS, CENTRES = 4, 4, 10  # values of a factor there
ITERATIONS, LATE = 4, 6  # of the refinement: of the best sprite of each shape, then of the best one
NUDGE = 0.01  # of a factor, for the slope of an image
LEAST = 0.02  # net change of the factors, below which a path is taken as constant
AT_ONCE = 128  # images, of 64 × 64 too: a third faster than with 512, which do not fit into a cache


@functools.lru_cache(maxsize=2)
def sprite_templates(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Render the masks of the coarse search: their shapes (n,), geometry (n, 4) and pixels (n, GRID²). Cached."""
    radii = (torch.arange(RADII) + 0.5) / RADII
    turns = torch.arange(TURNS) / TURNS
    centres = torch.linspace(0, 1, CENTRES)
    every = [
        torch.cartesian_prod(torch.tensor([float(shape)]), radii, turns[: 1 if shape == 0 else None], centres, centres)
        for shape in range(len(SHAPES))
    ]
    shapes, geometry = torch.cat(every).split([1, 4], dim=1)
    masks = [F.avg_pool2d(render_masks(s[:, 0].long(), g, 2 * GRID), 2) for s, g in _chunks(shapes, geometry)]
    return shapes[:, 0].long().to(device), geometry.to(device), torch.cat(masks).flatten(1).to(device)


def nearest_sprites(
    images: Float[Tensor, "n 3 size size"],
) -> tuple[Float64[Tensor, " n"], Float64[Tensor, "n 6"]]:
    """Find the sprite with the least squared error to each image.

    The hue has a closed form. The rest is searched on a grid of 5,200 masks, at 16 × 16; the best mask of each shape is
    refined by damped Gauss–Newton steps at 32 × 32 or less, and the best shape at full size. The error never grows. 512
    random sprites of 32 × 32 were all found, to a distance below 1e-6, and to 3e-4 in every factor, of a range of 1.

    Returns:
        Squared error over the nearest sprite's own, with black as 0: 0 for a sprite, 1 for a black image; and the
        nearest sprite's factors, as in `functional.sprites.render_sprites`.

    Example:
        >>> from interp_lightning.functional.sprites import render_sprites
        >>> distance, factors = nearest_sprites(render_sprites(torch.tensor([[0, 0.4, 0.5, 0, 0.2, 0.7]])))
        >>> round(distance.item(), 4), [round(factors[0, k].item(), 2) for k in (0, 1, 2, 4, 5)]
        (0.0, [0.0, 0.4, 0.5, 0.2, 0.7])
    """
    with torch.autocast(images.device.type, enabled=False):
        found = [_nearest((chunk.float() + 1) / 2) for chunk in images.split(AT_ONCE)]
    return torch.cat([each[0] for each in found]), torch.cat([each[1] for each in found])


def _nearest(u: Float32[Tensor, "n 3 size size"]) -> tuple[Tensor, Tensor]:
    """Search the nearest sprites of images in [0, 1]."""
    size = u.shape[-1]
    shapes, geometry, masks = sprite_templates(u.device)
    small = F.interpolate(u, (GRID, GRID), mode="area").flatten(2)
    gains = _gain((small.flatten(0, 1) @ masks.T).unflatten(0, (-1, 3)), masks.square().sum(1))[0]  # (n, templates)
    best = torch.stack([gains.where(shapes == s, -math.inf).argmax(1) for s in range(len(SHAPES))], 1)  # (n, shapes)
    everyone = torch.arange(len(u), device=u.device).repeat_interleave(len(SHAPES))
    theirs, g = shapes[best.flatten()], geometry[best.flatten()]
    rough = F.interpolate(u, (2 * GRID, 2 * GRID), mode="area") if size > 2 * GRID else u
    g, gain = _refine(rough, everyone, theirs, g, ITERATIONS)
    winner = gain.view(-1, len(SHAPES)).argmax(1) + len(SHAPES) * torch.arange(len(u), device=u.device)
    theirs, g = theirs[winner], g[winner]
    g, _ = _refine(u, everyone[winner], theirs, g, LATE)

    masks = render_masks(theirs, g.double(), size)
    pixels = u.double().flatten(2)
    energy = masks.square().sum((1, 2))
    colours = _gain((pixels * masks.flatten(1)[:, None]).sum(2)[..., None], energy[:, None])[1][..., 0]  # (n, 3)
    sprites = colours[:, :, None] * masks.flatten(1)[:, None]
    distance = (pixels - sprites).square().sum((1, 2)) / sprites.square().sum((1, 2))
    return distance, torch.cat([theirs[:, None], _hue(colours)[:, None], g.double()], dim=1)


def _gain(p: Float[Tensor, "n 3 k"], energy: Float[Tensor, "*n k"]) -> tuple[Tensor, Tensor]:
    """Colour masks m as well as possible: how much the squared error falls, ‖u‖² − ‖u − m c‖² (n, k); c (n, 3, k).

    A saturated colour c has the shares 1, t and 0. The error Σ_c (c² ‖m‖² − 2 c p_c) with p_c = m · u_c is least if the
    largest p takes 1, the smallest 0, and t = p / ‖m‖², within [0, 1].
    """
    order = p.argsort(1) if p.shape[2] == 1 else None
    high, low = p.amax(1), p.amin(1)
    middle = p.sum(1) - high - low
    t = (middle / energy).clamp(0, 1)
    gain = 2 * high - energy + t * (2 * middle - t * energy)
    if order is None:
        return gain, p
    colours = torch.stack([torch.zeros_like(t), t, torch.ones_like(t)], 1)
    return gain, torch.empty_like(p).scatter_(1, order, colours)


def _hue(c: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
    """Return the hue of saturated colours, the inverse of `hue_colours`."""
    top = c.argmax(1)
    after, before = (c.gather(1, ((top + k) % 3)[:, None])[:, 0] for k in (1, 2))
    return ((2 * top + after - before) / 6) % 1


def _coloured(u: Tensor, of: Tensor, shapes: Tensor, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return masks (k, pixels), their best colours (k, 3) and gains (k,)."""
    masks = render_masks(shapes, g, u.shape[-1]).flatten(1)
    p = u[of].flatten(2) @ masks[:, :, None]  # (k, 3, 1)
    gain, colours = _gain(p, masks.square().sum(1, keepdim=True))
    return masks, colours[..., 0], gain[:, 0]


def _refine(u: Tensor, of: Tensor, shapes: Tensor, g: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
    """Improve the geometry g (k, 4) of masks by Levenberg–Marquardt steps; return it and its gain (k,).

    Args:
        u: images in [0, 1], (n, 3, size, size).
        of: the image of each mask, (k,).
        shapes: of the masks, (k,).
        g: where to start.
        iterations: number of steps.
    """
    damping = torch.full((len(g),), 0.01, device=g.device)
    masks, colours, gain = _coloured(u, of, shapes, g)
    eye = torch.eye(4, device=g.device)
    for _ in range(iterations):
        ahead = [render_masks(shapes, g + NUDGE * eye[k], u.shape[-1]).flatten(1) for k in range(4)]
        slopes = (torch.stack(ahead, 1) - masks[:, None]) / NUDGE  # (k, 4, pixels)
        length = colours.square().sum(1, keepdim=True)
        wanted = (colours[:, None] @ u[of].flatten(2))[:, 0] - length * masks  # (k, pixels)
        normal = length[:, :, None] * (slopes @ slopes.mT)
        normal = normal + damping[:, None, None] * normal.diagonal(dim1=1, dim2=2).diag_embed() + 1e-2 * eye
        step = torch.linalg.solve(normal, slopes @ wanted[:, :, None])[..., 0].clamp(-0.3, 0.3)
        new = g + step
        new = torch.stack([new[:, 0].clamp(0, 1), new[:, 1] % 1, new[:, 2].clamp(0, 1), new[:, 3].clamp(0, 1)], 1)
        there = _coloured(u, of, shapes, new)
        better = there[2] > gain
        g, gain = torch.where(better[:, None], new, g), torch.where(better, there[2], gain)
        masks, colours = (torch.where(better[:, None], a, b) for a, b in zip(there, (masks, colours), strict=False))
        damping = torch.where(better, damping / 4, damping * 8)
    return g, gain


def _chunks(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    return list(zip(*(tensor.split(AT_ONCE) for tensor in tensors), strict=True))


def path_smoothness(factors: Float64[Tensor, "pairs T 6"]) -> Float64[Tensor, " pairs"]:
    """Compute max_t ‖f_{t+1} − f_t‖ / ‖f_T − f_1‖ − 1/(T − 1), with circular factors unwrapped along the path.

    The factors f are hue, radius, rotation, x and y, scaled so that the largest possible difference of each is 1. The
    straight path in them scores 0, a jump 1 − 1/(T − 1). A change of shape has no length, but rotation counts between
    equal shapes only, and never for discs.

    Returns:
        Smoothness, NaN where the net change ‖f_T − f_1‖ is at most 0.02. Source: ours, by
        analogy to the angle in Berthelot et al. 2018, section 3.1.

    Example:
        >>> path = torch.tensor([[0, 0.9, 0.5, 0, 0.5, 0.5], [0, 0.0, 0.5, 0, 0.5, 0.5], [0, 0.1, 0.5, 0, 0.5, 0.5]])
        >>> path_smoothness(path[None].double()).abs() < 1e-6  # the hue goes on over 1
        tensor([True])
    """
    changes = factors.diff(dim=1)
    shapes = factors[..., SHAPE]
    turning = (changes[..., SHAPE] == 0) & (shapes[:, 1:] != 0)
    hue, rotation = (2 * (changes[..., k] - changes[..., k].round()) for k in (1, 3))  # the short way round
    changes = torch.stack([hue, changes[..., 2], rotation * turning, changes[..., 4], changes[..., 5]], -1)
    net = changes.sum(1).norm(dim=-1)
    return (changes.norm(dim=-1).amax(1) / net - 1 / changes.shape[1]).where(net > LEAST, math.nan)


def sprite_evaluation(paths: Tensor) -> tuple[float, float]:
    """Compute the mean distance to the nearest sprite, and the mean smoothness of the sprites' factors.

    Ours, by analogy to the lines of Berthelot et al. 2018, section 3.1, https://arxiv.org/abs/1807.07543; see
    `nearest_sprites` and `path_smoothness`. A path without net change counts as 0 in the mean smoothness; if no path
    changes, the smoothness is NaN.

    Args:
        paths: images in [−1, 1], (pairs, steps, 3, H, W), both ends included.

    Returns:
        (mean_distance, smoothness), both 0 at best.

    Raises:
        ConfigError: `paths` is not 5-dimensional in colour, not square, shorter than 2 steps or not finite.
    """
    return evaluated(SpriteEvaluation(), paths)


class SpriteEvaluation(RenderedPaths):
    """`sprite_evaluation`, which gives definition and source, of all paths of all updates on all devices."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("sprites", **kwargs)

    @torch.no_grad()
    def update(self, paths: Tensor) -> None:
        """Add images along paths, (pairs, steps, 3, H, W), in [−1, 1]."""
        shape = tuple(paths.shape)
        if paths.ndim != 5 or shape[2] != 3:
            raise ConfigError(f"`paths` (of shape {shape}) must be in colour; reshape to (pairs, steps, 3, H, W)")
        check_paths(paths)
        distance, factors = nearest_sprites(paths.flatten(0, 1))
        self.add_paths(distance, path_smoothness(factors.view(*shape[:2], 6)))
