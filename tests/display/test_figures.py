"""What figures say, without drawing them."""

import pytest
import torch

from interp_lightning.display.figures import path_profile
from interp_lightning.display.grid import grid_between, image_grid, mosaic
from interp_lightning.evaluation.assessment import Profile
from interp_lightning.metrics.catalogue import WAYS


def test_blocks_of_rows_have_a_gap_and_captions_above_and_below():
    images = torch.full((6, 3, 1, 9, 9), -1.0)
    white = (mosaic(images, block=2)[:, 0, 0] == 1).int()
    block = [*9 * [0], 1, *9 * [0]]
    assert white.tolist() == [*block, *4 * [1], *block, *4 * [1], *block]
    for block, above in ((2, True), (6, False), (0, False)):
        axes = image_grid(images, "title", "abcdef", "xyz", block).axes[0]
        assert axes.xaxis.get_tick_params()["labeltop"] is above
        assert axes.xaxis.get_tick_params()["labelbottom"]
        middles = [round(at) for at in axes.get_yticks()]
        rows = mosaic(images, block)[:, 0, 0]
        assert all(rows[middle] == 0 for middle in middles)


def test_a_grid_between_four_images_shows_them_beside_its_corners():
    corners = torch.tensor([-1.0, -0.5, 0.0, 0.5]).reshape(4, 1, 1, 1)
    axes = grid_between(corners, torch.full((3, 2, 1, 1, 1), -0.75), "title").axes[0]
    pixels = 2 * torch.as_tensor(axes.images[0].get_array())[::2, ::2] - 1  # without the gaps
    between = [-0.75, -0.75]
    assert pixels.tolist() == [[-1.0, *between, -0.5], [1.0, *between, 1.0], [0.0, *between, 0.5]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["image", "", "", "image"]


@pytest.mark.parametrize("judged", [True, False])
def test_every_curve_of_a_profile_can_be_told_apart_and_no_legend_covers_one(judged):
    values = torch.rand(5) if judged else None
    figure = path_profile({way: Profile(torch.rand(4) + 1, values, values) for way in WAYS}, "title")
    assert len(figure.axes) == (3 if judged else 1)
    for axes in figure.axes:
        assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == len(WAYS)
        assert axes.get_legend() is None
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*WAYS.values()]
    assert "own speed" in figure.get_suptitle()
