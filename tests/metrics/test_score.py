"""The headline score: an honest path wins, and no cheat comes close. Novelty finds copies."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from interp_lightning.data.digits import Digits
from interp_lightning.functional.images import to_unit_range
from interp_lightning.metrics.base import References, Seen
from interp_lightning.metrics.features import digit_network
from interp_lightning.metrics.neighbours import nearest_distance, neighbour_distances
from interp_lightning.metrics.novelty import Novelty, novel
from interp_lightning.metrics.score import PathScore, ends_reached, path_score

PAIRS, STEPS, TURN, PUSH = 64, 16, 0.35, 0.15
T = torch.linspace(0, 1, STEPS)


def turned(x: Tensor, t: Tensor) -> Tensor:
    """Return digits (n, 1, 32, 32) turned, sheared and pushed, from t = 0 to 1; (n, steps, 1, 32, 32)."""
    angle = TURN * (2 * t - 1)
    first = torch.stack([angle.cos(), -angle.sin(), PUSH * (2 * t - 1)], 1)
    second = torch.stack([angle.sin(), angle.cos(), torch.zeros_like(t)], 1)
    grids = F.affine_grid(torch.stack([first, second], 1), [len(t), 1, 32, 32], align_corners=False)
    moved = [F.grid_sample(1 + x, grid.expand(len(x), -1, -1, -1), align_corners=False) - 1 for grid in grids]
    return torch.stack(moved, 1)


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    """Images of the test and the training split."""
    data = Digits(64)
    return to_unit_range(data.test.images), to_unit_range(data.train.images)


@pytest.fixture(scope="module")
def pictures(digits) -> dict[str, Tensor]:
    """The same pairs of images joined honestly and by every cheat, (PAIRS, STEPS, 1, 32, 32)."""
    test, training = digits
    x = test[:PAIRS]
    honest = turned(x, T)
    a, b, late = honest[:, :1], honest[:, -1:], (T > 0.5).view(-1, 1, 1, 1)
    fade = torch.lerp(a, b, T.view(-1, 1, 1, 1))
    noise = 2 * torch.rand(fade.shape, generator=torch.Generator().manual_seed(0)) - 1
    blurred = F.avg_pool2d(honest.flatten(0, 1), 9, 1, 4).view_as(honest)
    look = digit_network()
    nearest = torch.cdist(look(honest.flatten(0, 1))[0], look(training)[0]).argmin(1)
    slides = training[nearest].view_as(honest)
    others = test[PAIRS : PAIRS + PAIRS * (STEPS - 2)]
    others = others[torch.arange(PAIRS * (STEPS - 2)) % len(others)].view(PAIRS, STEPS - 2, 1, 32, 32)
    return {
        "honest": honest,
        "jump": torch.where(late, b, a),
        "stay, then switch": torch.cat([a.expand(-1, STEPS - 1, -1, -1, -1), b], 1),
        "fade": fade,
        "blur": blurred,
        "blur between the images": torch.cat([a, blurred[:, 1:-1], b], 1),
        "noise": noise,
        "noise between the images": torch.cat([a, noise[:, 1:-1], b], 1),
        "slide show": slides,
        "slide show between the images": torch.cat([a, slides[:, 1:-1], b], 1),
        "slide show of new images": torch.cat([a, others, b], 1),
        "a real image all the way": x[:, None].expand_as(honest),
        "detour": turned(x, 1 - (13 * T % 2 - 1).abs()),  # there and back, 13 times
    }


@pytest.fixture(scope="module")
def scores(digits, pictures) -> dict[str, dict[str, float]]:
    look, (test, training) = digit_network(), digits
    ends = look(pictures["honest"][:, [0, -1]].flatten(0, 1))[0].view(PAIRS, 2, -1)
    references = References(look(test)[0], look(training)[0], ends)
    found = {}
    for name, images in pictures.items():
        features, logits = look(images.flatten(0, 1))
        seen = Seen(*(values.unflatten(0, (PAIRS, STEPS)) for values in (features, logits)), references)
        found[name] = {}
        for metric in (PathScore(), Novelty()):
            metric.update(seen)
            found[name] |= {key: value.item() for key, value in metric.compute().items()}
    return found


CHEATS = ["jump", "stay, then switch", "fade", "blur", "blur between the images", "noise", "noise between the images",
          "slide show", "slide show between the images", "slide show of new images", "a real image all the way",
          "detour"]  # fmt: skip


def test_every_cheat_is_played(pictures):
    assert set(CHEATS) == pictures.keys() - {"honest"}


@pytest.mark.parametrize("cheat", CHEATS)
def test_an_honest_path_beats_every_cheat(scores, cheat):
    assert scores["honest"]["score"] > scores[cheat]["score"] + 0.4


def test_copies_are_not_novel_and_test_images_are(scores, digits):
    test, training = (digit_network()(images)[0] for images in digits)
    assert scores["slide show"]["novelty"] == 0
    assert scores["honest"]["novelty"] > 0.9
    assert novel(test, test, training).double().mean().item() == pytest.approx(0.95, abs=0.005)
    assert not novel(training, test, training).any()


def paths(seed: int, d: int = 3) -> Tensor:
    return torch.randn(4, 7, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 10_000), st.floats(0.1, 10, allow_subnormal=False))
def test_scores_are_shares_and_ignore_direction_and_waiting(seed, stride):
    features, limit = paths(seed), torch.tensor(stride, dtype=torch.float64)
    worth = torch.rand(4, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ends = features[:, [0, -1]]
    score = path_score(features, worth, ends, limit)
    assert ((score >= 0) & (score <= worth.amax(1))).all()
    torch.testing.assert_close(path_score(features.flip(1), worth.flip(1), ends.flip(1), limit), score)
    again = torch.tensor([0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 6])
    torch.testing.assert_close(path_score(features[:, again], worth[:, again], ends, limit), score)


@given(st.integers(0, 10_000))
def test_a_path_that_stays_anywhere_reaches_nothing(seed):
    ends, place = paths(seed)[:, :2], paths(seed + 1)[:, :1]
    assert ends_reached(place.expand(-1, 5, -1), ends).abs().max() == pytest.approx(0, abs=1e-9)
    assert ends_reached(torch.lerp(ends[:, :1], ends[:, 1:], 0.5).expand(-1, 5, -1), ends).max() < 1e-9
    torch.testing.assert_close(ends_reached(ends, ends), torch.ones(4, dtype=torch.float64))
    assert ends_reached(place.expand(-1, 2, -1), place.expand(-1, 2, -1)).tolist() == [0] * 4


@pytest.mark.parametrize("bad", range(16))
def test_one_bad_third_is_all_that_counts(bad):
    features = torch.arange(16.0).view(1, 16, 1)
    worth = torch.ones(1, 16)
    worth[0, max(0, bad - 3) : bad + 3] = 0
    assert path_score(features, worth, features[:, [0, -1]], torch.tensor(1.5)).item() < 0.6


def test_neighbours_are_the_naive_loop():
    a, b = paths(0).flatten(0, 1), paths(1).flatten(0, 1)
    apart = torch.cdist(a, a).sort(1).values[:, 1:4]
    torch.testing.assert_close(neighbour_distances(a, 3), apart)
    torch.testing.assert_close(nearest_distance(a, b), torch.cdist(a, b).amin(1))
    assert nearest_distance(a.float() + 1e3, a.float() + 1e3).max() == 0
