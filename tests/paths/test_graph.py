"""Paths through the codes of training images."""

import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.paths.base import Space, named, ready
from interp_lightning.paths.graph import Graph
from interp_lightning.paths.lerp import Lerp


def fitted(codes: Tensor, **settings: float) -> Graph:
    return Graph(**settings).fit(Space(codes, look=lambda z: z))


def normal(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def ring(n: int = 400) -> Tensor:
    angle = torch.linspace(0, 2 * torch.pi, n + 1)[:-1]
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def test_a_path_goes_round_a_hole():
    codes = ring()
    points = fitted(codes, smoothing=0.03).points(codes[:1], codes[200:201], 21)[0]
    assert (points.norm(dim=1) - 1).abs().max() < 0.05
    assert Lerp().points(codes[:1], codes[200:201], 21)[0].norm(dim=1).min() < 0.01


def test_a_high_exponent_prefers_short_edges():
    """Two ways round: a short one with a gap, a long one without."""
    codes = ring()[50:]  # without an eighth
    ends = codes[:1], codes[-1:]
    far = [fitted(codes, exponent=e, smoothing=0.0).points(*ends, 51)[0].diff(dim=0).norm(dim=1).sum() for e in (1, 4)]
    assert far[0] < 1.0 < 4.0 < far[1]


@given(
    st.integers(0, 100),
    st.integers(1, 5),
    st.sampled_from([1.0, 2.0, 4.0, 16.0]),
    st.sampled_from([0.0, 0.03, 0.2]),
    st.sampled_from([1e-6, 1.0, 1e6]),
    st.booleans(),
)
def test_every_path_leads_from_end_to_end(seed, d, exponent, smoothing, scale, equal_codes):
    codes = scale * normal(60, d, seed)
    if equal_codes:
        codes[10:] = codes[:1]
    z_a, z_b = scale * normal(4, d, seed + 1), scale * normal(4, d, seed + 2)
    z_b[1], z_a[2] = z_a[1], codes[0]  # ends that coincide, and an end that is a node
    points = fitted(codes, neighbours=3, exponent=exponent, smoothing=smoothing).points(z_a, z_b, 9)
    assert points.isfinite().all()
    torch.testing.assert_close(points[:, 0], z_a)
    torch.testing.assert_close(points[:, -1], z_b)


def test_pairs_do_not_depend_on_one_another():
    path, z_a, z_b = fitted(normal(500, 3)), normal(100, 3, 1), normal(100, 3, 2)
    together = path.points(z_a, z_b, 7)
    alone = torch.cat([path.points(z_a[i : i + 1], z_b[i : i + 1], 7) for i in range(0, 100, 25)])
    torch.testing.assert_close(together[::25], alone)


def test_parts_without_connection_are_joined_and_counted(caplog):
    caplog.set_level(logging.INFO)
    codes = torch.cat([normal(30, 2), normal(30, 2, 1) + 100, normal(30, 2, 2) - 100])
    points = fitted(codes, neighbours=2, smoothing=0.0).points(codes[:1], codes[-1:], 9)
    torch.testing.assert_close(points[0, -1], codes[-1])
    assert "parts without connection" in caplog.text


def test_fewer_codes_than_neighbours_are_all_neighbours():
    codes = normal(5, 2)
    assert fitted(codes).points(codes[:1], codes[1:2], 3).isfinite().all()
    with pytest.raises(ConfigError, match=r"the number of training codes` \(=1\) must be ≥ 2; use how=lerp"):
        fitted(codes[:1])


def test_a_path_that_is_not_fitted_is_refused():
    with pytest.raises(ConfigError, match=r"`how` \(=graph\) must know the codes of the training images first"):
        ready("graph")
    with pytest.raises(ConfigError, match=r"`how` \(=graph\) must know the codes of the training images first"):
        ready(named("graph"))
    with pytest.raises(ConfigError, match=r"`how` \(=Graph\) must know the codes of the training images first"):
        ready(Graph())
    assert ready("lerp") is named("lerp")
    assert ready(path := fitted(ring(20))) is path


@pytest.mark.parametrize("distances", ["codes", "pixels", "features"])
def test_distances_are_measured_where_the_setting_says(distances):
    """Codes lie on a ring; what they look like is in another order, in which two of them are neighbours."""
    codes = ring(400)

    def seen(z: Tensor) -> Tensor:
        number = torch.cdist(z.float(), codes).argmin(1)
        return (397 * number % 400)[:, None].float()  # 0 and 133 become 0 and 1

    looks = {"pixels": "decode", "features": "look"}
    space = Space(codes, **({looks[distances]: seen} if distances in looks else {}))
    path = Graph(distances=distances, neighbours=2, smoothing=0.0).fit(space)
    middle = path.points(codes[:1], codes[133:134], 3)[0, 1].norm()
    assert middle < 0.6 if distances in looks else middle > 0.95


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_codes_and_features_are_measured_in_their_own_units(scale):
    """The shorter way round a ring passes what looks far from everything, whatever the features' units are."""
    codes = ring(400)

    def seen(z: Tensor) -> Tensor:
        number = torch.cdist(z.float(), codes).argmin(1)
        strange = (number - 100).abs() < 20
        return scale * torch.cat([codes[number], 9 * (number % 2 * strange)[:, None]], dim=1)

    for distances, shorter in (("codes", True), ("both", False)):
        space = Space(codes, look=seen)
        path = Graph(distances=distances, neighbours=4, smoothing=0.0, shift=0.0, scaling=0.0).fit(space)
        middle = path.points(codes[:1], codes[190:191], 3)[0, 1]
        assert (middle[1] > 0) == shorter


@pytest.mark.parametrize("distances", ["features", "both"])
def test_without_a_judge_distances_are_those_of_codes(distances):
    codes = ring(100)
    path = Graph(smoothing=0.0, distances=distances).fit(Space(codes, look=lambda z: z.flip(1) ** 3, judged=False))
    assert torch.equal(
        path.points(codes[:3], codes[40:43], 5), fitted(codes, smoothing=0.0).points(codes[:3], codes[40:43], 5)
    )


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_nodes_are_moved_towards_the_mean_of_their_neighbours(shift):
    codes = normal(200, 3)
    near = torch.cdist(codes, codes).topk(6, largest=False).indices[:, 1:]  # without the code itself
    expected = (1 - shift) * codes + shift * codes[near].mean(1)
    found = torch.from_numpy(fitted(codes, neighbours=5, shift=shift)._codes).float()
    torch.testing.assert_close(found[found[:, 0].argsort()], expected[expected[:, 0].argsort()])


def test_paths_do_not_lead_through_rare_codes():
    """Two groups on a line, and one code beside it, between them."""
    line = torch.cat([torch.linspace(-1, 0, 50), torch.linspace(1, 2, 50)])
    rare = torch.tensor([[0.5, 0.3]])
    codes = torch.cat([torch.stack([line, torch.zeros(100)], dim=1), rare])
    highest = [
        fitted(codes, shift=shift, smoothing=0.0).points(codes[:1], codes[99:100], 201)[0, :, 1].max()
        for shift in (0.0, 1.0)
    ]
    assert highest[0] > 0.25
    assert highest[1] < 0.05
