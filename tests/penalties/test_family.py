"""All divergences to the prior on equal terms: their limits, their gradients, where they pull codes, and references."""

import math

import numpy as np
import ot
import pytest
import torch
from conftest import PENALTIES
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.functional.normality import (
    cramer_wold,
    directions,
    epps_pulley,
    gaussian_mmd,
    normal_quantiles,
    sliced_w2,
)
from interp_lightning.functional.sinkhorn import sinkhorn_divergence
from interp_lightning.penalties.base import Penalty
from interp_lightning.penalties.cramer_wold import CramerWold
from interp_lightning.penalties.sinkhorn import Sinkhorn
from interp_lightning.system.conf import CONF, build, read

SEES_MOMENTS_ONLY = ("moments", "wasserstein")
BOUNDED = ("bhep", "cramer_wold", "mmd", "sigreg")  # their pull vanishes far away, where a few codes stay
seeds = st.integers(0, 10_000)


def penalty(name: str, **settings: object) -> Penalty:
    settings |= {"queue": 0} if name == "wasserstein" else {}
    return build(read(CONF / "penalty" / f"{name}.yaml") | settings)


# `isometric` compares nothing to the prior, and those with parameters are what these have learned.
COMPARING = [name for name in PENALTIES if name not in ("none", "isometric")]
DIVERGENCES = [name for name in COMPARING if not list(penalty(name).parameters())]
BEYOND = [name for name in DIVERGENCES if name not in SEES_MOMENTS_ONLY]


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def two_clusters(n: int, d: int, seed: int) -> Tensor:
    """Mean 0 and covariance I, but nothing in between along the first axis."""
    z = normal(n, d, seed)
    sign = torch.where(torch.arange(n) % 2 == 0, 1.0, -1.0)
    z[:, 0] = 0.95 * sign + math.sqrt(1 - 0.95**2) * z[:, 0]
    return z


def ring(n: int, seed: int) -> Tensor:
    """Mean 0 and covariance I in two dimensions, and nothing in the middle."""
    return math.sqrt(2) * directions(normal(n, 2, seed))


def energy_distance(z: Tensor, prior: Tensor) -> float:
    """Székely and Rizzo 2013: 0 for equal distributions."""
    across, within = torch.cdist(z, prior).mean(), (torch.cdist(z, z).mean() + torch.cdist(prior, prior).mean()) / 2
    return (2 * (across - within)).item()


@pytest.mark.parametrize("d", [2, 32])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_prior_is_the_limit_of_zero_and_nothing_else_is(name, d):
    divergence = penalty(name)
    draws = normal(800, d, 0)
    few, many = (divergence(normal(n, d, 1), draws[:n]).abs().item() for n in (80, 800))
    away = {
        "shifted": draws + 2 * directions(normal(1, d, 2)),
        "wider": 1.6 * draws,
        "narrower": 0.5 * draws,
        "collapsed": draws.mean(0).expand(800, d),
        "correlated": draws @ (torch.eye(d) + 2 * directions(normal(d, d, 3))),
    }
    for kind, z in away.items():
        assert divergence(z, draws).item() > 2 * many, kind
    assert many < 0.7 * few or many < 1e-3


@pytest.mark.parametrize("name", BEYOND)
def test_what_has_the_priors_moments_is_told_from_it(name):
    sharp = {"epsilon": 0.05, "iterations": 200} if name == "sinkhorn" else {}  # the default sees about the moments
    divergence, draws = penalty(name, **sharp), normal(500, 2, 0)
    same = divergence(normal(500, 2, 1), draws).item()
    assert divergence(ring(500, 2), draws).item() > 2 * abs(same)
    assert divergence(two_clusters(500, 2, 2), draws).item() > 2 * abs(same)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_gradients_are_finite_and_reach_the_codes(name, dtype):
    for z in (
        torch.zeros(16, 20),
        torch.ones(16, 20),
        torch.arange(16.0)[:, None] * torch.ones(20),  # rank one
        normal(3, 32, 0),  # fewer codes than dimensions
        normal(2, 20, 0).repeat(8, 1),  # duplicates
        1e4 * normal(16, 20, 0),
    ):
        z = z.to(dtype, copy=True).requires_grad_()
        value = penalty(name)(z, normal(len(z), z.shape[1], 1).to(dtype))
        value.backward()
        assert value.isfinite()
        assert z.grad is not None
        assert z.grad.isfinite().all()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_gradients_agree_with_finite_differences(name):
    z, prior = normal(6, 20, 0).double().requires_grad_(), normal(6, 20, 1).double()
    divergence = penalty(name, iterations=60) if name == "sinkhorn" else penalty(name)
    assert torch.autograd.gradcheck(divergence, (z, prior))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_each_alone_pulls_codes_to_the_prior(name):
    generator, d = torch.Generator().manual_seed(0), 2
    divergence, steps = penalty(name), 400
    z = (normal(256, d, 1) @ torch.tensor([[0.4, 0.3], [0.0, 0.1]]) + torch.tensor([0.5, -1.0])).requires_grad_()
    if name in BEYOND:
        with torch.no_grad():
            z[::2] += 0.7 if name in BOUNDED else 1.5  # two clusters
    optimizer = torch.optim.Adam([z], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        divergence(z, torch.randn(256, d, generator=generator)).backward()
        optimizer.step()
        schedule.step()
    z = z.detach()
    assert z.mean(0).norm() < 0.3
    torch.testing.assert_close(torch.cov(z.T), torch.eye(d), atol=0.5 if name in BOUNDED else 0.25, rtol=0)
    if name in BEYOND:
        fresh = sorted(energy_distance(normal(256, d, seed), normal(4_000, d, 99)) for seed in range(20))
        assert energy_distance(z, normal(4_000, d, 99)) < 2 * fresh[-1]


# References


@given(seeds)
def test_sliced_w2_is_the_mean_over_directions_of_pots(seed):
    z, along = normal(40, 3, seed).double() * 2 + 1, directions(normal(7, 3, seed + 1)).double()
    quantiles = normal_quantiles(40, z).numpy()
    expected = [ot.wasserstein_1d((z @ theta).numpy(), quantiles, p=2) for theta in along]
    np.testing.assert_allclose(sliced_w2(z, along).numpy(), expected, rtol=1e-9)


@given(st.integers(1, 6), st.integers(1, 4), seeds, st.floats(0.3, 2))
def test_bhep_agrees_with_a_naive_loop(n, d, seed, beta):
    z, b = normal(n, d, seed).double(), beta**2
    value = (1 + 2 * b) ** (-d / 2)
    for i in range(n):
        value -= 2 / n * (1 + b) ** (-d / 2) * math.exp(-b * float(z[i] @ z[i]) / (2 + 2 * b))
        value += sum(math.exp(-b * float((z[i] - z[j]).square().sum()) / 2) for j in range(n)) / n**2
    assert gaussian_mmd(z, beta).item() == pytest.approx(value, abs=1e-12)


def test_bhep_is_the_mmd_to_very_many_draws():
    z, draws = normal(50, 3, 0).double() + 0.5, normal(20_000, 3, 1).double()

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(a, b).square() * 0.6**2 / 2).mean()

    by_draws = kernel(z, z) - 2 * kernel(z, draws) + kernel(draws[:8_000], draws[8_000:16_000])
    assert gaussian_mmd(z, 0.6).item() == pytest.approx(by_draws.item(), abs=2e-3)


@pytest.mark.parametrize(("d", "tolerance"), [(2, 0.03), (20, 0.2), (64, 0.05)])
def test_cramer_wold_is_the_distance_of_smoothed_densities_over_directions(d, tolerance):
    """By its definition: squared differences of densities, integrated numerically, averaged over directions."""
    z, gamma = normal(30, d, 0).double() * 1.5 + 0.5, 0.3
    x = torch.linspace(-30, 30, 6_001).double()
    values = []
    for theta in directions(normal(400, d, 1)).double():
        apart = x[:, None] - (z @ theta)[None]
        smoothed = (torch.exp(-apart.square() / (2 * gamma)) / math.sqrt(2 * math.pi * gamma)).mean(1)
        prior = torch.exp(-x.square() / (2 + 2 * gamma)) / math.sqrt(2 * math.pi * (1 + gamma))
        values.append(torch.trapezoid((smoothed - prior).square(), x))
    assert cramer_wold(z, gamma).item() == pytest.approx(torch.stack(values).mean().item(), rel=tolerance)


@given(st.integers(1, 30), seeds, st.floats(-2, 2))
def test_epps_pulley_is_bhep_in_one_dimension(n, seed, shift):
    z = normal(n, 1, seed).double() + shift
    expected = math.sqrt(2 * math.pi) * gaussian_mmd(z, 1.0).item()
    assert epps_pulley(z, torch.ones(1, 1).double()).item() == pytest.approx(expected, abs=5e-4)


def test_epps_pulley_is_the_same_in_parts(monkeypatch):
    z, along = normal(30, 4, 0), directions(normal(9, 4, 1))
    whole = epps_pulley(z, along)
    monkeypatch.setattr("interp_lightning.functional.normality.DIRECTIONS", 600)
    torch.testing.assert_close(epps_pulley(z, along), whole)


@given(st.integers(2, 8), st.integers(2, 8), seeds)
@settings(max_examples=10)
def test_sinkhorn_agrees_with_pot(n, m, seed):
    z, prior = normal(n, 3, seed).double() + 1, normal(m, 3, seed + 1).double()

    def cost(a: Tensor, b: Tensor) -> float:
        """The value of the dual problem, from POT's potentials."""
        matrix = (torch.cdist(a, b).square() / 2).numpy()
        uniform = [np.full(len(each), 1 / len(each)) for each in (a, b)]
        _, found = ot.sinkhorn(*uniform, matrix, 0.8, method="sinkhorn_log", numItermax=1_000, stopThr=1e-10, log=True)
        plan = np.exp(found["log_u"][:, None] + found["log_v"][None] - matrix / 0.8)
        return (plan * matrix).sum() + 0.8 * (plan * np.log(plan / np.outer(*uniform))).sum()

    expected = cost(z, prior) - cost(z, z) / 2 - cost(prior, prior) / 2
    assert sinkhorn_divergence(z, prior, 0.8, 500).item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


# Bad input


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sinkhorn(1.0, epsilon=0), r"`penalty.epsilon` \(=0\) must be > 0; 1 is smooth"),
        (lambda: Sinkhorn(1.0, iterations=0), r"`penalty.iterations` \(=0\) must be ≥ 1"),
        (lambda: CramerWold(1.0).check(64, 8), r"`latent_dim` \(=8\) must be 2 or ≥ 20 for penalty=cramer_wold"),
        (lambda: CramerWold(1.0).check(64, 1), r"`latent_dim` \(=1\) must be 2 or ≥ 20"),
        (lambda: CramerWold(1.0, gamma=0), r"`penalty.gamma` \(=0\) must be > 0"),
        (lambda: penalty("bhep", beta=-1), r"`penalty.beta` \(=-1\) must be > 0"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("name", DIVERGENCES)
def test_lambda_is_checked(name):
    with pytest.raises(ConfigError, match=r"`penalty.lam` \(=-1\) must be ≥ 0; use penalty=none"):
        penalty(name, lam=-1)
