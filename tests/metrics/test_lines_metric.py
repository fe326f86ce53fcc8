"""The lines metric against the published one's values, a naive loop and its own symmetries."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.functional.lines import render_lines
from interp_lightning.metrics.lines import TEMPLATES, LineEvaluation, line_evaluation, line_templates, path_smoothness

# Eight pairs and the values of the published evaluation code for them: mean distance, smoothness.
STARTS = [1.87676315, 4.22226834, 1.25359251, 5.91947125, 2.29405484, 0.66284639, 3.95280309, 5.82548387]
TURNS = [0.89020811, 1.77560062, 1.88734553, 3.03550430, 1.60286120, -0.69365596, 2.00958586, -2.93493501]
PUBLISHED = {
    "perfect": (1.678742e-07, 0.000264814),
    "blend": (0.0066202492, 0.9347913),
    "abrupt": (1.0441877e-07, 0.93333334),
    "stuck": (6.3756566e-08, math.nan),
    "one_stuck": (1.4189834e-07, 0.00021776624),
}


def make_paths(kind: str, starts: Tensor, turns: Tensor, steps: int = 16) -> Tensor:
    """(pairs, steps, 32, 32)"""
    t = torch.linspace(0, 1, steps, dtype=torch.float64)
    if kind == "abrupt":
        t = t.round()
    if kind == "stuck":
        turns = torch.zeros_like(turns)
    if kind == "one_stuck":
        turns = torch.cat([torch.zeros_like(turns[:1]), turns[1:]])
    paths = render_lines((starts[:, None] + t * turns[:, None]).flatten()).view(len(starts), steps, 32, 32)
    if kind == "blend":
        return torch.lerp(paths[:, :1], paths[:, -1:], t.float()[:, None, None])
    if kind == "noisy":
        return paths + 0.3 * torch.randn(paths.shape, generator=torch.Generator().manual_seed(0))
    return paths


def eight(kind: str) -> Tensor:
    return make_paths(kind, torch.tensor(STARTS, dtype=torch.float64), torch.tensor(TURNS, dtype=torch.float64))


@functools.cache
def naive_templates() -> tuple[list[float], list[np.ndarray]]:
    angles = np.linspace(0, 2 * np.pi, 10_000, endpoint=False)
    lines = [render_lines(torch.tensor([angle]))[0, 0].double().numpy().ravel() for angle in angles]
    return angles.tolist(), [line / math.sqrt(np.dot(line, line)) for line in lines]


def naive_evaluation(paths: Tensor) -> tuple[float, float]:
    angles, lines = naive_templates()
    distances, scores = [], []
    for path in paths.double().numpy():
        way = []
        for image in path:
            length = math.sqrt(np.dot(image.ravel(), image.ravel()))
            distance, angle = min(
                (1 - np.dot(image.ravel(), line) / length, angle) for angle, line in zip(angles, lines, strict=True)
            )
            distances.append(distance)
            while way and angle - way[-1] > math.pi:
                angle -= 2 * math.pi
            while way and angle - way[-1] < -math.pi:
                angle += 2 * math.pi
            way.append(angle)
        net = abs(way[-1] - way[0])
        if net > 1e-4:
            scores.append(max(abs(b - a) for a, b in itertools.pairwise(way)) / net - 1 / (len(way) - 1))
    return sum(distances) / len(distances), sum(scores) / len(paths) if scores else math.nan


@pytest.mark.parametrize("kind", PUBLISHED)
def test_values_are_those_of_the_published_code(kind):
    distance, smoothness = line_evaluation(eight(kind))
    assert distance == pytest.approx(PUBLISHED[kind][0], abs=1e-9)
    assert smoothness == pytest.approx(PUBLISHED[kind][1], abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("kind", [*PUBLISHED, "noisy"])
def test_agrees_with_a_naive_loop(kind):
    starts, turns = torch.tensor([6.1, 2.0, 0.2]).double(), torch.tensor([0.7, 3.0, -1.1]).double()
    paths = make_paths(kind, starts, turns, steps=7)
    assert line_evaluation(paths) == pytest.approx(naive_evaluation(paths), abs=1e-9, nan_ok=True)


def test_anchors_of_256_random_pairs():
    generator = torch.Generator().manual_seed(0)
    starts, ends = 2 * math.pi * torch.rand(2, 256, generator=generator, dtype=torch.float64)
    turns = (ends - starts + math.pi) % (2 * math.pi) - math.pi
    perfect, blend, abrupt = (
        line_evaluation(make_paths(kind, starts, turns)) for kind in ("perfect", "blend", "abrupt")
    )
    assert perfect[0] == pytest.approx(1.7e-7, rel=0.1)
    assert 3e-4 <= perfect[1] <= 2e-3  # a template's width over the turn, so the few smallest turns decide
    assert blend == pytest.approx((6.3e-3, 0.89), rel=0.05)
    assert abrupt[0] == pytest.approx(1.7e-7, rel=0.15)
    assert abrupt[1] == pytest.approx(1 - 1 / 15, abs=1e-9)


@pytest.mark.parametrize("kind", ["blend", "one_stuck", "noisy"])
def test_order_of_pairs_and_direction_of_paths_do_not_matter(kind):
    paths = eight(kind)
    expected = pytest.approx(line_evaluation(paths), rel=1e-9)
    assert line_evaluation(paths[torch.randperm(8, generator=torch.Generator().manual_seed(0))]) == expected
    assert line_evaluation(paths.flip(1)) == expected


@pytest.mark.parametrize(
    ("templates", "expected"),
    [
        ([0, 100, 200, 300], 0),
        ([9900, 0, 100, 200], 0),  # over angle 0
        ([0, 4000, 8000, 2000, 6000, 0], 0),  # twice around is a net turn, though it ends where it began
        ([0, 200, 200, 300], 2 / 3 - 1 / 3),
        ([0, 300, 200, 100], 3 - 1 / 3),  # back and forth: the net turn divides, not the way
        ([0, 5000, 6000], 5 / 6 - 1 / 2),
        ([6000, 5000, 0], 5 / 6 - 1 / 2),  # half a circle has no short way round, and backwards is the same path
        ([7, 7, 7], math.nan),
        ([7, 900, 7], math.nan),
    ],
)
def test_smoothness_by_hand(templates, expected):
    assert path_smoothness(torch.tensor([templates])).item() == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_an_image_of_zeros_is_at_distance_one_and_has_no_smoothness():
    assert line_evaluation(torch.zeros(2, 3, 32, 32)) == pytest.approx((1, math.nan), nan_ok=True)


def test_metric_of_many_updates_and_devices_is_the_function_of_all_paths():
    paths = torch.cat([eight("one_stuck"), eight("stuck"), eight("blend")])
    here, elsewhere = LineEvaluation(), LineEvaluation()
    here.update(paths[:3])
    here.update(paths[3:10])
    elsewhere.update(paths[10:])
    here.merge_state(elsewhere)
    values = here.compute()
    assert list(values) == ["lines_mean_distance", "lines_smoothness"]
    assert [value.item() for value in values.values()] == pytest.approx(line_evaluation(paths), rel=1e-9)


def test_metric_is_nan_until_a_path_turns_and_starts_anew_after_reset():
    metric = LineEvaluation()
    metric.update(eight("stuck"))
    assert metric.compute()["lines_smoothness"].isnan()
    metric.update(eight("perfect"))
    assert metric.compute()["lines_smoothness"].item() == pytest.approx(PUBLISHED["perfect"][1] / 2, abs=1e-6)
    metric.reset()
    metric.update(eight("perfect"))
    assert metric.compute()["lines_smoothness"].item() == pytest.approx(PUBLISHED["perfect"][1], abs=1e-6)


def test_templates_are_made_once_per_size_and_not_saved():
    metric = LineEvaluation()
    metric.update(eight("perfect"))
    assert metric.state_dict(keep_vars=True) == {}
    metric.persistent(True)
    assert sum(state.numel() for state in metric.state_dict().values()) == 4
    cpu = torch.device("cpu")
    assert line_templates(16, cpu) is line_templates(16, cpu)
    assert line_templates(16, cpu).shape == (TEMPLATES, 16 * 16)
    small = render_lines(torch.arange(16) / 10, size=16).view(1, 16, 16, 16)
    assert line_evaluation(small) == pytest.approx((0, 0), abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_costs_the_rounding_of_the_pixels_and_nothing_more(dtype):
    paths = eight("blend").to(dtype)
    expected = line_evaluation(paths.double())
    assert line_evaluation(paths) == expected
    with torch.autocast("cpu", torch.bfloat16):
        assert line_evaluation(paths.float()) == expected
    assert expected == pytest.approx(PUBLISHED["blend"], abs=2e-3)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (torch.zeros(2, 3, 3, 8, 8), r"`paths` \(of shape \(2, 3, 3, 8, 8\)\) must have 4 dimensions; reshape to"),
        (torch.zeros(2, 3, 8, 9), r"`paths` \(images of 8×9\) must hold square images; crop or pad"),
        (torch.zeros(2, 1, 8, 8), r"`paths` \(=1 steps\) must have at least 2 steps; use 16"),
        (torch.full((1, 2, 8, 8), math.nan), r"`paths` \(=128 NaN or infinite pixels\) must be finite; evaluate"),
        (torch.full((1, 2, 8, 8), math.inf), r"`paths` \(=128 NaN or infinite pixels\) must be finite; evaluate"),
    ],
)
def test_wrong_paths_are_refused_in_one_sentence(paths, message):
    with pytest.raises(ConfigError, match=message):
        line_evaluation(paths)
    with pytest.raises(ConfigError, match=message):
        LineEvaluation().update(paths)
