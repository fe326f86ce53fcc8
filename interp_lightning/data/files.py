"""Users' own image files, made to look like a data set's."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms.v2.functional import resize

from interp_lightning.data.base import Drawing, ImageData, to_unit_range
from interp_lightning.errors import DataError

LEAST, MOST = 8, 10_000  # pixels to a side
INK = 0.2  # share of the full contrast from which a pixel belongs to what is drawn


def read_image(path: Path, data: ImageData) -> tuple[Tensor, bool]:
    """An image file as an image of a data set: its size, its channels, its brightness of drawing and background.

    For a data set of drawings (`data.drawing`), what is drawn is cut out, scaled and centred as in the data set; other
    images are padded to a square and scaled whole. Transparency counts as white.

    Args:
        path: anything that Pillow reads; of an animation, the first image.
        data: what to look like.

    Returns:
        The image, (1, C, H, W) in [−1, 1], and whether it had to be inverted, dark and light.

    Raises:
        DataError: the file is missing, no image, damaged, below 8 or above 10,000 pixels to a side, or blank.
    """
    channels, size, _ = data.image_shape
    pixels = torch.from_numpy(_pixels(path, colour=channels == 3)).movedim(2, 0)  # (C, h, w) in [0, 1]
    if pixels.max() - pixels.min() < 0.05:
        raise DataError(f"{path} is blank: all its pixels are alike; take an image with something on it")
    inverted = False
    if channels == 1:
        like = to_unit_range(data.test.batch(data.test.all()[:100])[0])
        inverted = bool((_border(pixels).median() > 0.5) != (_border(like).median() > 0))
        pixels = 1 - pixels if inverted else pixels
    framed = _whole(pixels, size) if data.drawing is None else _centred(pixels, size, data.drawing)
    return framed.clamp(0, 1)[None] * 2 - 1, inverted


def _pixels(path: Path, colour: bool) -> np.ndarray:
    """(h, w, C) float32 in [0, 1]."""
    way_out = "name a PNG, JPEG or other image file"
    if not path.is_file():
        raise DataError(f"{path} is no file; {way_out}")
    try:
        with Image.open(path) as file:
            if not LEAST <= min(file.size) <= max(file.size) <= MOST:
                size = f"{file.width:,} × {file.height:,}"
                raise DataError(f"{path} is {size} pixels, but must have {LEAST} to {MOST:,} to a side; resize it")
            image = ImageOps.exif_transpose(file)
            if image.mode[0] in "IF":  # 16 or 32 bits of grey, which Pillow would cut off at 255
                grey = np.asarray(image, dtype=np.float32)
                image = Image.fromarray((grey / (257 if grey.max() > 255 else 1)).clip(0, 255).astype(np.uint8))
            elif image.has_transparency_data:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
            array = np.asarray(image.convert("RGB" if colour else "L"), dtype=np.float32) / np.float32(255)
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is {'empty' if path.stat().st_size == 0 else 'no image'}; {way_out}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be read ({error}); {way_out}") from error
    return array if colour else array[..., None]


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


def _centred(pixels: Tensor, size: int, drawing: Drawing) -> Tensor:
    """What is drawn, scaled and put in the middle: (C, h, w) → (C, size, size)."""
    background = _border(pixels).median()
    strength = (pixels - background).abs()
    paper = 3 * (_border(pixels) - background).abs().mean()  # a photograph's paper is never of one grey
    ink = ((strength - paper) / (strength.max() - paper).clamp_min(1e-3)).clamp(0, 1)
    rows, columns = ((ink.amax(0) > INK).any(axis).nonzero().flatten() for axis in (1, 0))
    drawn = ink[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = drawing.box / max(drawn.shape[1:])
    drawn = resize(drawn, [max(1, round(side * scale)) for side in drawn.shape[1:]], antialias=True).clamp(0, 1)

    mass = drawn.mean(0) if drawing.by_mass else torch.ones(drawn.shape[1:])
    corner = []
    for axis, side in enumerate(mass.shape):
        weight = mass.sum(1 - axis) / mass.sum()
        middle = (weight * (torch.arange(side) + 0.5)).sum().item()
        corner.append(min(max(round((size + drawing.by_mass) / 2 - middle), 0), size - side))
    top, left = corner
    canvas = torch.zeros(len(drawn), size, size)
    canvas[:, top : top + drawn.shape[1], left : left + drawn.shape[2]] = drawn
    return canvas
