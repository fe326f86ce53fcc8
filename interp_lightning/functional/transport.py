"""Morph images by optimal transport of their pixels, without a model."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

LIT = 0.01  # of the brightest pixel: a darker one is taken for black
WORK = 2e7  # pairs of lit pixels whose costs are compared in about five seconds


def transported(
    x_a: Float[Tensor, "B C H W"], x_b: Float[Tensor, "B C H W"]
) -> Callable[[Float[Tensor, " T"] | Float[Tensor, "B T"]], Float[Tensor, "B T C H W"]]:
    """Return paths that move the light of one image to that of another, as a function of positions.

    Light is mass, from 0 for black (−1) to 1 for white. Its exact optimal plan for squared distances moves each portion
    on a straight line (McCann 1997, displacement interpolation), and a portion between pixels is shared out to the four
    around it. The total changes linearly. Each channel moves by itself; a black image fades. The plans are POT's.

    Example:
        >>> x_a, x_b = -torch.ones(2, 1, 1, 1, 5)
        >>> x_a[..., 0], x_b[..., 4] = 1.0, 1.0
        >>> transported(x_a, x_b)(torch.tensor([0.0, 0.5]))[0, :, 0, 0].tolist()
        [[1.0, -1.0, -1.0, -1.0, -1.0], [-1.0, -1.0, 1.0, -1.0, -1.0]]
    """
    shape = x_a.shape
    light_a, light_b = (((x.flatten(0, 1).flatten(1).double().cpu() + 1) / 2).clamp(0) for x in (x_a, x_b))
    rows, columns = (each.flatten() for each in np.mgrid[: shape[2], : shape[3]])
    place = torch.from_numpy(np.stack([rows, columns], axis=1)).double()
    plans = [_plan(a, b, place) for a, b in zip(light_a, light_b, strict=True)]
    start, end, mass = (pad_sequence(list(parts), batch_first=True) for parts in zip(*plans, strict=True))
    total_a, total_b = light_a.sum(1), light_b.sum(1)

    def course(t: Tensor) -> Tensor:
        t = t.double().cpu().expand(shape[0], t.shape[-1]).repeat_interleave(shape[1], 0)[..., None]  # (B·C, T, 1)
        at = torch.lerp(start[:, None], end[:, None], t[..., None])  # (B·C, T, portions, 2)
        amount = mass[:, None] * torch.lerp(total_a[:, None, None], total_b[:, None, None], t)
        light = torch.zeros(*t.shape[:2], shape[2] * shape[3], dtype=torch.float64)
        corner = at.floor()
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            pixel = corner + torch.tensor([down, right])
            share = (1 - (at - pixel).abs()).clamp(0).prod(-1)
            index = (pixel[..., 0] * shape[3] + pixel[..., 1]).long().clamp(0, light.shape[-1] - 1)
            light.scatter_add_(2, index, amount * share)
        images = (2 * light - 1).clamp(-1, 1).view(shape[0], shape[1], -1, *shape[2:]).transpose(1, 2)
        return images.to(x_a)

    return course


def affordable(x_a: Float[Tensor, "B C H W"], x_b: Float[Tensor, "B C H W"]) -> int:
    """Return how many of the first pairs can be transported in seconds; 0 if the first one takes longer.

    Example:
        >>> affordable(torch.ones(100, 1, 32, 32), torch.ones(100, 1, 32, 32))
        19
    """
    lit = [((x + 1).flatten(2) > LIT * (x + 1).flatten(2).amax(2, keepdim=True)).sum(2) for x in (x_a, x_b)]
    work = (lit[0] * lit[1]).sum(1).cumsum(0)
    return int((work <= WORK).sum())


def _plan(a: Tensor, b: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return where each portion of light starts and ends, (portions, 2), and its share of the light, (portions,)."""
    lit_a, lit_b = (x > LIT * x.max() for x in (a, b))
    if not (lit_a.any() and lit_b.any()):  # there is nothing to move: one image fades where it is
        stays = lit_a | lit_b
        light = (a + b)[stays]
        return place[stays], place[stays], light / light.sum() if len(light) else light
    import ot  # takes seconds

    costs = ot.dist(place[lit_a].numpy(), place[lit_b].numpy())
    weights = [(x[lit] / x[lit].sum()).numpy() for x, lit in ((a, lit_a), (b, lit_b))]
    plan = ot.emd(*weights, costs)
    from_, to = np.nonzero(plan)
    return place[lit_a][from_], place[lit_b][to], torch.from_numpy(plan[from_, to])
