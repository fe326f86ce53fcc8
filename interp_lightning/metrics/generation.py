"""Compare generated to real images: distances and overlaps of two sets of features."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from interp_lightning.errors import ConfigError
from interp_lightning.metrics.base import ALONE, Collected, scores
from interp_lightning.metrics.neighbours import NEIGHBOURS, beyond_balls, remembered, within

ROWS = 100  # of a kernel at a time: fits into a cache
DENSITY_NEIGHBOURS = 5


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


def kernel_distance(real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"]) -> float:
    """Estimate the squared MMD with the kernel (x·y/d + 1)³ without bias: KID.

    It is negative about half of the time when the distributions agree. Every pair counts, so the estimate has less
    noise than a mean over subsets, which other implementations take to save time. Source: Bińkowski et al. 2018,
    https://arxiv.org/abs/1801.01401, eq. 4 and section 4.

    Raises:
        ConfigError: n or m is below 2.

    Example:
        >>> real = torch.tensor([[-1.0], [1.0]])
        >>> kernel_distance(real, real)  # without pairs of a point and itself: 0 + 0 − 2·(0 + 8)/2
        -8.0
    """
    _check(real, generated, least=2, what="pairs")
    real, generated = real.double(), generated.double()
    across = _sum_of_cubes(real, generated) / (len(real) * len(generated))
    return (_mean_of_pairs_of_real(real) + _mean_of_pairs(generated) - 2 * across).item()


def _mean_of_pairs(x: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return the mean of the kernel over pairs of two different points."""
    return (_sum_of_cubes(x, x) - _cube(x.square().mean(1) + 1).sum()) / (len(x) * (len(x) - 1))


_mean_of_pairs_of_real = remembered(_mean_of_pairs)  # the same for all generated images


def _sum_of_cubes(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """Sum the kernel over all pairs of a point of a and one of b."""
    table, one = b.T / b.shape[1], b.new_ones(())
    return torch.stack([_cube(torch.addmm(one, rows, table)).sum() for rows in a.split(ROWS)]).sum()


def _cube(base: Tensor) -> Tensor:
    return base.square().mul_(base)


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


def density_coverage(
    real: Float[Tensor, "n d"], generated: Float[Tensor, "m d"], neighbours: int = DENSITY_NEIGHBOURS
) -> tuple[float, float]:
    """Compute density, how many real balls hold a generated feature, and coverage, the share of balls that hold one.

    density = Σ_j #{i: y_j in the ball of x_i} / (k·m), about 1 for equal distributions and not bounded; coverage =
    #{i: some y_j in the ball of x_i} / n. Outliers, which stretch the manifolds of precision and recall, hardly
    change them. A ball reaches to the k-th neighbour. Source: Naeem et al. 2020, https://arxiv.org/abs/2002.09797, eq.
    5 and 6, k = 5.

    Example:
        >>> real = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
        >>> density_coverage(real, torch.tensor([[0.5], [50.0]]), neighbours=1)
        (1.0, 0.5)
    """
    _check(real, real, least=neighbours + 1, what=f"{neighbours} neighbours")
    _check(real, generated, least=1, what="a share")
    count, covered = 0, torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for beyond in beyond_balls(real, generated, neighbours):
        near = beyond <= 0
        count += int(near.sum())
        covered |= near.any(0)
    return count / (neighbours * len(generated)), covered.double().mean().item()


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


class TwoSets(Collected):
    """Features of real and of generated images."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("real", "generated", **kwargs)

    def update(self, features: Float[Tensor, "n d"], real: bool) -> None:
        """Add features of real or generated images."""
        self.add("real" if real else "generated", features)


class Membership(TwoSets):
    """`membership` of the features of single images in those of real ones, of all updates on all devices.

    `update` takes features of images, real or not; `compute` gives {"membership": ()}.
    """

    higher_is_better = True

    def compute(self) -> dict[str, Tensor]:
        return scores(membership=membership(self.whole("real"), self.whole("generated")))


class DensityCoverage(TwoSets):
    """`density_coverage`, which gives protocol and source, of all updates on all devices.

    `update` takes features of images, real or generated; `compute` gives {"density": (), "coverage": ()}.
    """

    higher_is_better = True

    def compute(self) -> dict[str, Tensor]:
        density, coverage = density_coverage(self.whole("real"), self.whole("generated"))
        return scores(density=density, coverage=coverage)


class GenerationQuality(TwoSets):
    """FID, KID, precision and recall of generated against real features, of all updates on all devices.

    `update` takes features of images, real or generated; `compute` gives {"fid": (), "kid": (), "precision": (),
    "recall": ()}. Protocols and sources: `frechet_distance`, `kernel_distance`, `precision_recall`.
    """

    def compute(self) -> dict[str, Tensor]:
        real, generated = self.whole("real"), self.whole("generated")
        precision, recall = precision_recall(real, generated)
        return scores(
            fid=frechet_distance(real, generated),
            kid=kernel_distance(real, generated),
            precision=precision,
            recall=recall,
        )
