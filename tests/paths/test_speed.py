"""Paths at constant speed."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp_lightning.metrics.paths import detour, evenness
from interp_lightning.paths.base import equidistant
from interp_lightning.paths.lerp import Lerp
from interp_lightning.paths.speed import at_constant_speed, interpolated


def test_a_path_that_jumps_is_evened_out():
    """It stays, hurries, stays: the frames at constant speed are in the hurry."""
    z_a, z_b = torch.zeros(1, 1, dtype=torch.double), torch.ones(1, 1, dtype=torch.double)
    line, t = Lerp().between(z_a, z_b), equidistant(11, z_a)

    def hurrying(t):
        return line((40 * (t - 0.5)).sigmoid())

    even = at_constant_speed(hurrying, lambda z: z, equidistant(1001, z_a))
    assert evenness(hurrying(t)) > 4
    torch.testing.assert_close(evenness(even(t)), torch.ones(1, dtype=torch.double), atol=0.02, rtol=0)
    torch.testing.assert_close(detour(even(t)), detour(hurrying(t)))


@given(st.integers(0, 100), st.integers(2, 9))
def test_ends_stay_and_positions_grow(seed, steps):
    ends = torch.randn(2, 3, 4, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
    course = Lerp().between(*ends)
    even = at_constant_speed(lambda t: course(t**3), lambda z: z, equidistant(4 * steps, ends))
    points = even(equidistant(steps, ends))
    torch.testing.assert_close(points[:, 0], ends[0])
    torch.testing.assert_close(points[:, -1], ends[1])
    along = (points - points[:, :1]).norm(dim=-1)
    assert (along.diff(dim=1) > 0).all()


def test_a_path_that_does_not_move_keeps_its_positions():
    z = torch.ones(2, 3)
    points = at_constant_speed(Lerp().between(z, z), lambda z: z, equidistant(9, z))(equidistant(3, z))
    assert torch.equal(points, torch.ones(2, 3, 3))


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=9, unique=True), st.lists(st.floats(0, 1), min_size=1, max_size=5)
)
def test_interpolated_agrees_with_numpy(x, at):

    x = sorted(x)
    y = np.cumsum(x)
    found = interpolated(*(torch.tensor([v], dtype=torch.double) for v in (x, y, at)))
    np.testing.assert_allclose(found[0].numpy(), np.interp(at, x, y), rtol=1e-9, atol=1e-9)
