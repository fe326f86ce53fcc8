"""Penalties: properties, then agreement with independent references."""

import itertools
import warnings

import numpy as np
import ot
import pytest
import scipy.linalg
import torch
from conftest import run_ahead
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.functional.divergences import polar_factor
from interp_lightning.penalties.gan import GAN
from interp_lightning.penalties.mmd import MMD
from interp_lightning.penalties.none import NoPenalty
from interp_lightning.penalties.wasserstein import Wasserstein

sizes = st.sampled_from([(20, 3), (100, 8), (5, 5), (6, 12), (2, 7), (40, 1)])  # n > d, n = d, n < d
seeds = st.integers(0, 10_000)


def codes(n: int, d: int, seed: int) -> Tensor:
    """Correlated codes off the origin."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d))


def gaussian(d: int, seed: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(d, d))
    return torch.from_numpy(rng.normal(size=d)), torch.from_numpy(root @ root.T)


def w2_by_definition(z: Tensor, mean: Tensor, cov: Tensor) -> float:
    """With covariances and scipy's matrix square root, as the formula is usually written."""
    sigma = np.atleast_2d(np.cov(z.numpy(), rowvar=False))
    root = scipy.linalg.sqrtm(cov.numpy())
    cross = np.linalg.eigvalsh(root.real @ sigma @ root.real).clip(0)
    shift = z.numpy().mean(0) - mean.numpy()
    return float(shift @ shift + np.trace(sigma) + np.trace(cov.numpy()) - 2 * np.sqrt(cross).sum())


# Wasserstein: properties


@given(sizes, seeds)
def test_w2_ignores_the_order_of_samples_and_rotations(size, seed):
    z, w2 = codes(*size, seed), Wasserstein(1.0)
    rotation = torch.linalg.qr(codes(size[1], size[1], seed + 1))[0]
    expected = w2(z, z)
    torch.testing.assert_close(w2(z.flip(0), z), expected)
    torch.testing.assert_close(w2(z @ rotation, z), expected)


@given(sizes, seeds, st.floats(-5, 5, allow_subnormal=False))
def test_w2_translation_adds_the_squared_distance(size, seed, shift):
    z, w2 = codes(*size, seed), Wasserstein(1.0)
    centred = z - z.mean(0)
    torch.testing.assert_close(w2(centred + shift, z) - w2(centred, z), torch.tensor(size[1] * shift**2).double())


@given(st.sampled_from([(20, 3), (100, 8), (40, 1)]), seeds, st.floats(0, 5, allow_subnormal=False))
def test_w2_of_scaled_white_codes(size, seed, scale):
    n, d = size
    white, _ = torch.linalg.qr(codes(n, d, seed) - codes(n, d, seed).mean(0))
    white = white * (n - 1) ** 0.5  # covariance exactly I, mean exactly 0
    torch.testing.assert_close(Wasserstein(1.0)(scale * white, white), torch.tensor(d * (scale - 1) ** 2).double())


@given(sizes, seeds)
def test_w2_to_the_codes_own_gaussian_is_zero(size, seed):
    z = codes(*size, seed)
    w2 = Wasserstein(1.0, mean=z.mean(0), cov=torch.atleast_2d(torch.cov(z.T)))
    assert abs(w2(z, z).item()) < 1e-5 * max(1.0, z.var(0).sum().item())


def test_w2_of_the_prior_vanishes_with_many_samples():
    z = torch.randn(200_000, 4, generator=torch.Generator().manual_seed(0))
    assert Wasserstein(1.0)(z, z) < 1e-3


# Wasserstein: references


@given(sizes, seeds)
def test_w2_agrees_with_scipy_for_the_standard_prior(size, seed):
    z, d = codes(*size, seed), size[1]
    expected = w2_by_definition(z, torch.zeros(d).double(), torch.eye(d).double())
    assert Wasserstein(1.0)(z, z).item() == pytest.approx(expected, rel=1e-7)
    assert Wasserstein(1.0)(z.float(), z).item() == pytest.approx(expected, rel=1e-5)


@given(sizes, seeds)
def test_w2_agrees_with_scipy_for_any_gaussian(size, seed):
    z, (mean, cov) = codes(*size, seed), gaussian(size[1], seed + 1)
    assert Wasserstein(1.0, mean, cov)(z, z).item() == pytest.approx(w2_by_definition(z, mean, cov), rel=1e-5)


@given(st.sampled_from([(20, 3), (100, 8), (40, 2)]), seeds)
def test_w2_agrees_with_pot(size, seed):
    z, (mean, cov) = codes(*size, seed), gaussian(size[1], seed + 1)
    expected = ot.gaussian.bures_wasserstein_distance(
        z.mean(0).numpy(), mean.numpy(), np.cov(z.numpy(), rowvar=False), cov.numpy()
    )
    assert Wasserstein(1.0, mean, cov)(z, z).item() == pytest.approx(float(expected) ** 2, rel=1e-6)


def test_w2_gradient_agrees_with_finite_differences():
    z = codes(12, 4, 0).requires_grad_()
    mean, cov = gaussian(4, 1)
    assert torch.autograd.gradcheck(Wasserstein(1.0), (z, z.detach()))
    assert torch.autograd.gradcheck(Wasserstein(1.0, mean, cov), (z, z.detach()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "z",
    [
        torch.zeros(16, 4),
        torch.ones(16, 4),
        torch.arange(16.0)[:, None] * torch.ones(4),  # rank 1
        torch.randn(3, 8, generator=torch.Generator().manual_seed(0)),  # fewer codes than dimensions
        torch.cat([torch.randn(16, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(16, 2)], 1),
        torch.randn(2, 4, generator=torch.Generator().manual_seed(0)).repeat(8, 1),  # duplicates
    ],
    ids=["zero", "constant", "rank one", "n < d", "dead dimensions", "duplicates"],
)
def test_w2_gradient_is_finite_and_bounded_for_degenerate_codes(z, dtype):
    z = z.to(dtype, copy=True).requires_grad_()
    Wasserstein(1.0)(z, z.detach()).backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    n, d = z.shape
    assert z.grad.norm() <= 2 * (z.detach().norm() / (n - 1) + z.detach().mean(0).norm() + (d / (n - 1)) ** 0.5)


# Wasserstein: without an SVD, as on a GPU


@given(sizes, seeds)
def test_products_find_the_singular_vectors_and_the_sum_of_the_values(size, seed):
    a = codes(*size, seed)
    u, values, v = torch.linalg.svd(a, full_matrices=False)
    torch.testing.assert_close(polar_factor(a), u @ v, rtol=0, atol=1e-7)
    torch.testing.assert_close((polar_factor(a) * a).sum(), values.sum())


def test_products_see_small_values_and_not_rounding():
    u, v = (torch.linalg.qr(codes(6, 6, seed))[0] for seed in (0, 1))
    extents = [1.0, 1e-1, 1e-3, 1e-5, 1e-6, 1e-13]
    polar = u.T @ polar_factor(u @ torch.tensor(extents).double().diag() @ v.T) @ v
    torch.testing.assert_close(polar.diag()[:5], torch.ones(5).double(), rtol=0, atol=1e-6)
    assert polar.diag()[5].abs() < 1e-3
    assert polar_factor(torch.zeros(3, 2)).count_nonzero() == 0


@pytest.mark.parametrize("queue", [0, 30])
def test_w2_is_the_same_without_an_svd(queue, monkeypatch):
    values, gradients = [], []
    for ahead in (False, True):
        run_ahead(monkeypatch, ahead)
        penalty = Wasserstein(1.0, *gaussian(4, 0), queue=queue)
        for seed in range(4):
            z = codes(12, 4, seed).requires_grad_()
            penalty(z, z).backward()
            gradients.append(z.grad)
        values.append(penalty(z, z).detach())
    torch.testing.assert_close(values[1], values[0])
    torch.testing.assert_close(gradients[4:], gradients[:4])


# Wasserstein: the queue


def test_w2_queue_removes_the_bias_of_small_batches():
    n, d, generator = 32, 16, torch.Generator().manual_seed(0)
    plain, queued = Wasserstein(1.0), Wasserstein(1.0, queue=64 * n)
    for _ in range(64):
        z = torch.randn(n, d, generator=generator)
        queued(z, z)

    def pull(penalty: Wasserstein) -> float:
        """Mean of −dW2²/dscale at codes from the prior: positive if they are drawn together."""
        total = 0.0
        for _ in range(50):
            z = torch.randn(n, d, generator=generator)
            scale = torch.ones((), requires_grad=True)
            penalty(scale * z, z).backward()
            assert scale.grad is not None
            total += scale.grad.item() / 50
        return total

    assert abs(pull(queued)) < 0.15 * abs(pull(plain))


def test_w2_queue_scales_the_gradient_to_the_batch():
    z = codes(50, 3, 0)
    penalty = Wasserstein(1.0, queue=50)
    penalty(z, z)
    leaf = z.clone().requires_grad_()
    penalty(leaf, z).backward()
    twice = torch.cat([z, z]).requires_grad_()
    Wasserstein(1.0)(twice, z).backward()
    assert leaf.grad is not None
    assert twice.grad is not None
    torch.testing.assert_close(leaf.grad, 2 * twice.grad[50:])


def test_w2_queue_holds_the_latest_codes_and_is_part_of_the_state():
    penalty = Wasserstein(1.0, queue=5)
    batches = [codes(4, 3, seed) for seed in range(3)]
    for z in batches:
        penalty(z, z)
    torch.testing.assert_close(penalty.queue, torch.cat(batches)[-5:])

    other = Wasserstein(1.0, queue=5)
    other.load_state_dict(penalty.state_dict())
    z = codes(4, 3, 9)
    assert torch.equal(penalty(z, z), other(z, z))


def test_w2_of_a_queue_that_is_not_full_is_that_of_the_codes_seen():
    penalty, batches = Wasserstein(1.0, queue=100), [codes(4, 3, seed) for seed in range(3)]
    for seen in range(3):
        torch.testing.assert_close(
            penalty(batches[seen], batches[seen]), Wasserstein(1.0)(torch.cat(batches[: seen + 1]), batches[0])
        )
    assert torch.equal(penalty.get_extra_state(), torch.cat(batches))

    longer = Wasserstein(1.0, queue=200)  # a run may go on with another queue
    longer.load_state_dict(penalty.state_dict())
    shorter = Wasserstein(1.0, queue=5)
    shorter.load_state_dict(penalty.state_dict())
    without = Wasserstein(1.0, queue=0)
    without.load_state_dict(penalty.state_dict())
    assert len(without.get_extra_state()) == 0
    state = penalty.state_dict()
    same = Wasserstein(1.0, queue=12)
    same.load_state_dict(state)
    z = codes(4, 3, 9)
    same(z, z)
    assert torch.equal(state["_extra_state"], torch.cat(batches))  # which is not same's to change
    torch.testing.assert_close(longer(z, z), penalty(z, z))
    torch.testing.assert_close(shorter(z, z), Wasserstein(1.0)(torch.cat([batches[1][-1:], batches[2], z]), z))


def test_w2_queue_counts_only_in_training():
    penalty, z = Wasserstein(1.0, queue=8), codes(10, 3, 0)
    penalty(codes(10, 3, 1), z)
    before = penalty.queue
    penalty.eval()
    assert torch.equal(penalty(z, z), Wasserstein(1.0)(z, z))
    assert penalty.queue is before


def test_w2_warns_of_its_bias_unless_there_is_a_queue():
    with pytest.warns(UserWarning, match="biased"):
        Wasserstein(1.0).check(batch_size=64, latent_dim=32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Wasserstein(1.0, queue=1024).check(batch_size=64, latent_dim=32)
        Wasserstein(1.0).check(batch_size=128, latent_dim=32)


def test_w2_prior_draws_have_its_moments():
    mean, cov = gaussian(3, 0)
    draws = Wasserstein(1.0, mean, cov).prior(torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(draws.mean(0).double(), mean, atol=0.03, rtol=0)
    torch.testing.assert_close(torch.cov(draws.T).double(), cov, atol=0.1, rtol=0)


# MMD


def mmd_by_definition(z: Tensor, prior: Tensor, kernel: str, sigma: float, scales: list[float]) -> float:
    """Loops over all pairs; those of a sample with itself left out within, never across."""

    def k(a: Tensor, b: Tensor) -> float:
        distance = float(((a - b) ** 2).sum())
        widths = [2 * len(a) * sigma**2 * s for s in scales]
        return sum(c / (c + distance) if kernel == "imq" else np.exp(-distance / c) for c in widths)

    n, m = len(z), len(prior)
    within_z = sum(k(z[i], z[j]) for i, j in itertools.permutations(range(n), 2)) / (n * (n - 1))
    within_p = sum(k(prior[i], prior[j]) for i, j in itertools.permutations(range(m), 2)) / (m * (m - 1))
    across = sum(k(z[i], prior[j]) for i in range(n) for j in range(m)) / (n * m)
    return within_z + within_p - 2 * across


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
@given(st.integers(2, 7), st.integers(2, 7), seeds, st.floats(0.3, 3, allow_subnormal=False))
@settings(max_examples=25)
def test_mmd_agrees_with_a_naive_loop(kernel, n, m, seed, sigma):
    z, prior = codes(n, 3, seed), torch.randn(m, 3).double()
    penalty = MMD(1.0, kernel, sigma, scales=[0.5, 2.0])
    assert penalty(z, prior).item() == pytest.approx(mmd_by_definition(z, prior, kernel, sigma, [0.5, 2.0]), abs=1e-10)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_mmd_is_unbiased(kernel):
    generator = torch.Generator().manual_seed(0)
    penalty = MMD(1.0, kernel)
    values = torch.stack(
        [penalty(torch.randn(8, 4, generator=generator), torch.randn(8, 4, generator=generator)) for _ in range(4000)]
    )
    assert values.mean().abs() < 3 * values.std() / len(values) ** 0.5
    assert 0.3 < (values < 0).float().mean() < 0.8


def test_mmd_tells_distributions_apart_and_its_gradient_survives_identical_codes():
    generator = torch.Generator().manual_seed(0)
    prior, fresh = torch.randn(200, 4, generator=generator), torch.randn(200, 4, generator=generator)
    penalty = MMD(1.0)
    assert penalty(fresh + 2, prior) > 10 * penalty(fresh, prior).abs()
    z = torch.ones(8, 4, requires_grad=True)
    penalty(z, prior).backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_mmd_gradient_agrees_with_finite_differences():
    z = codes(6, 3, 0).requires_grad_()
    for kernel in ("imq", "rbf"):
        assert torch.autograd.gradcheck(MMD(1.0, kernel), (z, codes(5, 3, 1)))


# GAN and none


def test_gan_losses_are_those_of_the_paper():
    torch.manual_seed(0)
    penalty, z, prior = GAN(1.0, width=8, depth=2), torch.randn(6, 3), torch.randn(6, 3)
    probability = [torch.sigmoid(penalty.discriminator(codes)) for codes in (z, prior)]
    torch.testing.assert_close(penalty(z, prior), -probability[0].log().mean())
    losses = penalty.critic_losses(z, prior)
    torch.testing.assert_close(losses["latent_prior"], -probability[1].log().mean())
    torch.testing.assert_close(losses["latent_codes"], -(1 - probability[0]).log().mean())


def test_gan_slope_is_the_mean_squared_gradient_of_the_discriminator():
    torch.manual_seed(0)
    penalty, z, prior = GAN(1.0, width=8, depth=2, r1=0.6), torch.randn(6, 3).double(), torch.randn(6, 3).double()
    penalty(z.float(), prior.float())  # lets the discriminator see the size of a code
    penalty.double()
    total, step = 0.0, 1e-6
    for point in (*z, *prior):
        for axis in torch.eye(3).double():
            ends = penalty.discriminator(torch.stack([point - step * axis, point + step * axis]))
            total += ((ends[1] - ends[0]) / (2 * step)).item() ** 2
    losses = penalty.critic_losses(z, prior)
    assert losses["latent_slope"].item() == pytest.approx(0.6 / 2 * total / 12, rel=1e-5)
    losses["latent_slope"].backward()
    assert all(p.grad.abs().sum() > 0 for name, p in penalty.named_parameters() if name.endswith("0.weight"))
    assert "latent_slope" not in GAN(1.0, width=8, depth=2, r1=0).critic_losses(z.float(), prior.float())


def test_gan_gives_one_logit_per_code_and_has_the_published_size():
    penalty = GAN(1.0, width=512, depth=4)
    assert penalty.discriminator(torch.randn(6, 8)).shape == (6,)
    assert sum(p.numel() for p in penalty.parameters()) == 8 * 512 + 512 + 3 * (512 * 512 + 512) + 512 + 1


def test_no_penalty_is_zero():
    z = torch.randn(4, 2)
    assert NoPenalty()(z, z) == 0
    assert not list(NoPenalty().parameters())


# Bad input


@pytest.mark.parametrize("lam", [-1, float("nan"), float("inf"), "much", True])
@pytest.mark.parametrize("kind", [GAN, MMD, Wasserstein])
def test_lambda_must_be_a_number_not_below_zero(kind, lam):
    with pytest.raises(ConfigError, match=r"`penalty.lam` \(=.*penalty=none"):
        kind(lam=lam)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MMD(1, sigma=0), r"`penalty.sigma` \(=0\) must be > 0"),
        (lambda: MMD(1, kernel="linear"), r"`penalty.kernel` \(='linear'\) must be one of: imq, rbf"),
        (lambda: MMD(1, scales=[]), r"`penalty.scales`"),
        (lambda: MMD(1, scales=[1, -1]), r"`penalty.scales\[1\]` \(=-1\) must be > 0"),
        (lambda: GAN(1, width=0), r"`penalty.width` \(=0\)"),
        (lambda: GAN(1, lr=-1e-3), r"`penalty.lr`"),
        (lambda: GAN(1, r1=-1), r"`penalty.r1` \(=-1\)"),
        (lambda: Wasserstein(1, queue=-1), r"`penalty.queue` \(=-1\)"),
        (lambda: Wasserstein(1, cov=[[1.0, 2.0], [2.0, 1.0]]), r"`penalty.cov` .* must be symmetric and positive"),
        (lambda: Wasserstein(1, cov=[[1.0, 2.0]]), r"`penalty.cov` \(=\[\[1.0, 2.0\]\]\) must be a square matrix"),
        (lambda: Wasserstein(1, cov=[[1.0, 0.0], [0.0]]), r"`penalty.cov`"),
        (lambda: Wasserstein(1, mean=0.5), r"`penalty.mean` \(=0.5\)"),
        (lambda: Wasserstein(1, mean=[float("nan")]), r"`penalty.mean`"),
        (lambda: Wasserstein(1, mean=[0.0])(torch.zeros(4, 2), torch.zeros(4, 2)), r"codes of 1 number,.*is 2"),
        (lambda: Wasserstein(1)(torch.zeros(1, 2), torch.zeros(1, 2)), r"`data.batch_size` \(=1\)"),
        (lambda: MMD(1)(torch.zeros(1, 2), torch.zeros(1, 2)), r"`data.batch_size` \(=1\)"),
    ],
)
def test_bad_options_name_the_value_and_what_is_allowed(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_no_penalty_has_no_weight():
    with pytest.raises(ConfigError, match=r"`penalty\.lam` \(=0\.1\) must be 0; choose another penalty"):
        NoPenalty(0.1)


@pytest.mark.parametrize(("n", "d"), [(64, 256), (64, 32), (200, 3)])
def test_unbiased_w2_is_least_at_the_prior_and_zero_there(n, d):
    penalty = Wasserstein(lam=1.0, unbiased=True)
    scales = torch.linspace(0.7, 1.3, 61)
    values = torch.zeros(len(scales))
    for seed in range(8):
        z = torch.randn(n, d, generator=torch.Generator().manual_seed(seed)).double()
        values += torch.stack([penalty(scale * z, z) for scale in scales]) / 8
    assert scales[values.argmin()].item() == pytest.approx(1, abs=0.05)
    assert abs(values.min().item()) < 0.02 * d
    biased = Wasserstein(lam=1.0)(z, z).item()
    assert biased > 5 * abs(values[30].item())


def test_unbiased_w2_measures_shifts_and_scales_as_they_are():
    z = torch.randn(64, 16, generator=torch.Generator().manual_seed(0)).double()
    found = [Wasserstein(lam=1.0, unbiased=True)(1.5 * each + 2, each).item() for each in (z, -z, z.flip(1))]
    assert sum(found) / 3 == pytest.approx(16 * (0.5**2 + 2**2), rel=0.05)


@pytest.mark.parametrize("settings", [{"queue": 8}, {"cov": [[2.0]]}])
def test_unbiased_w2_excludes_what_is_not_derived(settings):
    with pytest.raises(ConfigError, match=r"`penalty.unbiased` \(=true\) excludes penalty.*; set penalty.*, or"):
        Wasserstein(lam=1.0, unbiased=True, **settings)
