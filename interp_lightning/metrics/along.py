"""Compare the images at each position of paths with real ones."""

from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from interp_lightning.metrics.base import Collected, Seen, scores
from interp_lightning.metrics.generation import frechet_distance
from interp_lightning.metrics.paths import Paths


def fid_along(features: Paths, real: Float[Tensor, "n f"]) -> Float64[Tensor, " levels"]:
    """Compute the FID of the images at each level of mixing α ∈ (0, ½].

    The images at α and at 1 − α form one set, as each image begins one path and ends another. FID depends on the number
    of images: with 512 (256 pairs) it is larger than with thousands, so compare only values of equal numbers.

    Args:
        features: along paths.
        real: features of real images.

    Returns:
        FID by level, from the ends to the middle; the ends are left out.

    Raises:
        ConfigError: there are fewer images at a level than features + 1.

    Example:
        >>> features = torch.tensor([[[0.0], [5.0], [9.0]], [[0.0], [6.0], [9.0]], [[0.0], [7.0], [9.0]]])
        >>> fid_along(features, torch.tensor([[5.0], [6.0], [7.0]])).round()
        tensor([0.], dtype=torch.float64)
    """
    steps = features.shape[1]
    levels = [sorted({step, steps - 1 - step}) for step in range(1, (steps + 1) // 2)]
    found = [frechet_distance(real, features[:, level].flatten(0, 1)) for level in levels]
    return torch.tensor(found, dtype=torch.float64)


class FIDAlong(Collected):
    """Mean and largest `fid_along`, of all updates on all devices.

    `update` takes a `Seen`; `compute` gives {"fid_along": (), "fid_worst": ()}, or {} if there are too few pairs for
    the number of features.
    """

    higher_is_better = False

    real: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("features", **kwargs)

    def update(self, seen: Seen) -> None:
        """Add paths; the real images must be the same each time, and on all devices."""
        self.add("features", seen.features)
        self.real = seen.references.test

    def compute(self) -> dict[str, Tensor]:
        features = self.whole("features")
        pairs, _, d = features.shape
        if pairs <= d:
            return {}
        levels = fid_along(features, self.real)
        return scores(fid_along=levels.mean().item(), fid_worst=levels.amax().item())
