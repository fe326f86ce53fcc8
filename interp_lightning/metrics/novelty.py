"""Measure how many images are no copies of training images."""

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from interp_lightning.metrics.base import Means, Seen
from interp_lightning.metrics.neighbours import nearest_distance

COPIES = 0.05  # share of test images that are taken for copies


def novel(
    features: Float[Tensor, "m d"], test: Float[Tensor, "n d"], training: Float[Tensor, "N d"]
) -> Bool[Tensor, " m"]:
    """Return True for images that are no closer to a training image than test images are.

    The distance to the nearest training image must reach the 5 % quantile of the same distance of test images. So 95 %
    of test images are novel, and no training image is. Compare the nearest-neighbour tests of memorisation by
    Meehan et al. 2020, https://arxiv.org/abs/2004.05675.

    Args:
        features: of the images.
        test: features of test images.
        training: features of all training images.

    Example:
        >>> import torch
        >>> training, test = torch.tensor([[0.0], [10.0]]), torch.tensor([[2.0], [3.0], [13.0]])
        >>> novel(torch.tensor([[0.0], [5.0], [10.1]]), test, training)
        tensor([False,  True, False])
    """
    least = nearest_distance(test, training).double().quantile(COPIES)
    return nearest_distance(features, training) >= least


class Novelty(Means):
    """Share of the images along paths that are `novel`, of all updates on all devices.

    `update` takes a `Seen`; `compute` gives {"novelty": ()}.
    """

    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("novelty", **kwargs)

    def update(self, seen: Seen) -> None:
        """Add paths."""
        self.add(novel(seen.features.flatten(0, 1), seen.references.test, seen.references.training))
