"""Users' own image files, made to look like a data set's."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms.v2.functional import resize

from interp_lightning.data.base import Drawing, ImageData, to_unit_range
from interp_lightning.errors import DataError

LEAST, MOST = 8, 10_000  # pixels to a side
WORKING = 200  # pixels to a side that are enough to find a drawing
INK = 0.2  # share of the full contrast from which a pixel belongs to what is drawn


def read_image(path: Path, data: ImageData) -> tuple[Tensor, bool]:
    """An image file as an image of a data set: its size, its channels, its brightness of drawing and background.

    For a data set of drawings (`data.drawing`), what is drawn is cut out, without shadows, specks or a frame around the
    page, and scaled and centred as in the data set; for others the image is padded to a square and scaled whole. What
    is transparent counts as white, or behind light ink as black.

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
        inverted = bool((pixels.median() > 0.5) != (like.median() > 0))  # a drawing is mostly background
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
                image = _on_paper(image.convert("RGBA"))
            array = np.asarray(image.convert("RGB" if colour else "L"), dtype=np.float32) / np.float32(255)
    except UnidentifiedImageError as error:
        raise DataError(f"{path} is {'empty' if path.stat().st_size == 0 else 'no image'}; {way_out}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is too large: it must have {LEAST} to {MOST:,} pixels to a side; resize it") from error
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error}); {way_out}") from error
    return array if colour else array[..., None]


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


def _centred(pixels: Tensor, size: int, drawing: Drawing) -> Tensor:
    """What is drawn, light on dark, scaled and put in the middle: (1, h, w) → (1, size, size)."""
    drawn = _cut_out(pixels[0].numpy())
    scale = drawing.box / max(drawn.shape)
    ink = resize(torch.from_numpy(drawn)[None], [max(1, round(side * scale)) for side in drawn.shape], antialias=True)
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


def _cut_out(image: np.ndarray) -> np.ndarray:
    """The ink of a light drawing on a dark ground, (h, w) in [0, 1], cropped: without shading, frame and specks."""
    if max(image.shape) > WORKING:
        small = [max(1, round(side * WORKING / max(image.shape))) for side in image.shape]
        image = resize(torch.from_numpy(image)[None], small, antialias=True)[0].numpy()
    # Shadows are what remains when everything that is not as wide as half the image has gone.
    shadow = ndimage.grey_opening(image, size=max(image.shape) // 2)
    ink = (image - shadow) / (1 - shadow).clip(0.1)  # of the contrast that there is room for
    strong = ink > _otsu(ink)
    ink = (ink / np.quantile(ink[strong], 0.95)).clip(0, 1)
    parts, number = ndimage.label(ink > INK, np.ones((3, 3)))
    areas = ndimage.sum_labels(strong, parts, range(1, number + 1))
    at_the_edge = np.isin(range(1, number + 1), _border(torch.from_numpy(parts)).numpy())
    if areas[~at_the_edge].max(initial=0) > 0.1 * areas.max():  # or else the drawing itself reaches the edge
        areas[at_the_edge] = 0
    kept = np.isin(parts, 1 + np.flatnonzero(areas > 0.05 * areas.max()))
    ink = ink * ndimage.binary_dilation(kept, np.ones((3, 3)), iterations=2)
    rows, columns = (np.flatnonzero(kept.any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _otsu(values: np.ndarray) -> float:
    """The threshold that parts values into two groups of least variance (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=128)
    middles = (edges[1:] + edges[:-1]) / 2
    below, total = counts.cumsum(), (counts * middles).cumsum()
    above = counts.sum() - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (total / below - (total[-1] - total) / above) ** 2
    return float(edges[1:][np.nan_to_num(between).argmax()])
