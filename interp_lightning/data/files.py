"""Read image files as images of a data set."""

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms.v2.functional import resize

from interp_lightning.data.base import Drawing, ImageData
from interp_lightning.data.drawings import border, cut_out
from interp_lightning.errors import DataError
from interp_lightning.functional.images import to_unit_range

LEAST, MOST = 8, 10_000  # pixels to a side
# Formats of cameras, scanners and paint programs. Pillow decodes each in this process: EPS would start Ghostscript.
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "AVIF", "GIF", "BMP", "JPEG2000", "ICO", "PCX", "PPM", "TGA")
BLANK = 0.05  # least contrast of a picture that is not blank


def read_image(path: Path, data: ImageData) -> tuple[Tensor, bool]:
    """Read an image file as an image of a data set: its size, its channels, its range.

    For a data set of drawings (`data.drawing`), find the drawing on its page, remove the page, and scale, centre and
    if necessary invert the drawing as in the data set. A data set of pictures reads it as its own
    (`data.read_picture`). For others, pad the image to a square and scale it whole; never invert it. Transparent pixels
    count as white, or behind light ink as black.

    Args:
        path: a file in one of `FORMATS`; of an animation, the first image.
        data: the data set to imitate.

    Returns:
        The image, (1, C, H, W) in [−1, 1], and True if dark and light are swapped in it.

    Raises:
        DataError: the file is missing, not an image, damaged, below 8 or above 10,000 pixels to a side, or blank.
    """
    channels, size, _ = data.image_shape
    pixels = torch.from_numpy(_pixels(path, colour=channels == 3)).movedim(2, 0)  # (C, h, w) in [0, 1]
    if pixels.max() - pixels.min() < BLANK:
        raise DataError(f"{path} is blank: all its pixels are alike; use an image with some content")
    own = data.read_picture(path)
    if own is not None:
        return to_unit_range(own)[None], False
    if data.drawing is None:
        return _whole(pixels, size).clamp(0, 1)[None] * 2 - 1, False
    found = cut_out(pixels[0].numpy())
    if found is None:
        raise DataError(f"{path} is blank: no drawing stands out from its background; use an image of a drawing")
    ink, dark = found
    framed = _centred(torch.from_numpy(ink), size, data.drawing).clamp(0, 1)[None] * 2 - 1
    dark_data = bool(
        to_unit_range(data.test.batch(data.test.all()[:100])[0]).median() > 0
    )  # most pixels are background
    return -framed if dark_data else framed, dark != dark_data


def _pixels(path: Path, colour: bool) -> np.ndarray:
    """Read a file as pixels (h, w, C), float32 in [0, 1]."""
    way_out = "name a PNG, JPEG or other image file"
    if not os.path.isfile(path):  # a pipe or a device could block
        raise DataError(f"{path} is no file; {way_out}")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=known_formats()) as file:
            if not LEAST <= min(file.size) <= max(file.size) <= MOST:
                size = f"{file.width:,} × {file.height:,}"
                raise DataError(f"{path} is {size} pixels, but must have {LEAST} to {MOST:,} to a side; resize it")
            return _values(path, ImageOps.exif_transpose(file), colour)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is too large: it must have {LEAST} to {MOST:,} pixels to a side; resize it") from error
    except Exception as error:  # decoders raise all kinds of errors on damaged files
        if kind := foreign(path):
            raise DataError(f"{path} is {kind}, which cannot be read; convert it to JPEG or PNG") from error
        if isinstance(error, UnidentifiedImageError):
            said = "empty" if os.path.getsize(path) == 0 else f"no image of a known format ({', '.join(FORMATS)})"
            raise DataError(f"{path} is {said}; {way_out}") from error
        reason = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
        raise DataError(f"{path} cannot be read ({reason}); {way_out}") from error


def known_formats() -> list[str]:
    """Return the formats that this build of Pillow reads."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def foreign(path: Path) -> str:
    """Return the name of a common format that is not supported, "" for any other file."""
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
    """Return the pixels of an open image, (h, w, C) float32 in [0, 1].

    Full scale is 255. Floats and integers of 16 or 32 bits have no fixed scale: programs write 12 bits into 16, or
    floats from 0 to 1. Some write 0 and 1, or 0 to 16, into 8 bits. For all of these full scale is the maximum.
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
    """Put a transparent image on white, or on black if the image itself is light."""
    grey, alpha = (np.asarray(image.convert("LA"), dtype=np.float32)[..., i] for i in (0, 1))
    light = (grey * alpha).sum() > 0.5 * 255 * alpha.sum()
    return Image.alpha_composite(Image.new("RGBA", image.size, "black" if light else "white"), image)


def _whole(pixels: Tensor, size: int) -> Tensor:
    """Pad to a square with the background, and resize: (C, h, w) → (C, size, size)."""
    _, height, width = pixels.shape
    spare = max(height, width) - torch.tensor([height, width])
    top, left = (spare // 2).tolist()
    bottom, right = (spare - spare // 2).tolist()
    square = pad(pixels, [left, right, top, bottom], value=border(pixels).median().item())
    return resize(square, [size, size], antialias=True)


def _centred(drawn: Tensor, size: int, drawing: Drawing) -> Tensor:
    """Scale and centre a light drawing, (h, w) → (1, size, size)."""
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
