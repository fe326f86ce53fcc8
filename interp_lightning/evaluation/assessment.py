"""The outcome of an evaluation."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from interp_lightning.paths.base import Path, Space


@dataclass(frozen=True)
class Encoded:
    """A whole split, encoded by a model."""

    z: Tensor  # (N, d) codes
    labels: Tensor  # (N,), all −1 if there are none
    error: float  # mean squared error of the reconstructions, images in [−1, 1]; NaN if they were not made


@dataclass(frozen=True)
class Profile:
    """Course of a kind of path, as means over paths."""

    lengths: Tensor  # (steps − 1,) of the steps, in feature space
    confidence: Tensor | None  # (steps,) highest class probability; None without a classifier
    entropy: Tensor | None  # (steps,) of the classes, in nats


@dataclass(frozen=True)
class Assessment:
    """Numbers of a model. Names are `<number>_<images or paths>`, as `metrics.catalogue` explains them."""

    metrics: dict[str, float]  # of the model
    sanity: dict[str, float]  # of the baselines: real images, pixel-wise blends of two images, noise
    protocol: dict[str, int | str | None]  # settings of the evaluation; only equal protocols compare
    test: Encoded
    profiles: dict[str, Profile]  # by kind of path, at its own speed
    samples: dict[str, Tensor]  # (n, d) codes, by sampler
    paths: dict[str, Path]  # every kind of path, fitted to the model
    space: Space  # to which they were fitted

    def results(self) -> dict[str, Any]:
        """Return this evaluation's part of results.json."""
        return {"protocol": self.protocol, "metrics": self.metrics, "sanity": self.sanity}
