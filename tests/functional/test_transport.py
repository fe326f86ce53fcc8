"""Optimal transport of pixels."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from interp_lightning.functional.transport import LIT, affordable, transported


def images(seed: int, channels: int, dark: float, n: int = 2, size: int = 6) -> Tensor:
    """Random images, a share of whose pixels is black."""
    generator = torch.Generator().manual_seed(seed)
    light = torch.rand(n, channels, size, size, generator=generator)
    black = torch.rand(light.shape, generator=generator) < dark
    return 2 * light.masked_fill(black, 0) - 1


@given(st.integers(0, 100), st.integers(1, 3), st.sampled_from([0.0, 0.5, 0.95, 1.0]), st.sampled_from([0.0, 1.0]))
def test_ends_are_the_images_and_light_is_kept(seed, channels, dark_a, dark_b):
    x_a, x_b = images(seed, channels, dark_a), images(seed + 1, channels, dark_b)
    frames = transported(x_a, x_b)(torch.linspace(0, 1, 5))
    assert frames.shape == (2, 5, channels, 6, 6)
    torch.testing.assert_close(frames[:, 0], x_a, atol=4 * LIT, rtol=0)
    torch.testing.assert_close(frames[:, -1], x_b, atol=4 * LIT, rtol=0)
    assert ((frames >= -1) & (frames <= 1)).all()


def test_a_blot_moves_instead_of_fading():
    x_a, x_b = -torch.ones(2, 1, 1, 9, 9)
    x_a[..., 1:3, 1:3], x_b[..., 5:7, 5:7] = 1.0, 1.0
    halfway = transported(x_a, x_b)(torch.tensor([0.5]))[0, 0, 0]
    expected = -torch.ones(9, 9)
    expected[3:5, 3:5] = 1.0
    torch.testing.assert_close(halfway, expected)


def test_the_plan_is_the_cheapest():
    """Two portions on a line do not cross."""
    x_a, x_b = -torch.ones(2, 1, 1, 1, 8)
    x_a[..., [0, 2]], x_b[..., [4, 6]] = 1.0, 1.0
    halfway = transported(x_a, x_b)(torch.tensor([[0.5]]))[0, 0, 0, 0]
    assert halfway.tolist() == [-1, -1, 1, -1, 1, -1, -1, -1]


def test_dense_images_are_fewer():
    sparse, dense = -torch.ones(50, 1, 32, 32), torch.ones(50, 3, 32, 32)
    sparse[..., :5] = 1.0
    assert affordable(sparse, sparse) == 50
    assert affordable(dense, dense) == 6
    assert affordable(torch.ones(1, 3, 256, 256), torch.ones(1, 3, 256, 256)) == 0
