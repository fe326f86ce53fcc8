"""Evenness, detour, energy of paths; what a classifier makes of them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp_lightning.metrics.cycle import cycle_error
from interp_lightning.metrics.paths import (
    confident,
    detour,
    entropy,
    evenness,
    monotonicity,
    path_energy,
    step_lengths,
)


def line(times: list[float], d: int = 5) -> torch.Tensor:
    """One straight path at the given times, (1, steps, d)."""
    direction = torch.arange(1.0, d + 1, dtype=torch.float64)
    return torch.tensor(times, dtype=torch.float64)[None, :, None] * direction


def test_an_even_straight_path_scores_one():
    path = line([0, 0.25, 0.5, 0.75, 1])
    assert evenness(path).item() == pytest.approx(1)
    assert detour(path).item() == pytest.approx(1)


def test_one_jump_scores_the_number_of_steps():
    assert evenness(line([0, 0, 0, 1, 1])).item() == pytest.approx(4)
    assert detour(line([0, 0, 0, 1, 1])).item() == pytest.approx(1)


def test_back_and_forth_is_a_detour():
    assert detour(line([0, 1, 0, 1])).item() == pytest.approx(3)
    assert detour(line([0, 1, 0])).item() == math.inf


def test_a_path_that_does_not_move_is_even_and_straight():
    assert evenness(line([1, 1, 1])).item() == 1
    assert detour(line([1, 1, 1])).item() == 1


@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100, allow_subnormal=False))
def test_scores_ignore_scale_place_and_direction(seed, scale):
    path = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for score in (evenness, detour):
        for other in (scale * path, path + 7, path.flip(1)):
            torch.testing.assert_close(score(other), score(path))
        assert (score(path) >= 1).all()


def test_step_lengths_are_distances_of_neighbours():
    path = torch.randn(2, 4, 3)
    expected = [[torch.dist(path[i, t], path[i, t + 1]).item() for t in range(3)] for i in range(2)]
    torch.testing.assert_close(step_lengths(path), torch.tensor(expected))


def test_path_energy_of_a_straight_line_is_its_squared_speed():
    near, far = line([0.3])[:, 0], line([0.31])[:, 0]
    assert path_energy(near, far, 0.01).item() == pytest.approx(1 + 4 + 9 + 16 + 25)


def test_entropy_and_confidence():
    logits = torch.tensor(
        [[0.0, 0, 0, 0], [100, 0, 0, 0], [math.log(9.01), 0, -99, -99], [math.log(8.99), 0, -99, -99]]
    )
    assert entropy(logits[0]).item() == pytest.approx(math.log(4))
    assert entropy(logits[1]).item() == pytest.approx(0, abs=1e-6)
    assert confident(logits).tolist() == [0, 1, 1, 0]


def test_straight_paths_are_monotone_and_waiting_or_turning_back_is_not():
    assert monotonicity(line([0, 0.1, 0.5, 1])).item() == 1
    assert monotonicity(line([0, 0.5, 0.5, 1])).item() == pytest.approx(2 / 3)
    assert monotonicity(line([0, 0.7, 0.3, 1])).item() == pytest.approx(2 / 3)
    assert monotonicity(line([0, 1, 0, 1, 0])).item() == 0


@given(st.integers(0, 10_000), st.floats(0.01, 100, allow_subnormal=False))
def test_the_cycle_error_ignores_the_scale_of_codes(seed, scale):
    z, again = torch.randn(2, 4, 6, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert cycle_error(scale * z, scale * again) == pytest.approx(cycle_error(z, again))
    assert cycle_error(z, z) == 0
    # As far from itself as the ends are from one another.
    ends = z[:, [0, -1]]
    assert cycle_error(ends, ends.flip(1)) == pytest.approx(1)
