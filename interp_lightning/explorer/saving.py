"""Save paths as GIF, PNG or MP4, and grids as PNG."""

import base64
import re
from collections.abc import Sequence

import torch
from torch import Tensor

from interp_lightning.display.animation import encoder, gif, mp4
from interp_lightning.display.figures import png
from interp_lightning.display.grid import image_grid
from interp_lightning.explorer.ends import End
from interp_lightning.explorer.state import SIDE, Strip

FORMATS = {"gif": "GIF", "png": "PNG", "mp4": "MP4"}
TYPES = {"gif": "image/gif", "png": "image/png", "mp4": "video/mp4"}
EVERY, FRAMES = 2, 11  # frames of an animation are every second one; of a picture, so many


def formats() -> list[str]:
    """Return the formats that this machine can write."""
    return [kind for kind in FORMATS if kind != "mp4" or encoder()]


def saved(kind: str, strips: Sequence[Strip], speed: str, a: End, b: End) -> tuple[str, str]:
    """Return a name for a file, and the file as a data URL.

    Args:
        kind: one of `formats()`.
        strips: side by side in an animation, one below the other in a picture.
        speed, a, b: of the paths.
    """
    ends, kinds = f"{a.name} → {b.name}", " | ".join(_names(strips))
    caption = f"{ends}\n{kinds}, {speed} speed"
    content = {"gif": lambda: gif(_film(strips), caption), "mp4": lambda: mp4(_film(strips), caption)}.get(
        kind, lambda: _picture(strips, f"{ends}\n{speed} speed")
    )()
    return _file(kind, f"{a.name} to {b.name}", content)


def saved_grid(grids: Sequence[Strip], corners: Sequence[End]) -> tuple[str, str]:
    """Return a name for a picture, and the picture as a data URL.

    Args:
        grids: one below the other.
        corners: of the grids: two above, two below.
    """
    images = torch.cat([grid.images.unflatten(0, (SIDE, SIDE)) for grid in grids])
    a, b, c, d = (corner.name for corner in corners)
    names = [name if row == SIDE // 2 else "" for name in (grid.run for grid in grids) for row in range(SIDE)]
    return _file("png", f"{a} to {b} {c} {d}", png(image_grid(images, f"{a} … {b}\n{c} … {d}", names)))


def _file(kind: str, title: str, content: bytes) -> tuple[str, str]:
    stem = re.sub(r"[^\w]+", "_", title).strip("_")
    return f"{stem}.{kind}", f"data:{TYPES[kind]};base64,{base64.b64encode(content).decode()}"


def _film(strips: Sequence[Strip]) -> Tensor:
    """Return the strips side by side, with a gap between them, (T, C, H, W)."""
    images = [strip.images[::EVERY] for strip in strips]
    gap = torch.ones_like(images[0][..., : max(1, images[0].shape[3] // 16)])
    return torch.cat([part for each in images for part in (gap, each)][1:], dim=3)


def _names(strips: Sequence[Strip]) -> list[str]:
    return [f"{strip.how}, {strip.run}" for strip in strips]


def _picture(strips: Sequence[Strip], title: str) -> bytes:
    at = torch.linspace(0, len(strips[0].images) - 1, FRAMES).round().long()
    rows = torch.stack([strip.images[at] for strip in strips])
    return png(image_grid(rows, title, _names(strips), [f"{step / (FRAMES - 1):.1f}" for step in range(FRAMES)]))
