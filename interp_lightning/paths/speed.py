"""Take the speed out of paths, so that their frames look equally far apart."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from interp_lightning.paths.base import Course, Positions, equidistant

SAMPLES = 4  # of a path, for each step between frames


def at_constant_speed(course: Course, look: Callable[[Tensor], Tensor], at: Float[Tensor, " S"]) -> Course:
    """Return the same paths with positions that are shares of the length, as a judge sees it.

    A path that hurries through where there is nothing has good frames because it jumps. At constant speed nothing can
    be won so: a frame is then as likely to fall into a jump as anywhere else.

    Args:
        course: the paths.
        look: what points (n, d) look like, (n, f); lengths are measured there.
        at: positions at which lengths are measured, from 0 to 1; between them they grow linearly.

    Example:
        >>> course = lambda t: t[None, :, None] ** 2 if t.ndim == 1 else t[..., None] ** 2
        >>> even = at_constant_speed(course, lambda points: points, torch.linspace(0, 1, 101))
        >>> [round(x, 2) for x in even(torch.tensor([0.0, 0.5, 1.0]))[0, :, 0].tolist()]
        [0.0, 0.5, 1.0]
    """
    points = course(at)
    lengths = shares(look(points.flatten(0, 1)).unflatten(0, points.shape[:2])).to(at)

    def even(t: Positions) -> Tensor:
        return course(interpolated(lengths, at, t.expand(len(lengths), t.shape[-1])))

    return even


def shares(points: Float[Tensor, "B S d"]) -> Float64[Tensor, "B S"]:
    """Return the share of its path's length up to each point. A path that never moves has equal steps.

    Example:
        >>> shares(torch.tensor([[[0.0], [1.0], [4.0]]]))
        tensor([[0.0000, 0.2500, 1.0000]], dtype=torch.float64)
    """
    steps = points.diff(dim=1).norm(dim=-1).double()
    steps = torch.where(steps.sum(1, keepdim=True) > 0, steps, torch.ones_like(steps))
    lengths = torch.cat([torch.zeros_like(steps[:, :1]), steps.cumsum(1)], dim=1)
    return lengths / lengths[:, -1:]


def samples(steps: int, like: Tensor) -> Float[Tensor, " S"]:
    """Return positions that are close enough to find frames at constant speed, for a number of frames."""
    return equidistant(SAMPLES * (steps - 1) + 1, like)


def interpolated(
    x: Float[Tensor, "B S"], y: Float[Tensor, " S"] | Float[Tensor, "B S"], at: Float[Tensor, "B T"]
) -> Float[Tensor, "B T"]:
    """Interpolate linearly between points (x, y) with increasing x.

    Example:
        >>> x = torch.tensor([[0.0, 1.0, 4.0]])
        >>> interpolated(x, torch.tensor([0.0, 10.0, 40.0]), torch.tensor([[0.5, 2.0]]))
        tensor([[ 5., 20.]])
    """
    y = y.expand_as(x)
    right = torch.searchsorted(x.contiguous(), at.contiguous(), right=True).clamp(1, x.shape[1] - 1)
    left = right - 1
    width = x.gather(1, right) - x.gather(1, left)
    share = torch.where(width > 0, (at - x.gather(1, left)) / width, torch.zeros_like(at)).clamp(0, 1)
    return torch.lerp(y.gather(1, left), y.gather(1, right), share)
