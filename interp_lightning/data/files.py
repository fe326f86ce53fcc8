"""Users' own image files, made to look like a data set's."""

import os
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms.v2.functional import resize

from interp_lightning.data.base import Drawing, ImageData
from interp_lightning.errors import DataError
from interp_lightning.functional.images import to_unit_range

LEAST, MOST = 8, 10_000  # pixels to a side
# Formats of cameras, scanners and paint programs. Pillow decodes each in this process: EPS would start Ghostscript.
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "AVIF", "GIF", "BMP", "JPEG2000", "ICO", "PCX", "PPM", "TGA")
BLANK = 0.05  # the least contrast of a picture with something on it
WORKING = 800  # pixels to a side that are enough to find a drawing
LEVELS = tuple(0.06 * 1.37**step for step in range(9))  # of contrast: 0.06 is faint pencil, 0.75 is black ink
INK = 0.2  # share of the drawing's contrast from which a pixel belongs to the drawing
LEAST_SCORE = 0.05  # of a drawing: ten to two hundred, 0.1 if it is cut off, less of shadows, noise and lines
MOST_PLACES = 12  # in which a drawing touches the edge of a picture cropped to it; rulings do in more
EIGHT = np.ones((3, 3))  # pixels that touch at a corner are connected


def read_image(path: Path, data: ImageData) -> tuple[Tensor, bool]:
    """Read an image file as an image of a data set: its size, its channels, its range.

    For a data set of drawings (`data.drawing`), find the drawing on its page, remove the page, and scale, centre and
    if necessary invert the drawing as in the data set. For others, pad the image to a square and scale it whole; never
    invert it. Transparent pixels count as white, or behind light ink as black.

    Args:
        path: a file in one of `FORMATS`; of an animation, the first image.
        data: the data set to imitate.

    Returns:
        The image, (1, C, H, W) in [−1, 1], and whether the drawing is inverted, dark and light.

    Raises:
        DataError: the file is missing, no image, damaged, below 8 or above 10,000 pixels to a side, or blank.
    """
    channels, size, _ = data.image_shape
    pixels = torch.from_numpy(_pixels(path, colour=channels == 3)).movedim(2, 0)  # (C, h, w) in [0, 1]
    if pixels.max() - pixels.min() < BLANK:
        raise DataError(f"{path} is blank: all its pixels are alike; take an image with something on it")
    if data.drawing is None:
        return _whole(pixels, size).clamp(0, 1)[None] * 2 - 1, False
    found = _cut_out(pixels[0].numpy())
    if found is None:
        raise DataError(f"{path} is blank: no drawing stands out from its background; take an image with one on it")
    ink, dark = found
    framed = _centred(torch.from_numpy(ink), size, data.drawing).clamp(0, 1)[None] * 2 - 1
    dark_data = bool(to_unit_range(data.test.batch(data.test.all()[:100])[0]).median() > 0)  # it is mostly background
    return -framed if dark_data else framed, dark != dark_data


def _pixels(path: Path, colour: bool) -> np.ndarray:
    """(h, w, C) float32 in [0, 1]."""
    way_out = "name a PNG, JPEG or other image file"
    if not os.path.isfile(path):  # a pipe or a device could block
        raise DataError(f"{path} is no file; {way_out}")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_known()) as file:
            if not LEAST <= min(file.size) <= max(file.size) <= MOST:
                size = f"{file.width:,} × {file.height:,}"
                raise DataError(f"{path} is {size} pixels, but must have {LEAST} to {MOST:,} to a side; resize it")
            return _values(path, ImageOps.exif_transpose(file), colour)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is too large: it must have {LEAST} to {MOST:,} pixels to a side; resize it") from error
    except Exception as error:  # whatever a decoder happens to raise on a damaged file
        if foreign := _foreign(path):
            raise DataError(f"{path} is {foreign}, which cannot be read; convert it to JPEG or PNG") from error
        if isinstance(error, UnidentifiedImageError):
            said = "empty" if os.path.getsize(path) == 0 else f"no image of a known format ({', '.join(FORMATS)})"
            raise DataError(f"{path} is {said}; {way_out}") from error
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
        raise DataError(f"{path} cannot be read ({reason}); {way_out}") from error


def _known() -> list[str]:
    """The formats that this build of Pillow reads."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _foreign(path: Path) -> str:
    """The name of a common format that is not read, or nothing."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:
        return ""
    if start[4:8] == b"ftyp" and b"avif" not in start and b"avis" not in start:
        return "HEIC (or a film)"
    marks = {b"%!": "PostScript", b"\xc5\xd0\xd3\xc6": "PostScript", b"%PDF": "PDF", b"<svg": "SVG", b"<?xml": "SVG"}
    return next((name for mark, name in marks.items() if start.startswith(mark)), "")


def _values(path: Path, image: Image.Image, colour: bool) -> np.ndarray:
    """The pixels of an open image, (h, w, C) float32 in [0, 1].

    Full scale is 255. Floats and integers of 16 or 32 bits have no fixed one: programs write 12 bits into 16, or floats
    from 0 to 1. Some write 0 and 1, or 0 to 16, into 8 bits. For all of these full scale is the largest value.
    """
    wide = image.mode[0] in "IF"
    if not wide:
        if image.has_transparency_data:
            image = _on_paper(image.convert("RGBA"))
        image = image.convert("RGB" if colour else "L")
    array = np.asarray(image, dtype=np.float32)
    low, high = float(array.min()), float(array.max())
    if not np.isfinite(array).all() or low < -0.25 * high:  # bicubic resizing goes a little below 0
        raise DataError(f"{path} has pixels from {low:g} to {high:g}, which must be finite and ≥ 0; save it as PNG")
    array = (array / (max(high, 1e-30) if wide or high <= 16 else 255)).clip(0, 1)
    return array if array.ndim == 3 else np.repeat(array[..., None], 3 if colour else 1, axis=2)


def _on_paper(image: Image.Image) -> Image.Image:
    """A transparent image on white, or if it is light itself, on black."""
    grey, alpha = (np.asarray(image.convert("LA"), dtype=np.float32)[..., i] for i in (0, 1))
    light = (grey * alpha).sum() > 0.5 * 255 * alpha.sum()
    return Image.alpha_composite(Image.new("RGBA", image.size, "black" if light else "white"), image)


def _border(images: Tensor) -> Tensor:
    """The outermost pixels of (…, h, w), flat."""
    return torch.cat(
        [edge.flatten() for edge in (images[..., 0, :], images[..., -1, :], images[..., 0], images[..., -1])]
    )


def _whole(pixels: Tensor, size: int) -> Tensor:
    """Padded to a square with its background, (C, h, w) → (C, size, size)."""
    _, height, width = pixels.shape
    spare = max(height, width) - torch.tensor([height, width])
    top, left = (spare // 2).tolist()
    bottom, right = (spare - spare // 2).tolist()
    square = pad(pixels, [left, right, top, bottom], value=_border(pixels).median().item())
    return resize(square, [size, size], antialias=True)


def _centred(drawn: Tensor, size: int, drawing: Drawing) -> Tensor:
    """Scale a light drawing and put it in the middle, (h, w) → (1, size, size)."""
    scale = drawing.box / max(drawn.shape)
    ink = resize(drawn[None], [max(1, round(side * scale)) for side in drawn.shape], antialias=True)
    mass = ink[0].clamp(0, 1) if drawing.by_mass else torch.ones(ink.shape[1:])
    corner = []
    for axis, side in enumerate(mass.shape):
        weight = mass.sum(1 - axis) / mass.sum()
        middle = (weight * (torch.arange(side) + 0.5)).sum().item()
        corner.append(min(max(round((size + drawing.by_mass) / 2 - middle), 0), size - side))
    top, left = corner
    canvas = torch.zeros(1, size, size)
    canvas[:, top : top + ink.shape[1], left : left + ink.shape[2]] = ink
    return canvas


class Ink(NamedTuple):
    """A picture as dark strokes on a light ground, each (h, w)."""

    image: np.ndarray
    ground: np.ndarray  # the brightness around each pixel, without strokes
    contrast: np.ndarray  # of the strokes, in [0, 1]


class Stroke(NamedTuple):
    """A connected stroke, and how much it looks like a drawing."""

    score: float
    level: float  # of contrast at which it was found
    seed: tuple[int, ...]  # its pixel of most contrast


class Parts(NamedTuple):
    """The connected parts (n) of a mask."""

    labels: np.ndarray  # (h, w), from 1; 0 is no part
    areas: np.ndarray  # (n,)
    boxes: np.ndarray  # (n, 2 axes, 2): start and stop
    extents: np.ndarray  # (n,), the longer side of the box
    touching: np.ndarray  # (n,), whether it touches the picture's edge


def _cut_out(image: np.ndarray) -> tuple[np.ndarray, bool] | None:
    """Crop a drawing, (h, w) in [0, 1], and remove its page: its ink is 1. Also return whether the ink was dark.

    Dark and light strokes are found separately. The drawing is the stroke with the best score in any of the two, and
    the parts around it. A small one is looked at again from nearby.
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
        return _cut_out(image[window])
    ink = ((contrast - floor) / (np.quantile(contrast[kept], 0.8) - floor)).clip(0, 1)
    ink = ink * ndimage.binary_dilation(kept, EIGHT, iterations=2)
    rows, columns = (np.flatnonzero((kept & (ink > INK)).any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], dark


def _ink(image: np.ndarray, dark: bool) -> Ink:
    """Separate strokes from the ground by a closing: it removes what is thinner than a quarter of the picture.

    Shadows, tables and pages are wider, and part of the ground. Light multiplies dark ink and its paper alike, so their
    ratio counts; light ink has no such scale.
    """
    if max(image.shape) > 100:
        image = ndimage.gaussian_filter(image, 0.8)  # noise
    brightest = image.max()
    image = image if dark else brightest - image
    ground = ndimage.grey_closing(image, size=max(3, max(image.shape) // 4))
    contrast = (ground - image) / (np.maximum(ground, max(0.2 * ground.max(), 1e-6)) if dark else brightest)
    usual = np.median(contrast)  # noise lifts the closing
    return Ink(image, ground, ((contrast - usual) / max(1 - usual, 1e-6)).clip(0))


def _parts(mask: np.ndarray) -> Parts:
    labels, _ = ndimage.label(mask, EIGHT)
    found = [[(axis.start, axis.stop) for axis in box] for box in ndimage.find_objects(labels)]
    boxes = np.array(found, dtype=int).reshape(-1, 2, 2)
    extents = (boxes[..., 1] - boxes[..., 0]).max(1)
    touching = ((boxes[..., 0] == 0) | (boxes[..., 1] == mask.shape)).any(1)
    return Parts(labels, np.bincount(labels.ravel())[1:], boxes, extents, touching)


def _best_stroke(ink: Ink) -> Stroke:
    """Search all levels of contrast for the stroke that looks most like a drawing.

    It is large, of high contrast, neither a hairline nor a frame, inside the picture, and isolated.
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
    """Weigh parts by how they touch the picture's edge, (n,).

    Tables, frames and rulings do; of drawings only those that are cut off, or that fill a picture cropped to them and
    touch its edge in few places.
    """
    edge = _border(torch.from_numpy(parts.labels)).numpy()
    share = np.bincount(edge, minlength=len(fill) + 1)[1:] / len(edge)
    sides = parts.boxes[..., 1] - parts.boxes[..., 0]
    places = np.bincount(edge[edge != np.roll(edge, 1)], minlength=len(fill) + 1)[1:]
    cropped = (sides >= 0.9 * np.array(parts.labels.shape)).all(1) & (fill > 0.15) & (places <= MOST_PLACES)
    return np.select([~parts.touching, share >= 0.45, cropped], [1.0, 0.0, 0.3], 0.001)


def _isolation(ink: Ink, box: np.ndarray, window: tuple[slice, ...], own: np.ndarray) -> float:
    """Share of ground on that side of a frame around a stroke that has the least of it.

    A gap between light and dark, or the inside of a zero, passes for a stroke of the other brightness, but is not
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
    """The mask of a drawing, given its main stroke, and the contrast of rulings that cross it, else 0.

    Lower the level until the stroke joins something larger, so that its faint ends belong to it.
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
