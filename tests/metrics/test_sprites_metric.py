"""data=sprites and its metric: paths along true factors score 0, faded pixels are no sprites, jumps are uneven."""

import math

import pytest
import torch
from torch import Tensor

from interp_lightning.data.sprites import Factors, Sprites
from interp_lightning.errors import ConfigError
from interp_lightning.functional.sprites import HUE, ROTATION, SHAPE, render_sprites
from interp_lightning.metrics.sprites import SpriteEvaluation, nearest_sprites, path_smoothness, sprite_evaluation

CIRCULAR = [HUE, ROTATION]


def make_paths(kind: str, pairs: int = 8, size: int = 32, steps: int = 16) -> Tensor:
    """(pairs, steps, 3, size, size)"""
    starts, ends = Factors(pairs, seed=1).all(), Factors(pairs, seed=2).all()
    ends[:, SHAPE] = starts[:, SHAPE]
    changes = ends - starts
    changes[:, CIRCULAR] -= changes[:, CIRCULAR].round()
    t = torch.linspace(0, 1, steps, dtype=torch.float64)
    t = {"jump": t.round(), "stuck": torch.zeros(steps)}.get(kind, t)
    paths = render_sprites((starts[:, None] + t[:, None] * changes[:, None]).flatten(0, 1), size)
    paths = paths.unflatten(0, (pairs, steps))
    return torch.lerp(paths[:, :1], paths[:, -1:], t.float()[:, None, None, None]) if kind == "fade" else paths


@pytest.mark.parametrize(("size", "pairs"), [(32, 32), (64, 4)])
def test_true_paths_score_zero_and_fading_and_jumps_do_not(size, pairs):
    true, jump, fade = (sprite_evaluation(make_paths(kind, pairs, size)) for kind in ("true", "jump", "fade"))
    assert true == pytest.approx((0, 0), abs=1e-3)
    assert jump[0] == pytest.approx(0, abs=1e-5)
    assert jump[1] == pytest.approx(1 - 1 / 15, abs=1e-9)
    assert 0.1 < fade[0] < 0.5
    assert fade[1] > 0.5


def test_the_nearest_sprite_of_a_sprite_is_itself():
    factors = Factors(200, seed=5).all()
    distance, found = nearest_sprites(render_sprites(factors))
    error = found - factors
    error[:, CIRCULAR] -= error[:, CIRCULAR].round()
    error[:, ROTATION] *= factors[:, SHAPE] != 0  # a disc has none
    assert distance.max() < 1e-5
    assert error.abs().max() < 1e-3


def test_no_random_sprite_is_nearer_than_the_nearest():
    images = make_paths("fade", 4)[:, 4:8].flatten(0, 1)
    pool = (render_sprites(Factors(20_000, seed=9).all()).flatten(1) + 1) / 2
    best = torch.cdist((images.flatten(1) + 1) / 2, pool).square().amin(1)
    distance, factors = nearest_sprites(images)
    found = (render_sprites(factors).flatten(1) + 1) / 2
    error = ((images.flatten(1) + 1) / 2 - found).square().sum(1)
    assert (error <= best + 1e-4).all()
    torch.testing.assert_close(distance, (error / found.square().sum(1)).double(), rtol=1e-3, atol=1e-6)


def test_smoothness_by_hand():
    path = torch.full((5, 4, 6), 0.5, dtype=torch.float64)
    path[:, :, SHAPE] = 1
    path[0, :, HUE] = torch.tensor([0.8, 0.9, 0.0, 0.1])  # evenly, over 1
    path[1, :, 4] = torch.tensor([0.0, 0.2, 0.2, 0.4])  # x in two of three steps
    path[2, :, SHAPE], path[2, :, ROTATION] = 0, torch.rand(4)  # a disc that turns
    path[3, :, 5] = torch.tensor([0.0, 0.3, 0.0, 0.3])  # there and back
    path[4, 2:, SHAPE], path[4, :, 4] = 2, torch.tensor([0.0, 0.1, 0.2, 0.3])
    path[4, 2:, ROTATION] = 0.9  # of another shape
    expected = torch.tensor([0, 1 / 2 - 1 / 3, math.nan, 1 - 1 / 3, 0], dtype=torch.float64)
    torch.testing.assert_close(path_smoothness(path), expected, equal_nan=True, atol=1e-6, rtol=0)


def test_a_black_image_is_at_distance_one_and_a_dim_sprite_in_between():
    black = -torch.ones(1, 3, 32, 32)
    sprite = render_sprites(Factors(1, seed=0).all())
    distance = nearest_sprites(torch.cat([black, (sprite + black) / 2]))[0]
    assert distance[0].item() == pytest.approx(1, abs=1e-6)
    assert 0.1 < distance[1] < 0.25 + 1e-6  # the error to the bright sprite itself; a smaller one is nearer


def test_metric_of_many_updates_is_the_function_of_all_paths():
    paths = torch.cat([make_paths("stuck", 2), make_paths("fade", 3)])
    here, elsewhere = SpriteEvaluation(), SpriteEvaluation()
    elsewhere.update(paths[:2])
    assert elsewhere.compute()["sprites_smoothness"].isnan()
    here.update(paths[2:])
    here.merge_state(elsewhere)
    assert [value.item() for value in here.compute().values()] == pytest.approx(sprite_evaluation(paths), rel=1e-5)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (torch.zeros(2, 3, 1, 8, 8), r"`paths` \(of shape \(2, 3, 1, 8, 8\)\) must be in colour"),
        (torch.zeros(2, 3, 3, 8, 9), r"`paths` \(images of 8×9\) must hold square images"),
        (torch.zeros(2, 1, 3, 8, 8), r"`paths` \(=1 steps\) must have at least 2 steps"),
        (torch.full((1, 2, 3, 8, 8), math.nan), r"`paths` \(=384 NaN or infinite pixels\) must be finite"),
    ],
)
def test_wrong_paths_are_refused_in_one_sentence(paths, message):
    with pytest.raises(ConfigError, match=message):
        sprite_evaluation(paths)


@pytest.mark.parametrize("size", [32, 64])
def test_sprites_are_saturated_whole_and_the_same_in_evaluation(size):
    data = Sprites(batch_size=8, image_size=size)
    assert data.image_shape == (3, size, size)
    images, labels = data.test.batch(data.test.all()[:500])
    assert torch.equal(images, data.test.batch(data.test.all()[:500])[0])
    assert labels.unique().tolist() == [0, 1, 2, 3]
    assert torch.equal(images.amin(1), -torch.ones(500, size, size))  # full saturation, and black around
    assert torch.equal(images.amax((1, 2, 3)), torch.ones(500))  # full value
    border = torch.ones(size, size, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    assert (images[..., border] == -1).all()
    first, again = (next(iter(data.train_dataloader()))[0] for _ in range(2))
    assert not torch.equal(first, images[:8])
    assert torch.equal(first, again)


def test_another_size_is_refused_in_one_sentence():
    with pytest.raises(ConfigError, match=r"`data.image_size` \(=48\) must be one of: 32, 64"):
        Sprites(batch_size=8, image_size=48)
