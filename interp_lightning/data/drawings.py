"""Find a drawing on its page: crop it, and remove the page."""

from typing import NamedTuple

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torchvision.transforms.v2.functional import resize

WORKING = 800  # pixels to a side, enough to find a drawing
LEVELS = tuple(0.06 * 1.37**step for step in range(9))  # of contrast: 0.06 is faint pencil, 0.75 is black ink
INK = 0.2  # share of the drawing's contrast from which a pixel belongs to the drawing
LEAST_SCORE = 0.05  # drawings score 10 to 200, 0.1 if cut off; shadows, noise and lines score less
MOST_PLACES = 12  # where a drawing touches the edge of a picture cropped to it; rulings touch in more
EIGHT = np.ones((3, 3))  # pixels that touch at a corner are connected


class Ink(NamedTuple):
    """A picture, separated into dark strokes and a light ground, each (h, w)."""

    image: np.ndarray
    ground: np.ndarray  # brightness around each pixel, without strokes
    contrast: np.ndarray  # of the strokes, in [0, 1]


class Stroke(NamedTuple):
    """A connected stroke, scored by its likeness to a drawing."""

    score: float
    level: float  # contrast at which it was found
    seed: tuple[int, ...]  # its pixel of highest contrast


class Parts(NamedTuple):
    """The connected parts (n) of a mask."""

    labels: np.ndarray  # (h, w), from 1; 0 is no part
    areas: np.ndarray  # (n,)
    boxes: np.ndarray  # (n, 2 axes, 2): start and stop
    extents: np.ndarray  # (n,), the longer side of the box
    touching: np.ndarray  # (n,), True where it touches the picture's edge


def cut_out(image: np.ndarray) -> tuple[np.ndarray, bool] | None:
    """Crop a drawing, (h, w) in [0, 1], and remove its page: its ink is 1. Also return True if the ink was dark.

    Dark and light strokes are found separately. The drawing is the stroke with the best score of both, and the parts
    around it. A small drawing is searched again in a window around it. None if there is no drawing.
    """
    small = image
    if max(image.shape) > WORKING:
        sides = [max(1, round(side * WORKING / max(image.shape))) for side in image.shape]
        small = resize(torch.from_numpy(image)[None], sides, antialias=True)[0].numpy()
    inks = {dark: _ink(small, dark) for dark in (True, False)}
    stroke, dark = max((_best_stroke(ink), dark) for dark, ink in inks.items())
    if stroke.score < LEAST_SCORE:
        return None
    contrast = inks[dark].contrast
    kept, floor = _drawing(contrast, stroke)
    rows, columns = (np.flatnonzero(kept.any(axis)) for axis in (1, 0))
    near = 3 * max(len(rows), len(columns))
    if small is not image and near < WORKING / 2:
        scale = max(image.shape) / WORKING
        centre = [(each[0] + each[-1] + 1) / 2 for each in (rows, columns)]
        window = tuple(slice(max(0, int((c - near / 2) * scale)), int((c + near / 2) * scale)) for c in centre)
        return cut_out(image[window])
    ink = ((contrast - floor) / (np.quantile(contrast[kept], 0.8) - floor)).clip(0, 1)
    ink = ink * ndimage.binary_dilation(kept, EIGHT, iterations=2)
    rows, columns = (np.flatnonzero((kept & (ink > INK)).any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], dark


def _ink(image: np.ndarray, dark: bool) -> Ink:
    """Separate strokes from the ground by a closing, which removes parts thinner than a quarter of the picture.

    Shadows, tables and pages are wider: they belong to the ground. Light scales dark ink and its paper alike, so the
    contrast of dark ink is a ratio; light ink has no such scale.
    """
    if max(image.shape) > 100:
        image = ndimage.gaussian_filter(image, 0.8)  # noise
    brightest = image.max()
    image = image if dark else brightest - image
    ground = ndimage.grey_closing(image, size=max(3, max(image.shape) // 4))
    contrast = (ground - image) / (np.maximum(ground, max(0.2 * ground.max(), 1e-6)) if dark else brightest)
    usual = np.median(contrast)  # noise raises the closing
    return Ink(image, ground, ((contrast - usual) / max(1 - usual, 1e-6)).clip(0))


def border(images: Tensor) -> Tensor:
    """Return the outermost pixels of images (…, h, w), flat."""
    return torch.cat(
        [edge.flatten() for edge in (images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1])]
    )


def _parts(mask: np.ndarray) -> Parts:
    """Label the connected parts of a mask (h, w)."""
    labels, _ = ndimage.label(mask, EIGHT)
    found = [[(axis.start, axis.stop) for axis in box] for box in ndimage.find_objects(labels)]
    boxes = np.array(found, dtype=int).reshape(-1, 2, 2)
    extents = (boxes[..., 1] - boxes[..., 0]).max(1)
    touching = ((boxes[..., 0] == 0) | (boxes[..., 1] == mask.shape)).any(1)
    return Parts(labels, np.bincount(labels.ravel())[1:], boxes, extents, touching)


def _best_stroke(ink: Ink) -> Stroke:
    """Search all levels of contrast for the stroke that looks most like a drawing.

    A drawing is large, of high contrast, neither a hairline nor a frame, inside the picture, and isolated.
    """
    best = Stroke(0.0, 0.0, (0, 0))
    for level in LEVELS:
        parts = _parts(ink.contrast > level)
        fill = parts.areas / parts.extents**2
        scores = level * parts.extents * (fill / 0.1).clip(max=1) ** 1.5 * _inside(parts, fill)
        for part in scores.argsort()[:-5:-1]:
            if scores[part] <= best.score:
                break
            window = tuple(slice(*axis) for axis in parts.boxes[part])
            own = parts.labels[window] == part + 1
            score = float(scores[part]) * _isolation(ink, parts.boxes[part], window, own) ** 4
            if score > best.score:
                seed = np.argwhere(own)[ink.contrast[window][own].argmax()] + parts.boxes[part, :, 0]
                best = Stroke(score, level, tuple(seed.tolist()))
    return best


def _inside(parts: Parts, fill: np.ndarray) -> np.ndarray:
    """Return a weight for each part by its contact with the picture's edge, (n,).

    Tables, frames and rulings touch it. A drawing does so only if it is cut off, or if it fills a picture cropped to it
    and touches the edge in few places.
    """
    edge = border(torch.from_numpy(parts.labels)).numpy()
    share = np.bincount(edge, minlength=len(fill) + 1)[1:] / len(edge)
    sides = parts.boxes[..., 1] - parts.boxes[..., 0]
    places = np.bincount(edge[edge != np.roll(edge, 1)], minlength=len(fill) + 1)[1:]
    cropped = (sides >= 0.9 * np.array(parts.labels.shape)).all(1) & (fill > 0.15) & (places <= MOST_PLACES)
    return np.select([~parts.touching, share >= 0.45, cropped], [1.0, 0.0, 0.3], 0.001)


def _isolation(ink: Ink, box: np.ndarray, window: tuple[slice, ...], own: np.ndarray) -> float:
    """Return the lowest share of ground on any side of a frame around a stroke.

    A gap between light and dark, or the inside of a zero, looks like a stroke of the other brightness, but is not
    isolated.
    """
    margin = 1 + int(0.08 * (box[:, 1] - box[:, 0]).max())
    (top, left), (bottom, right) = box[:, 0] - margin, box[:, 1] + margin
    height, width = ink.image.shape
    rows, columns = slice(max(top, 0), bottom + 1), slice(max(left, 0), right + 1)
    sides = [ink.image[row, columns] for row in (top, bottom) if 0 <= row < height]
    sides += [ink.image[rows, column] for column in (left, right) if 0 <= column < width]
    between = (np.median(ink.image[window][own]) + np.median(ink.ground[window][own])) / 2
    return min((float((side > between).mean()) for side in sides), default=1.0)


def _drawing(contrast: np.ndarray, stroke: Stroke) -> tuple[np.ndarray, float]:
    """Return the mask of a drawing from its main stroke, and the contrast of rulings that cross it, else 0.

    The level is lowered until the stroke joins something larger, so that its faint ends belong to it.
    """
    parts, floor = _parts(contrast > stroke.level), 0.0
    main = parts.labels[stroke.seed] - 1
    for level in (each for each in reversed(LEVELS) if INK * contrast[stroke.seed] < each < stroke.level):
        lower = _parts(contrast > level)
        joined = lower.labels[stroke.seed] - 1
        if lower.extents[joined] > 1.15 * parts.extents[main]:
            floor = level
            break
        parts, main = lower, joined
    starts, stops = parts.boxes[..., 0], parts.boxes[..., 1]
    gaps = np.maximum(starts - stops[main], starts[main] - stops).max(1)
    kept = (gaps < 0.25 * parts.extents[main]) & (parts.areas > 0.05 * parts.areas[main])
    kept &= (parts.extents <= parts.extents[main]) & ~parts.touching
    kept[main] = True
    return np.concatenate([[False], kept])[parts.labels], floor
