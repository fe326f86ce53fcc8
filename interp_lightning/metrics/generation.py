"""Compare generated to real images: distances and overlaps of two sets of features."""

import warnings
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from interp_lightning.errors import ConfigError
from interp_lightning.metrics.base import ALONE, Collected, scores
from interp_lightning.metrics.neighbours import NEIGHBOURS, within

SUBSETS, SUBSET_SIZE = 100, 1_000


class _Features(nn.Identity):
    """Pass features (N, d) through, where torchmetrics expects a network."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features


def frechet_distance(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"]) -> float:
    """Compute the Fréchet distance of Gaussians fitted to features: FID, ≥ 0 up to rounding.

    Its bias depends on the number of images: compare only values of equal n and m. Source: Heusel et al. 2017,
    https://arxiv.org/abs/1706.08500, eq. 6; by torchmetrics, in double precision.

    Raises:
        ConfigError: n or m is below d + 1.

    Example:
        >>> real = torch.tensor([[-1.0], [0.0], [1.0]])
        >>> round(frechet_distance(real, real + 2), 4)
        4.0
    """
    _check(real, generated, least=real.shape[1] + 1, what="a covariance of full rank")
    metric = FrechetInceptionDistance(_Features(real.shape[1]), input_img_size=(1, 32, 32), **ALONE).to(real.device)
    metric.set_dtype(torch.float64)
    for features, is_real in ((real, True), (generated, False)):
        metric.update(features.double(), real=is_real)
    return metric.compute().item()


def kernel_distance(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], seed: int = 0) -> float:
    """Estimate the squared MMD with the kernel (x·y/d + 1)³ without bias: KID.

    It is negative about half of the time when the distributions agree. Mean over 100 subsets of at most 1,000 features.
    Source: Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401, section 4; by torchmetrics.
    """
    size = min(SUBSET_SIZE, len(real), len(generated))
    _check(real, generated, least=2, what="pairs")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*will save all extracted features.*")  # it gets the features
        metric = KernelInceptionDistance(_Features(real.shape[1]), subsets=SUBSETS, subset_size=size, **ALONE)
    metric.to(real.device)
    for features, is_real in ((real, True), (generated, False)):
        metric.update(features.double(), real=is_real)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of the subsets
        return metric.compute()[0].item()


def precision_recall(
    real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], neighbours: int = NEIGHBOURS
) -> tuple[float, float]:
    """Compute the shares of generated features within the real manifold, and of real ones within the generated.

    The manifold of a set is the union of balls around its points that reach to their k-th neighbours.
    Source: Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991, eq. 1 and 2, k = 3.

    Args:
        real, generated: features; n and m should be equal, as larger sets have smaller balls.
        neighbours: k, smaller than n and m.

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> precision_recall(real, real + 1, neighbours=1)
        (1.0, 1.0)
        >>> precision_recall(real, real + 100, neighbours=1)
        (0.0, 0.0)
    """
    _check(real, generated, least=neighbours + 1, what=f"{neighbours} neighbours")
    precision, recall = within(real, generated, neighbours), within(generated, real, neighbours)
    return precision.double().mean().item(), recall.double().mean().item()


def membership(real: Float[Tensor, "n d"], features: Float[Tensor, "m d"], neighbours: int = NEIGHBOURS) -> float:
    """Compute the share of features within the real manifold: the precision of Kynkäänniemi et al. 2019, see above.

    A shape that no classifier is sure of counts if real images have it.

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> membership(real, torch.tensor([[1.5], [9.0]]), neighbours=1)
        0.5
    """
    _check(real, features, least=1, what="a share")
    _check(real, real, least=neighbours + 1, what=f"{neighbours} neighbours")
    return within(real, features, neighbours).double().mean().item()


def _check(real: Tensor, generated: Tensor, least: int, what: str) -> None:
    for name, features in (("real", real), ("generated", generated)):
        if len(features) < least:
            raise ConfigError(f"{len(features)} {name} images are too few for {what}; use at least {least}")


class Membership(Collected):
    """`membership` of the features of single images in those of real ones, of all updates on all devices.

    `update` takes features of images, real or not; `compute` gives {"membership": ()}.
    """

    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("real", "features", **kwargs)

    def update(self, features: Float[Tensor, "n d"], real: bool) -> None:
        """Add features of real images, or of those to judge."""
        self.add("real" if real else "features", features)

    def compute(self) -> dict[str, Tensor]:
        return scores(membership=membership(self.whole("real"), self.whole("features")))


class GenerationQuality(Collected):
    """FID, KID, precision and recall of generated against real features, of all updates on all devices.

    `update` takes features of images, real or generated; `compute` gives {"fid": (), "kid": (), "precision": (),
    "recall": ()}. Protocols and sources: `frechet_distance`, `kernel_distance`, `precision_recall`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("real", "generated", **kwargs)

    def update(self, features: Float[Tensor, "n d"], real: bool) -> None:
        """Add features of real or generated images."""
        self.add("real" if real else "generated", features)

    def compute(self) -> dict[str, Tensor]:
        real, generated = self.whole("real"), self.whole("generated")
        precision, recall = precision_recall(real, generated)
        return scores(
            fid=frechet_distance(real, generated),
            kid=kernel_distance(real, generated),
            precision=precision,
            recall=recall,
        )
