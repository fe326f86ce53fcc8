"""Measure how real and how even interpolations are, from the images along them."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp_lightning.metrics.base import Means

CONFIDENT = 0.9  # least probability of a confident classifier
Paths = Float[Tensor, "pairs steps d"]  # features of the images along paths


def step_lengths(features: Paths) -> Float[Tensor, "pairs steps-1"]:
    """Return the distances between neighbours on each path.

    Example:
        >>> step_lengths(torch.tensor([[[0.0], [1.0], [4.0]]]))
        tensor([[1., 3.]])
    """
    return features.diff(dim=1).norm(dim=-1)


def evenness(features: Paths) -> Float[Tensor, " pairs"]:
    """Divide the longest step of each path by its mean step.

    1 is even, steps − 1 a single jump. A path that does not move counts as even.

    Example:
        >>> evenness(torch.tensor([[[0.0], [1.0], [4.0]]]))
        tensor([1.5000])
    """
    lengths = step_lengths(features)
    mean = lengths.mean(1)
    return torch.where(mean > 0, lengths.amax(1) / mean, torch.ones_like(mean))


def detour(features: Paths) -> Float[Tensor, " pairs"]:
    """Divide the length of each path by the distance of its ends: ≥ 1, and 1 is straight.

    Infinite for a path that returns to its start; 1 for one that does not move.

    Example:
        >>> detour(torch.tensor([[[0.0], [3.0], [2.0]]]))
        tensor([2.])
    """
    total = step_lengths(features).sum(1)
    distance = (features[:, -1] - features[:, 0]).norm(dim=-1)
    return torch.where(total > 0, total / distance, torch.ones_like(total))


def monotonicity(features: Paths) -> Float[Tensor, " pairs"]:
    """Compute the share of each path's steps that lead away from its first point and towards its last one.

    A step from x to y counts if ‖y − x_0‖ > ‖x − x_0‖ and ‖y − x_1‖ < ‖x − x_1‖, with the path's own ends x_0 and x_1.
    A step that does not move does not count. Straight lines score 1.

    Example:
        >>> monotonicity(torch.tensor([[[0.0], [2.0], [1.0], [3.0], [4.0]]]))
        tensor([0.7500])
    """
    from_start, from_end = ((features - features[:, [end]]).norm(dim=-1) for end in (0, -1))
    return ((from_start.diff(dim=1) > 0) & (from_end.diff(dim=1) < 0)).to(features.dtype).mean(1)


def path_energy(near: Float[Tensor, "n d"], far: Float[Tensor, "n d"], epsilon: float) -> Float[Tensor, " n"]:
    """Compute the perceptual path length ‖f(t + ε) − f(t)‖² / ε² from features at t and at t + ε.

    Source: Karras et al. 2019, section 4.1, https://arxiv.org/abs/1812.04948, with other features than VGG's.

    Example:
        >>> path_energy(torch.tensor([[0.0]]), torch.tensor([[0.5]]), epsilon=0.25)
        tensor([4.])
    """
    return (far - near).square().sum(-1) / epsilon**2


def entropy(logits: Float[Tensor, "*images classes"]) -> Float[Tensor, "*images"]:
    """Compute the entropy of a classifier's prediction in nats.

    Example:
        >>> entropy(torch.zeros(1, 2))
        tensor([0.6931])
    """
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def confident(logits: Float[Tensor, "*images classes"]) -> Float[Tensor, "*images"]:
    """Return 1 where a classifier gives one class a probability of at least 0.9, else 0.

    Example:
        >>> confident(torch.tensor([[5.0, 0.0], [1.0, 0.0]]))
        tensor([1., 0.])
    """
    return (logits.softmax(-1).amax(-1) >= CONFIDENT).to(logits.dtype)


class PathEvenness(Means):
    """Means of `evenness` and `detour`, which give protocol and source, over all paths of all updates on all devices.

    `update` takes features along paths; `compute` gives {"evenness": (), "detour": ()}.
    """

    higher_is_better = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("evenness", "detour", **kwargs)

    def update(self, features: Paths) -> None:
        """Add features along paths."""
        self.add(evenness(features), detour(features))


class Monotonicity(Means):
    """Mean of `monotonicity`, which gives the definition, over all paths of all updates on all devices.

    `update` takes features along paths; `compute` gives {"monotonicity": ()}.
    """

    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("monotonicity", **kwargs)

    def update(self, features: Paths) -> None:
        """Add features along paths."""
        self.add(monotonicity(features))


class PathLength(Means):
    """Mean of `path_energy`, the perceptual path length (Karras et al. 2019), over all updates on all devices.

    `update` takes features at t and at t + ε; `compute` gives {"path_length": ()}.
    """

    higher_is_better = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("path_length", **kwargs)

    def update(self, near: Float[Tensor, "n d"], far: Float[Tensor, "n d"], epsilon: float) -> None:
        """Add features of n paths, at t and at t + ε."""
        self.add(path_energy(near, far, epsilon))


class Realism(Means):
    """Share of images with a confident classifier, and mean entropy of its predictions in nats.

    Midpoints of interpolations are farthest from real images: their share says how often a path is real there.
    `update` takes logits, `compute` gives {"realism": (), "entropy": ()}; see `confident` and `entropy`.
    """

    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("realism", "entropy", **kwargs)

    def update(self, logits: Float[Tensor, "*images classes"]) -> None:
        """Add logits of images."""
        logits = logits.flatten(0, -2)
        self.add(confident(logits), entropy(logits))
