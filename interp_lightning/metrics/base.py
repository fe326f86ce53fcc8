"""What the thin torchmetrics classes share. Each adds only names and shapes to a pure function of its file."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

# For a metric that one device computes by itself, or that is given all there is: it is not to gather from others.
ALONE: dict[str, Any] = {"sync_on_compute": False}


class Means(Metric):
    """Means of scores over all samples of all updates on all devices; its states are sums.

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
        """One tensor (n,) per name, a score for each sample."""
        self.samples += len(scores[0])
        for name, score in zip(self.names, scores, strict=True):
            setattr(self, name, getattr(self, name) + score.double().sum())

    def compute(self) -> dict[str, Tensor]:
        return {name: getattr(self, name) / self.samples for name in self.names}


class Collected(Metric):
    """Keeps whatever its updates bring, on all devices, for scores of whole sets; its states are lists.

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
        """Rows (n, …) for one of the sets."""
        getattr(self, name).append(rows)

    def whole(self, name: str) -> Tensor:
        """All rows of a set, (N, …)."""
        return dim_zero_cat(getattr(self, name))


def scores(**values: float) -> dict[str, Tensor]:
    """Named numbers as the tensors that torchmetrics hands out, with all their digits."""
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
