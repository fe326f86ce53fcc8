"""Base classes of the thin torchmetrics classes. Each adds only names and shapes to a pure function of its file."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

# For a metric that one device computes by itself: do not gather from other devices.
ALONE: dict[str, Any] = {"sync_on_compute": False}
UNLABELLED = "the images have no labels"


@dataclass(frozen=True)
class References:
    """A judge's features of real images, with which paths are compared."""

    test: Float[Tensor, "n d"]
    training: Float[Tensor, "N d"]  # of all training images
    ends: Float[Tensor, "pairs 2 d"]  # of the two test images that each path should join


@dataclass(frozen=True)
class Seen:
    """What a judge sees along paths."""

    features: Float[Tensor, "pairs steps d"]
    logits: Float[Tensor, "pairs steps classes"] | None  # None without a classifier
    references: References


class Means(Metric):
    """Means of scores over all samples of all updates on all devices. Its states are sums.

    Args:
        names: of the scores.
    """

    full_state_update = False
    is_differentiable = False

    samples: Tensor

    def __init__(self, *names: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = names
        self.add_state("samples", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        for name in names:
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def add(self, *scores: Tensor) -> None:
        """Add scores of n samples: a tensor (n,) per name."""
        self.samples += len(scores[0])
        for name, score in zip(self.names, scores, strict=True):
            setattr(self, name, getattr(self, name) + score.double().sum())

    def compute(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) / self.samples for name in self.names}


class Collected(Metric):
    """Rows of all updates on all devices, for scores of whole sets. Its states are lists.

    Args:
        names: of the sets.
    """

    full_state_update = False
    is_differentiable = False

    def __init__(self, *names: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in names:
            self.add_state(name, [], dist_reduce_fx="cat")

    def add(self, name: str, rows: Tensor) -> None:
        """Add rows (n, …) to one of the sets."""
        getattr(self, name).append(rows)

    def whole(self, name: str) -> Tensor:
        """Return all rows of a set, (N, …)."""
        return dim_zero_cat(getattr(self, name))


class CodesMetric(Collected):
    """Codes and labels of both splits: "train_z", "train_y", "test_z" and "test_y"."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("train_z", "train_y", "test_z", "test_y", **kwargs)

    def update(self, z: Tensor, labels: Tensor, split: str) -> None:
        """Add codes (n, d) and labels (n,) of the split "train" or "test"."""
        self.add(f"{split}_z", z)
        self.add(f"{split}_y", labels)

    @classmethod
    def missing(cls, classes: int, train: int, test: int) -> dict[str, str]:
        """Return the numbers that cannot be measured on a data set, with the reason.

        Args:
            classes: number of labels, 0 if the images have none.
            train, test: number of images of each split.
        """
        return {}


def scores(**values: float) -> dict[str, Tensor]:
    """Return named numbers as float64 tensors, as `compute` must return them."""
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
