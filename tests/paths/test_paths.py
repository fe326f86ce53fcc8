"""Paths between codes."""

import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from interp_lightning.errors import ConfigError
from interp_lightning.functional.codes import mix
from interp_lightning.paths.base import Path, Space, named
from interp_lightning.paths.lerp import Lerp
from interp_lightning.paths.slerp import Slerp
from interp_lightning.system.conf import choices


def pair(seed: int, d: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(3, d, generator=generator, dtype=torch.float64) for _ in range(2))


@functools.cache
def path(how: str) -> Path:
    """A path of a kind, fitted to the same codes each time."""
    codes = torch.randn(200, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return named(how).fit(Space(codes, look=lambda z: z))


def test_mix_agrees_with_a_loop():
    z, alpha = torch.randn(6, 3), torch.rand(6) / 2
    for i, mixed in enumerate(mix(z, alpha)):
        torch.testing.assert_close(mixed, alpha[i] * z[i] + (1 - alpha[i]) * z[5 - i])


def test_mix_with_alpha_zero_is_the_partner():
    z = torch.randn(4, 3)
    assert torch.equal(mix(z, torch.zeros(4)), z.flip(0))


@given(st.integers(0, 1000), st.sampled_from(choices("path")), st.integers(2, 20))
def test_paths_go_from_end_to_end(seed, how, steps):
    z_a, z_b = pair(seed)
    points = path(how).points(z_a, z_b, steps)
    assert points.shape == (3, steps, 5)
    torch.testing.assert_close(points[:, 0], z_a)
    torch.testing.assert_close(points[:, -1], z_b)
    torch.testing.assert_close(points.flip(1), path(how).points(z_b, z_a, steps))


@pytest.mark.parametrize("how", choices("path"))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_codes_may_carry_a_gradient(how, dtype):
    codes = torch.randn(50, 5, generator=torch.Generator().manual_seed(1), dtype=dtype, requires_grad=True)
    linear = torch.nn.Linear(5, 5, dtype=dtype)
    wanted = torch.float64 if how == "flow" else dtype
    kind = path(how) if how == "flow" else named(how).fit(Space(codes, look=linear, decode=linear))
    ends = codes[:2].to(wanted), codes[2:4].to(wanted)
    assert torch.equal(kind.points(*ends, 5), kind.points(*(end.detach() for end in ends), 5))


@given(st.integers(0, 1000))
def test_lerp_steps_are_equal(seed):
    steps = Lerp().points(*pair(seed), 7).diff(dim=1)
    torch.testing.assert_close(steps, steps[:, :1].expand_as(steps))


@given(st.integers(0, 1000))
def test_slerp_turns_evenly_with_linear_norm(seed):
    z_a, z_b = pair(seed)
    points = Slerp().points(z_a, z_b, 9)
    norms = points.norm(dim=2)
    torch.testing.assert_close(norms, Lerp().points(z_a.norm(dim=1)[:, None], z_b.norm(dim=1)[:, None], 9)[..., 0])
    units = points / norms[..., None]
    angles = (units[:, 1:] * units[:, :-1]).sum(2).clamp(-1, 1).arccos()
    torch.testing.assert_close(angles, angles[:, :1].expand_as(angles), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 2.0, -1.0, 0.0, 1 + 1e-12])
def test_slerp_is_straight_where_no_plane_is_defined(scale):
    z_a, _ = pair(0)
    t = torch.tensor([0.3])
    torch.testing.assert_close(Slerp()(z_a, scale * z_a, t), Lerp()(z_a, scale * z_a, t))


def test_slerp_quarter_circle():
    middle = Slerp()(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([0.5]))
    torch.testing.assert_close(middle, torch.tensor([[[math.sqrt(0.5)] * 2]]))


@pytest.mark.parametrize("how", choices("path"))
def test_each_path_has_positions_of_its_own(how):
    z_a, z_b = pair(0)
    t = torch.rand(3, 4, dtype=torch.float64)
    each = torch.cat([path(how)(z_a[i : i + 1], z_b[i : i + 1], t[i]) for i in range(3)])
    torch.testing.assert_close(path(how)(z_a, z_b, t), each)


@pytest.mark.parametrize(("steps", "how"), [(1, "lerp"), (0, "lerp"), (5, "spline")])
def test_bad_paths(steps, how):
    with pytest.raises(ConfigError):
        named(how).points(*pair(0), steps)
