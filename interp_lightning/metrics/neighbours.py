"""Neighbours among features: radii of a manifold, distances to the nearest. Results are remembered."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from functools import wraps
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

NEIGHBOURS = 3  # k of a manifold
ROWS, PART = 100, 4_000  # and columns of a distance matrix at a time: fit into a cache
KEPT = 4  # results of each function

T = TypeVar("T")
Features = Float[Tensor, "n d"]


def remembered(function: Callable[..., T]) -> Callable[..., T]:
    """Keep the last results of a pure function: several metrics ask for the same distances of the same features.

    Tensors are recognised by their content. Callers must not change the result in place.

    Example:
        >>> calls = []
        >>> double = remembered(lambda x: calls.append(x) or 2 * x)
        >>> double(torch.ones(1)), double(torch.ones(1)), len(calls)
        (tensor([2.]), tensor([2.]), 1)
    """
    kept: OrderedDict[Hashable, T] = OrderedDict()

    @wraps(function)
    def remembering(*arguments: Any) -> T:
        key = tuple(map(_identity, arguments))
        if key not in kept:
            kept[key] = function(*arguments)
        kept.move_to_end(key)
        while len(kept) > KEPT:
            kept.popitem(last=False)
        return kept[key]

    return remembering


@remembered
def neighbour_distances(features: Features, neighbours: int = NEIGHBOURS) -> Float[Tensor, "n {neighbours}"]:
    """Return the distances of each point to its nearest neighbours, in order; the point itself does not count.

    Example:
        >>> neighbour_distances(torch.tensor([[0.0], [1.0], [3.0]]), 2)
        tensor([[1., 3.],
                [1., 2.],
                [2., 3.]])
    """
    found = [torch.cdist(rows, features).topk(neighbours + 1, largest=False).values for rows in features.split(ROWS)]
    return torch.cat(found)[:, 1:]


@remembered
def within(
    real: Float[Tensor, "n d"], features: Float[Tensor, "m d"], neighbours: int = NEIGHBOURS
) -> Bool[Tensor, " m"]:
    """Return True for features in the real manifold: the balls around real points that reach to their k-th neighbours.

    Source: Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991, eq. 1.

    Example:
        >>> within(torch.tensor([[0.0], [1.0], [2.0], [3.0]]), torch.tensor([[1.5], [9.0]]), 1)
        tensor([ True, False])
    """
    return torch.cat([beyond.amin(1) <= 0 for beyond in beyond_balls(real, features, neighbours)])


def beyond_balls(
    real: Float[Tensor, "n d"], features: Float[Tensor, "m d"], neighbours: int
) -> Iterator[Float64[Tensor, "rows n"]]:
    """Yield ‖x − y‖² − r² of some features x at a time and all real ones y, whose balls of radius r reach to their k-th
    neighbours.

    Example:
        >>> torch.cat(list(beyond_balls(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0]]), 1)))
        tensor([[-3., -3.],
                [21.,  5.]], dtype=torch.float64)
    """
    real, features = real.double(), features.double()
    radius = neighbour_distances(real, neighbours)[:, -1]
    centre = real.mean(0)
    x = features - centre
    squares = x.square().sum(1, keepdim=True).split(ROWS)
    for lengths, square in zip(_lengths(x, real - centre, radius), squares, strict=True):
        yield lengths.add_(square)


@remembered
def nearest_distance(features: Float[Tensor, "m d"], others: Float[Tensor, "n d"]) -> Float[Tensor, " m"]:
    """Return the distance of each point to the nearest of many others.

    The nearest one is found by ‖y‖² − 2 x·y of centred features, in their precision. Its distance is then computed
    without that formula's cancellation, so that copies have distance 0.

    Example:
        >>> nearest_distance(torch.tensor([[0.0], [5.0]]), torch.tensor([[1.0], [5.0]]))
        tensor([1., 0.])
    """
    centre = others.mean(0)
    x, parts = features - centre, (others - centre).split(PART)
    # A least value is found faster than its place: look for the place only in the part that has the least.
    least = torch.stack([torch.cat([lengths.amin(1) for lengths in _lengths(x, part)]) for part in parts])
    best = least.argmin(0)
    nearest = torch.empty_like(best)
    for number, part in enumerate(parts):
        here = best == number
        places = [lengths.argmin(1) for lengths in _lengths(x[here], part)]
        nearest[here] = number * PART + torch.cat(places)
    return (features - others[nearest]).norm(dim=1)


def _lengths(x: Tensor, others: Tensor, radius: Tensor | float = 0.0) -> Iterator[Tensor]:
    """Yield ‖x − y‖² − ‖x‖² − r² of some rows x and all others y, of radius r, at a time."""
    table = others.T.contiguous()
    norms = table.square().sum(0) - radius**2
    return (torch.addmm(norms, rows, table, alpha=-2) for rows in x.split(ROWS))


def _identity(argument: Any) -> Hashable:
    """Return what tells an argument from others."""
    if not isinstance(argument, Tensor):
        return argument
    content = argument.detach().cpu().contiguous().numpy()
    return argument.shape, argument.dtype, argument.device, hashlib.sha256(content.data).digest()
