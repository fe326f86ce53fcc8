"""What figures say, without drawing them."""

import pytest
import torch

from interp_lightning.display.figures import path_profile
from interp_lightning.display.grid import image_grid, mosaic
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
