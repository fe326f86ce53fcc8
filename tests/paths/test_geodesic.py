"""Paths of least energy near the data."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.paths.base import Space, named
from interp_lightning.paths.geodesic import Geodesic
from interp_lightning.paths.lerp import Lerp


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def bump(z: Tensor) -> Tensor:
    """Decode two numbers to three: a hill at the origin, so that the shortest way leads round it."""
    return torch.cat([z, 3 * torch.exp(-2 * z.square().sum(1, keepdim=True))], dim=1)


def energy(path: Tensor) -> Tensor:
    return bump(path).diff(dim=0).square().sum() * (len(path) - 1)


@pytest.mark.parametrize("distances", ["pixels", "features"])
def test_a_geodesic_leads_round_a_hill(distances):
    """Neither decoder nor judge is the identity: the one that the setting names decides."""
    used, other = (bump, lambda z: z)[:: 1 if distances == "pixels" else -1]
    space = Space(normal(500, 2), decode=used, look=other)
    path = Geodesic(start="lerp", distances=distances, density=0.0, steps=200, lr=1.0).fit(space)
    ends = torch.tensor([[-2.0, 0.1]]), torch.tensor([[2.0, 0.1]])
    line, found = (each.points(*ends, 17)[0] for each in (Lerp(), path))
    if distances == "pixels":
        assert energy(found) < 0.8 * energy(line)
        assert found[:, 1].max() > 0.5
    else:
        torch.testing.assert_close(bump(found)[:, :2], found)


def test_density_keeps_a_geodesic_near_the_data():
    angle = torch.linspace(0, 3.1416, 200)
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    ends = circle[30:31], circle[170:171]
    least = [
        Geodesic(start="lerp", density=density, lr=5.0).fit(Space(circle)).points(*ends, 17)[0].norm(dim=1).min()
        for density in (0.0, 0.3)
    ]
    assert least[0] < 0.6 < 0.95 < least[1]


@given(st.integers(0, 50), st.sampled_from(["lerp", "slerp", "graph"]), st.floats(0, 10), st.floats(1e-3, 100))
def test_a_geodesic_is_never_worse_than_its_start(seed, start, density, lr):
    codes = normal(100, 3, seed)
    space = Space(codes, decode=lambda z: bump(z[:, :2]))
    z_a, z_b = normal(2, 3, seed + 1), normal(2, 3, seed + 2)
    path = Geodesic(start=start, density=density, steps=8, lr=lr).fit(space)
    begun = named(start).fit(space).points(z_a, z_b, 17)
    assert (path.cost(path.vertices(z_a, z_b)) <= path.cost(begun) * (1 + 1e-4)).all()


def test_a_geodesic_works_where_gradients_are_off():
    codes = normal(100, 2)
    with torch.inference_mode():
        path = Geodesic(start="lerp").fit(Space(codes + 0, decode=bump))
        assert path.points(codes[:2] + 0, codes[2:4] + 0, 5).isfinite().all()


def test_ends_that_coincide_stay():
    codes = normal(100, 2)
    points = Geodesic().fit(Space(codes)).points(codes[:1], codes[:1], 5)
    assert points.isfinite().all()
    torch.testing.assert_close(points[:, [0, -1]], codes[:1, None].expand(1, 2, 2))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("steps", 0), ("points", 0), ("lr", 0), ("density", -1.0), ("distances", "miles"), ("start", "cubic")],
)
def test_bad_settings_are_refused(setting, value):
    with pytest.raises(ConfigError, match=rf"`path\.{setting}` \(='?{value}'?\) must be"):
        Geodesic(**{setting: value}).fit(Space(normal(10, 2)))
