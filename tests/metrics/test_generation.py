"""FID, KID, precision and recall against independent references."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torchmetrics.image.kid import KernelInceptionDistance

from interp_lightning.errors import ConfigError
from interp_lightning.metrics.generation import density_coverage, frechet_distance, kernel_distance, precision_recall


class Given(torch.nn.Identity):
    """Features of features."""

    num_features = 5


def features(n: int, seed: int, shift: float = 0.0, scale: float = 1.0, d: int = 5) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(scale * rng.normal(size=(n, d)) @ np.random.default_rng(0).normal(size=(d, d)) + shift)


def test_frechet_distance_is_scipys():
    a, b = features(300, 1), features(200, 2, shift=0.5, scale=1.5)
    cov_a, cov_b = np.cov(a.numpy().T), np.cov(b.numpy().T)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_is_the_naive_loop():
    a, b = features(30, 1), features(20, 2, shift=0.5)

    def k(x, y):
        return (float(x @ y) / 5 + 1) ** 3

    own = sum(
        sum(k(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j) / (len(s) * (len(s) - 1))
        for s in (a, b)
    )
    cross = sum(k(x, y) for x in a for y in b) / (30 * 20)
    assert kernel_distance(a, b) == pytest.approx(own - 2 * cross, rel=1e-6)


@pytest.mark.filterwarnings("ignore:.*will save all extracted features")
def test_kernel_distance_is_torchmetrics_with_one_subset_of_everything():
    a, b = features(1_300, 1), features(1_300, 2, shift=0.5)
    metric = KernelInceptionDistance(Given(), subsets=1, subset_size=1_300)
    metric.update(a, real=True)
    metric.update(b, real=False)
    assert kernel_distance(a, b) == pytest.approx(metric.compute()[0].item(), rel=1e-9)


def test_precision_and_recall_are_the_naive_loop():
    real, generated = features(60, 1), features(50, 2, shift=0.3, scale=0.6)

    def covered(centres, points):
        radii = [sorted(torch.dist(c, other).item() for other in centres)[3] for c in centres]
        return sum(any(torch.dist(p, c) <= r for c, r in zip(centres, radii, strict=True)) for p in points) / len(
            points
        )

    precision, recall = precision_recall(real, generated)
    assert (precision, recall) == pytest.approx((covered(real, generated), covered(generated, real)))
    assert recall < precision  # the generated ones are too narrow


def test_density_and_coverage_are_the_naive_loop():
    real, generated = features(60, 1), features(50, 2, shift=0.3, scale=0.6)
    radii = [sorted(torch.dist(c, other).item() for other in real)[5] for c in real]
    inside = [[torch.dist(y, x).item() <= r for y in generated] for x, r in zip(real, radii, strict=True)]
    density, coverage = density_coverage(real, generated)
    assert density == pytest.approx(sum(map(sum, inside)) / (5 * 50))
    assert coverage == pytest.approx(sum(map(any, inside)) / 60)
    assert density_coverage(real, real + 100) == (0, 0)
    assert density_coverage(features(800, 3), features(800, 4))[0] == pytest.approx(1, abs=0.1)


def test_equal_sets_overlap_and_far_ones_do_not():
    a = features(100, 1)
    assert precision_recall(a, a) == (1, 1)
    assert precision_recall(a, a + 100) == (0, 0)


@pytest.mark.parametrize("metric", [frechet_distance, kernel_distance, precision_recall])
def test_too_few_images(metric):
    with pytest.raises(ConfigError, match=r"1 generated images are too few for .*; use at least"):
        metric(features(50, 1), features(1, 2))
