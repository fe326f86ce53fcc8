"""Metrics against independent implementations."""

import itertools

import numpy as np
import pytest
import torch
from conftest import small_model
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from interp_lightning.data.base import to_unit_range
from interp_lightning.data.digits import Digits
from interp_lightning.evaluate import encode_all, evaluate
from interp_lightning.metrics.clustering import clustering_accuracy
from interp_lightning.metrics.probe import linear_probe
from interp_lightning.models.ae import AE
from interp_lightning.penalties.none import NoPenalty


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
    assert clustering_accuracy(train_z, test_z, test_y, 4) == 1.0
    matrix = torch.from_numpy(np.random.default_rng(3).normal(size=(6, 6))).float()
    assert clustering_accuracy(train_z @ matrix + 7, test_z @ matrix + 7, test_y, 4) == 1.0


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
    assert clustering_accuracy(train_z, test_z, test_y, 4) == pytest.approx(expected, abs=0.01)


def test_clustering_of_constant_codes_does_not_fail():
    y = torch.arange(40) % 4
    with pytest.warns(UserWarning, match="distinct clusters"):
        accuracy = clustering_accuracy(torch.ones(40, 3), torch.ones(40, 3), y, 4)
    assert accuracy == 0.25


def test_evaluation_is_that_of_the_whole_test_split():
    model, data = small_model(AE, penalty=NoPenalty()), Digits(batch_size=64)
    train, test = encode_all(model, data.train), encode_all(model, data.test)
    x = to_unit_range(data.test.images)
    with torch.no_grad():
        expected = (model.decode(model.encode(x)) - x).square().mean().item()
    assert test.z.shape == (360, 4)
    assert torch.equal(test.labels, data.test.labels)
    metrics = evaluate(train, test, data.classes)
    assert metrics["reconstruction_mse"] == pytest.approx(expected, rel=1e-5)
    assert metrics == evaluate(train, test, data.classes)
