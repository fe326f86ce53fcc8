"""How real and how even interpolations are, as functions of the images along them."""

from typing import Any

import torch
from torch import Tensor

from interp_lightning.metrics.base import Means

CONFIDENT = 0.9  # probability from which a classifier counts as sure


def step_lengths(features: Tensor) -> Tensor:
    """Distances between neighbours on each path: (pairs, steps, d) → (pairs, steps − 1)."""
    return features.diff(dim=1).norm(dim=-1)


def evenness(features: Tensor) -> Tensor:
    """Longest step over the mean step of each path, (pairs, steps, d) → (pairs,): 1 is even, steps − 1 one jump.

    A path that does not move at all counts as even.
    """
    lengths = step_lengths(features)
    mean = lengths.mean(1)
    return torch.where(mean > 0, lengths.amax(1) / mean, torch.ones_like(mean))


def detour(features: Tensor) -> Tensor:
    """Length of each path over the distance of its ends, (pairs, steps, d) → (pairs,): ≥ 1, and 1 is straight.

    Infinite for a path that comes back to where it began; 1 for one that does not move.
    """
    total = step_lengths(features).sum(1)
    distance = (features[:, -1] - features[:, 0]).norm(dim=-1)
    return torch.where(total > 0, total / distance, torch.ones_like(total))


def path_energy(near: Tensor, far: Tensor, epsilon: float) -> Tensor:
    """Perceptual path length: ‖f(t + ε) − f(t)‖² / ε² for features (n, d) at t and at t + ε → (n,).

    Source: Karras et al. 2019, section 4.1, https://arxiv.org/abs/1812.04948, with other features than VGG's.
    """
    return (far - near).square().sum(-1) / epsilon**2


def entropy(logits: Tensor) -> Tensor:
    """Entropy of a classifier's answer in nats, (…, classes) → (…)."""
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1)


def confident(logits: Tensor) -> Tensor:
    """Whether a classifier gives one class a probability of at least 0.9, (…, classes) → (…), 0 or 1."""
    return (logits.softmax(-1).amax(-1) >= CONFIDENT).to(logits.dtype)


class PathEvenness(Means):
    """Means of `evenness` and `detour`, which give protocol and source, over all paths of all updates on all devices.

    `update` takes features along paths, (pairs, steps, d); `compute` gives {"evenness": (), "detour": ()}.
    """

    higher_is_better = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("evenness", "detour", **kwargs)

    def update(self, features: Tensor) -> None:
        """Features along some paths, (pairs, steps, d)."""
        self.add(evenness(features), detour(features))


class PathLength(Means):
    """Mean of `path_energy`, the perceptual path length (Karras et al. 2019), over all updates on all devices.

    `update` takes features (n, d) at t and at t + ε; `compute` gives {"path_length": ()}.
    """

    higher_is_better = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("path_length", **kwargs)

    def update(self, near: Tensor, far: Tensor, epsilon: float) -> None:
        """Features (n, d) at t and at t + ε of n paths."""
        self.add(path_energy(near, far, epsilon))


class Realism(Means):
    """Share of images that a classifier is confident of, and mean entropy of its answers in nats.

    That share of interpolations' midpoints is how often a path is real where it is farthest from real images.
    `update` takes logits (…, classes), `compute` gives {"realism": (), "entropy": ()}; see `confident` and `entropy`.
    """

    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("realism", "entropy", **kwargs)

    def update(self, logits: Tensor) -> None:
        """Logits of images, (…, classes)."""
        logits = logits.flatten(0, -2)
        self.add(confident(logits), entropy(logits))
