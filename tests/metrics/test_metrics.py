"""Metrics against independent implementations."""

import itertools

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from interp_lightning.errors import ConfigError
from interp_lightning.metrics.clustering import clustering_accuracy, kmeans, nearest
from interp_lightning.metrics.probe import linear_probe


def blobs(n: int, spread: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(4, 6))
    labels = rng.integers(0, 4, n)
    return torch.from_numpy(centres[labels] + spread * rng.normal(size=(n, 6))).float(), torch.from_numpy(labels)


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
def test_probe_agrees_with_scikit_learn(spread):
    (train_z, train_y), (test_z, test_y) = blobs(800, spread, 1), blobs(500, spread, 2)
    scaler = StandardScaler().fit(train_z)
    reference = LogisticRegression(max_iter=1000, tol=1e-8).fit(scaler.transform(train_z), train_y)
    expected = reference.score(scaler.transform(test_z), test_y)
    assert linear_probe(train_z, train_y, test_z, test_y, 4) == pytest.approx(expected, abs=0.0021)


def test_probe_is_deterministic_and_ignores_scale_and_shift():
    (train_z, train_y), (test_z, test_y) = blobs(400, 1.0, 1), blobs(400, 1.0, 2)
    first = linear_probe(train_z, train_y, test_z, test_y, 4)
    assert linear_probe(train_z, train_y, test_z, test_y, 4) == first
    assert linear_probe(100 * train_z - 5, train_y, 100 * test_z - 5, test_y, 4) == pytest.approx(first, abs=0.0026)


def test_probe_of_noise_is_chance_and_of_constant_codes_does_not_fail():
    generator = torch.Generator().manual_seed(0)
    z, y = torch.randn(4000, 5, generator=generator), torch.randint(10, (4000,), generator=generator)
    assert linear_probe(z[:2000], y[:2000], z[2000:], y[2000:], 10) == pytest.approx(0.1, abs=0.03)
    assert 0 <= linear_probe(torch.ones(50, 3), y[:50], torch.ones(50, 3), y[50:100], 10) <= 1


def test_clusters_that_are_classes_are_found_whatever_the_affine_map():
    (train_z, _), (test_z, test_y) = blobs(800, 0.05, 1), blobs(500, 0.05, 2)
    assert clustering_accuracy(train_z, test_z, test_y, 4, restarts=20) == 1.0
    matrix = torch.from_numpy(np.random.default_rng(3).normal(size=(6, 6))).float()
    assert clustering_accuracy(train_z @ matrix + 7, test_z @ matrix + 7, test_y, 4, restarts=20) == 1.0


def test_clustering_agrees_with_all_permutations_of_names():
    (train_z, _), (test_z, test_y) = blobs(800, 1.5, 1), blobs(500, 1.5, 2)
    mean = train_z.mean(0)
    _, s, vt = np.linalg.svd((train_z - mean).numpy(), full_matrices=False)
    whiten = [((z - mean).numpy() @ vt.T) / (s + 1e-5) * 800**0.5 for z in (train_z, test_z)]
    clusters = KMeans(4, init="random", n_init=20, random_state=5).fit(whiten[0]).predict(whiten[1])
    expected = max(
        np.mean([names[c] == y for c, y in zip(clusters, test_y.tolist(), strict=True)])
        for names in itertools.permutations(range(4))
    )
    assert clustering_accuracy(train_z, test_z, test_y, 4, restarts=20) == pytest.approx(expected, abs=0.01)


def test_clustering_of_constant_codes_does_not_fail():
    y = torch.arange(40) % 4
    assert clustering_accuracy(torch.ones(40, 3), torch.ones(40, 3), y, 4, restarts=2) == 0.25


@pytest.mark.parametrize("seed", range(3))
def test_kmeans_is_as_good_as_scikit_learns(seed):
    points = torch.from_numpy(np.random.default_rng(seed).normal(size=(600, 5)))
    reference = KMeans(7, init="random", n_init=60, random_state=seed).fit(points.numpy())
    centres = kmeans(points, 7, restarts=60, seed=seed)
    assert centres.shape == (7, 5)
    inertia = torch.cdist(points, centres).amin(1).square().sum().item()
    assert inertia <= 1.005 * reference.inertia_


def test_restarts_on_some_of_many_points_are_as_good(monkeypatch):
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(3_000, 5)))
    inertia = {
        searched: torch.cdist(points, kmeans(points, 7, 60)).amin(1).square().sum().item()
        for searched in (500, 3_000)
        if monkeypatch.setattr("interp_lightning.metrics.clustering.SEARCHED", searched) is None
    }
    assert inertia[500] == pytest.approx(inertia[3_000], rel=0.01)


def test_kmeans_ends_where_nothing_moves_and_more_restarts_are_no_worse():
    points = torch.from_numpy(np.random.default_rng(0).normal(size=(500, 4)))
    inertias = []
    for restarts in (1, 10, 100):
        centres = kmeans(points, 6, restarts)
        labels = nearest(points, centres)
        means = torch.stack([points[labels == k].mean(0) for k in range(6)])
        torch.testing.assert_close(centres, means)
        inertias.append((points - centres[labels]).square().sum().item())
    assert inertias == sorted(inertias, reverse=True)
    assert torch.equal(centres, kmeans(points, 6, 100))


def test_kmeans_from_one_start_is_lloyds_algorithm():
    points = torch.from_numpy(np.random.default_rng(1).normal(size=(200, 3)))
    start = points[torch.randperm(200, generator=torch.Generator().manual_seed(0))[:5]]
    expected = KMeans(5, init=start.float().numpy(), n_init=1, tol=0, max_iter=1000).fit(points.numpy())
    torch.testing.assert_close(kmeans(points, 5, 1), torch.from_numpy(expected.cluster_centers_), rtol=1e-5, atol=1e-5)


def test_an_empty_cluster_stays_and_too_few_points_are_refused():
    points = torch.tensor([[0.0], [0.0], [0.0], [1.0]])
    assert set(kmeans(points, 3, restarts=4).flatten().tolist()) == {0.0, 1.0}
    with pytest.raises(ConfigError, match=r"number of training codes` \(=4\) must be ≥ 5; take more"):
        kmeans(points, 5, restarts=1)
