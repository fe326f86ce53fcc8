"""Paths between the same pairs of images by several settings, as strips of frames for the report's sliders."""

import base64
import io
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from interp_lightning.comparison.figures import FADED
from interp_lightning.comparison.groups import Group
from interp_lightning.display.grid import faded
from interp_lightning.metrics.catalogue import CONSTANT, anchor, column_title, parse, title

FRAMES = 21  # positions of a slider
MOST_BYTES = 6 * 2**20  # of all strips in a report
LOSSLESS = 2**17  # bytes of a strip's pixels up to which it is a PNG
LARGEST, SMALLEST = 128, 8  # pixels to a side of a frame that is not
QUALITY = 80  # of these, in WebP


@dataclass(frozen=True)
class Walks:
    """Paths by several settings, frame by frame.

    Args:
        x: images (2·pairs, C, H, W) in [−1, 1]; paths lead from the first half to the second.
        strips: decoded images (pairs, FRAMES, C, H, W) by kind of path, by the setting's label. A kind that a setting
            lacks leaves a gap.
        facts: a number to show below each setting and below `FADED`, see `facts`.
        note: sentences about settings and paths that are not shown; "" if all are.
    """

    x: Tensor
    strips: Mapping[str, Mapping[str, Tensor]]
    facts: Mapping[str, str]
    note: str = ""

    @property
    def kinds(self) -> list[str]:
        """All kinds of path, in the order of their first setting."""
        return [*dict.fromkeys(kind for each in self.strips.values() for kind in each)]


class Line(NamedTuple):
    """A setting's paths between one pair of images.

    Args:
        name: the setting's.
        fact: a number to show below the name; "" for none.
        sprites: a strip of frames by kind of path, as a data URL; "" for a kind that the setting lacks.
    """

    name: str
    fact: str
    sprites: Mapping[str, str]


def lines(walks: Walks, names: Mapping[str, str]) -> list[list[Line]]:
    """Return a line for each setting, and one of fading pixels, for each pair of images.

    Args:
        walks: the paths.
        names: to show, by label.
    """
    strips = len(walks.kinds) * (len(walks.strips) + 1) * (len(walks.x) // 2)
    draw = partial(sprite, room=MOST_BYTES // strips)
    found = []
    for pair, (x_a, x_b) in enumerate(zip(*walks.x.chunk(2), strict=True)):
        fading = draw(faded(torch.stack([x_a, x_b]), FRAMES)[0])
        of_pair = [
            Line(
                names[label],
                walks.facts.get(label, ""),
                {kind: draw(each[kind][pair]) if kind in each else "" for kind in walks.kinds},
            )
            for label, each in walks.strips.items()
        ]
        found.append([*of_pair, Line(FADED, walks.facts.get(FADED, ""), dict.fromkeys(walks.kinds, fading))])
    return found


def sprite(images: Tensor, room: int) -> str:
    """Return images (N, C, H, W) in [−1, 1], side by side, as a data URL: a PNG if they are small, or a WebP.

    Args:
        images: the frames.
        room: the number of characters, which images that are too large are reduced to.
    """
    images = images.cpu().float().clamp(-1, 1)
    url = _url(images, "png", optimize=True) if images.numel() <= LOSSLESS else ""
    side = LARGEST
    while not url or (len(url) > room and side >= SMALLEST):
        share = min(1.0, side / max(images.shape[2:]))
        size = [max(1, round(share * length)) for length in images.shape[2:]]
        url = _url(functional.interpolate(images, size, mode="area"), "webp", quality=QUALITY)
        side //= 2
    return url


def _url(images: Tensor, kind: str, **how: Any) -> str:
    row = torch.cat([*images], dim=2)  # (C, H, N·W)
    pixels = row.add(1).mul(127.5).round().byte().movedim(0, 2).squeeze(2).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind, **how)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def facts(groups: Sequence[Group], objective: str) -> dict[str, str]:
    """Return a number of each setting by label, as "score of graph paths at constant speed 61%", and of `FADED`."""
    found = {
        group.label: f"{title(objective)} {group.formatted(objective)}" for group in groups if group.values(objective)
    }
    sanity = groups[0].sanity(anchor(objective, FADED))
    if not math.isnan(sanity):
        found[FADED] = f"{column_title(objective)} {parse(objective)[0].format(sanity)}"
    return found


def not_kept(groups: Sequence[Group], how: str) -> str:
    """Say which of some settings were measured on a kind of path, which their first run no longer has; "" if none."""
    measured = [
        group
        for group in groups
        if any(parse(name)[1] == how + CONSTANT for name in group.counted[0].content["metrics"])
    ]
    if not measured:
        return ""
    again = " ".join(f"run={shlex.quote(str(group.counted[0].run))}" for group in measured)
    return (
        f"The {how} of {', '.join(group.label for group in measured)} is not shown, as it was not kept for these "
        f"weights and settings; its numbers are older. python -m interp_lightning evaluate {again} makes it again."
    )


def choose(labels: Sequence[str], best_first: Sequence[str], most: int) -> tuple[list[str], str]:
    """Return the settings to show in their order, the best if there are too many, and a sentence if some are missing.

    Example:
        >>> choose(["a", "b", "c"], ["c", "a", "b"], 2)
        (['a', 'c'], 'Only the best 2 of 3 settings are shown.')
    """
    kept = best_first[:most]
    note = f"Only the best {most} of {len(labels)} settings are shown." if len(kept) < len(labels) else ""
    return [label for label in labels if label in kept], note
