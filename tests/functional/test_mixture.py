"""Samples of a Gaussian mixture of codes."""

import pytest
import torch

from interp_lightning.functional.mixture import mixture_samples


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_unequal_clusters_get_their_shares_places_and_widths():
    near, far = 0.1 * normal(3_000, 3), 10 + normal(1_000, 3, seed=1)
    drawn = mixture_samples(torch.cat([near, far]), 4_000)
    is_far = drawn.mean(1) > 5
    assert is_far.double().mean().item() == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(drawn[is_far].mean(0), far.mean(0), atol=0.2, rtol=0)
    torch.testing.assert_close(drawn[is_far].std(0), far.std(0), atol=0.1, rtol=0)
    torch.testing.assert_close(drawn[~is_far].std(0), near.std(0), atol=0.02, rtol=0)
    assert is_far[:2_000].double().mean().item() == pytest.approx(0.25, abs=0.05)  # in no order


def test_the_same_codes_give_the_same_samples_whatever_was_drawn_before():
    codes = normal(500, 4)
    first = mixture_samples(codes.clone().requires_grad_(), 20)
    torch.manual_seed(99)
    assert torch.equal(mixture_samples(codes, 20), first)


@pytest.mark.parametrize(("number", "d"), [(2, 1), (2, 64), (3, 2), (300, 8)])
@pytest.mark.parametrize(
    "change",
    [
        lambda z: z,
        lambda z: 0 * z + 5,  # collapsed
        lambda z: z[:, :1].expand(z.shape),  # on a line
        lambda z: z * torch.logspace(-6, 6, z.shape[1]),  # of very different scales
    ],
)
def test_few_and_degenerate_codes_have_a_mixture_of_their_size(number, d, change):
    codes = change(normal(number, d))
    drawn = mixture_samples(codes, 50)
    assert drawn.shape == (50, d)
    assert drawn.isfinite().all()
    assert ((drawn - codes.mean(0)).abs() <= 10 * codes.std(0) + 0.1).all()
