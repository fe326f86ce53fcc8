"""The lines metric against a naive loop, known paths and the published anchors."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from interp_lightning.data.lines import render_lines
from interp_lightning.errors import ConfigError
from interp_lightning.metrics.lines import TEMPLATES, LineEvaluation, line_evaluation

STEPS = 16


def perfect(pairs: int, seed: int = 0) -> Tensor:
    """Lines that turn evenly the short way round between random angles, (pairs, 16, 32, 32)."""
    start, turn = torch.rand(2, pairs, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    angles = 2 * math.pi * start[:, None] + math.pi * (2 * turn[:, None] - 1) * torch.linspace(0, 1, STEPS).double()
    return render_lines(angles.flatten()).view(pairs, STEPS, 32, 32)


def blend(pairs: int, seed: int = 0) -> Tensor:
    """The pixels of both ends faded into one another."""
    ends, t = perfect(pairs, seed)[:, [0, -1]], torch.linspace(0, 1, STEPS)[None, :, None, None]
    return (1 - t) * ends[:, :1] + t * ends[:, 1:]


def abrupt(pairs: int, seed: int = 0) -> Tensor:
    """One end, and from the middle on the other."""
    ends = perfect(pairs, seed)[:, [0, -1]]
    return torch.cat([ends[:, :1].expand(-1, STEPS // 2, -1, -1), ends[:, 1:].expand(-1, STEPS // 2, -1, -1)], 1)


def stuck(pairs: int) -> Tensor:
    """The same line all the way."""
    return perfect(pairs)[:, :1].expand(-1, STEPS, -1, -1)


def naive(paths: Tensor) -> tuple[float, float]:
    """The metric by its definition, image by image."""
    templates = render_lines(torch.arange(TEMPLATES, dtype=torch.float64) * (2 * math.pi / TEMPLATES))
    rows = templates.flatten(1).double().numpy()
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    distances, scores = [], []
    for path in paths.double().numpy():
        angles = []
        for image in path:
            cosines = rows @ (image.ravel() / np.linalg.norm(image))
            distances.append(1 - cosines.max())
            angles.append(2 * math.pi * int(cosines.argmax()) / TEMPLATES)
        angles = np.unwrap(angles)
        net = abs(angles[-1] - angles[0])
        if net > 1e-9:
            scores.append(np.abs(np.diff(angles)).max() / net - 1 / (len(path) - 1))
    return float(np.mean(distances)), sum(scores) / len(paths) if scores else math.nan


@pytest.mark.parametrize("kind", [perfect, blend, abrupt])
def test_it_is_the_naive_loop(kind):
    paths = kind(4, seed=1)
    assert line_evaluation(paths) == pytest.approx(naive(paths), abs=1e-7)


@pytest.mark.parametrize(
    ("kind", "distance", "smoothness"),
    [
        (perfect, (1e-7, 3e-7), (2e-4, 2e-3)),
        (blend, (5e-3, 7.5e-3), (0.85, 0.93)),
        (abrupt, (1e-7, 3e-7), (0.93, 0.94)),
    ],
)
def test_published_anchors_on_256_pairs(kind, distance, smoothness):
    result = line_evaluation(kind(256))
    assert distance[0] < result[0] < distance[1]
    assert smoothness[0] < result[1] < smoothness[1]


def test_a_path_that_does_not_turn_has_no_smoothness_and_counts_zero_beside_others():
    assert math.isnan(line_evaluation(stuck(3))[1])
    moving = abrupt(3, seed=2)
    alone = line_evaluation(moving)[1]
    assert line_evaluation(torch.cat([moving, stuck(1)]))[1] == pytest.approx(alone * 3 / 4, rel=1e-9)


def test_the_order_of_pairs_and_the_direction_of_paths_do_not_matter():
    paths = blend(6, seed=3)
    for other in (paths.flip(0), paths.flip(1)):
        assert line_evaluation(other) == pytest.approx(line_evaluation(paths), rel=1e-9)


def test_many_updates_are_one_call():
    paths = torch.cat([perfect(5, seed=4), blend(4, seed=5), stuck(2)])
    metric = LineEvaluation()
    for part in paths.split(3):
        metric.update(part)
    distance, smoothness = line_evaluation(paths)
    assert metric.compute()["lines_mean_distance"].item() == pytest.approx(distance, rel=1e-9)
    assert metric.compute()["lines_smoothness"].item() == pytest.approx(smoothness, rel=1e-9)
    assert not metric.state_dict()


def test_half_precision_images():
    paths = blend(4)
    assert line_evaluation(paths.half())[0] == pytest.approx(line_evaluation(paths)[0], rel=1e-2)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (torch.zeros(2, 16, 1, 32, 32), r"`paths` \(of shape \(2, 16, 1, 32, 32\)\) must have 4 dimensions"),
        (torch.zeros(2, 16, 32, 28), r"`paths` \(images of 32×28\) must hold square images"),
        (torch.zeros(2, 1, 32, 32), r"`paths` \(=1 steps\) must have at least 2"),
        (torch.full((1, 2, 32, 32), math.nan), r"`paths` \(=2048 NaN or infinite pixels\)"),
    ],
)
def test_bad_paths(paths, message):
    with pytest.raises(ConfigError, match=message):
        line_evaluation(paths)
