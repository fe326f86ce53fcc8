"""Match of codes and prior: no bias, known distances."""

import pytest
import torch

from interp_lightning.errors import ConfigError
from interp_lightning.metrics.latent import latent_mmd, latent_w2
from interp_lightning.penalties.mmd import MMD
from interp_lightning.penalties.wasserstein import Wasserstein


def draws(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_codes_of_the_prior_score_zero_on_average_where_the_plug_in_value_does_not():
    samples = [draws(400, 16, seed) for seed in range(20)]
    plug_in = sum(Wasserstein(1.0).eval()(z, z).item() for z in samples) / 20
    ours = sum(latent_w2(z) for z in samples) / 20
    assert plug_in > 0.15
    assert abs(ours) < 0.1 * plug_in
    assert abs(sum(latent_mmd(z, seed=100 + i) for i, z in enumerate(samples)) / 20) < 0.003


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 2.0), (0.5, 0.0), (3.0, 1.0)])
def test_w2_of_scaled_and_shifted_codes_is_the_closed_form(scale, shift):
    d = 8
    value = latent_w2(scale * draws(20_000, d, 0) + shift)
    assert value == pytest.approx(d * shift**2 + d * (scale - 1) ** 2, rel=0.02)


def test_mmd_is_the_penaltys_on_all_codes_at_once():
    z = 0.5 * draws(2_500, 4, 1)
    prior = torch.randn(z.shape, dtype=z.dtype, generator=torch.Generator().manual_seed(0))
    squared = torch.cdist(z, prior).square(), torch.cdist(z, z).square(), torch.cdist(prior, prior).square()
    n, expected = len(z), 0.0
    for scale in MMD(1.0).scales:
        cross, own, other = (8 * scale / (8 * scale + s) for s in squared)
        expected += (own.sum() - n + other.sum() - n).item() / (n * (n - 1)) - 2 * cross.mean().item()
    assert latent_mmd(z) == pytest.approx(expected, rel=1e-9)
    assert latent_mmd(z) > 0.1


def test_results_do_not_depend_on_single_precision():
    z = 0.7 * draws(3_000, 6, 2)
    assert latent_w2(z.float()) == pytest.approx(latent_w2(z), rel=1e-5)
    assert latent_mmd(z.float()) == pytest.approx(latent_mmd(z), rel=1e-5)


@pytest.mark.parametrize("metric", [latent_w2, latent_mmd])
def test_too_few_codes(metric):
    with pytest.raises(ConfigError, match=r"number of codes.*\(=1\) must be ≥ .; use a larger test set"):
        metric(torch.zeros(1, 3))
