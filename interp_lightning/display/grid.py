"""Draw images in rows, and texts literally, in matplotlib figures."""

import textwrap
from collections.abc import Sequence
from functools import cache

import matplotlib
import numpy as np
import torch
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from torch import Tensor

from interp_lightning.data.base import ImageData
from interp_lightning.data.contract import spread
from interp_lightning.functional.images import to_unit_range
from interp_lightning.paths.lerp import Lerp
from interp_lightning.system.text import printable, shortened

NARROWEST = 3.2  # inches, for a title
MOST_PIXELS = 2**16 - 1  # to a side, of a figure
LINES = 3  # at most, of a text within a figure


def mosaic(images: Tensor, block: int = 0) -> Tensor:
    """Put images (R, C, channels, H, W) in [−1, 1] side by side on white: (height, width, channels) in [0, 1].

    Args:
        images: R rows of C.
        block: rows between two wide gaps; 0 for none.
    """
    count_r, count_c, channels, height, width = images.shape
    gap, tops = _gap(height), _tops(count_r, height, block)
    canvas = torch.ones(tops[-1] + height, count_c * (width + gap) - gap, channels)
    for r, top in enumerate(tops):
        for c in range(count_c):
            left = c * (width + gap)
            canvas[top : top + height, left : left + width] = images[r, c].float().clamp(-1, 1).movedim(0, 2) / 2 + 0.5
    return canvas


def training_images(data: ImageData, rows: int = 2, columns: int = 5) -> Figure:
    """Draw evenly spaced training images as the model will see them."""
    number = min(rows * columns, len(data.train) // rows * rows)
    indices = torch.tensor(spread(len(data.train), number))
    images = to_unit_range(data.train.batch(data.train.all().cpu()[indices])[0])
    return image_grid(images.unflatten(0, (rows, -1)).cpu(), f"Training images\n{data.name}")


def _gap(height: int) -> int:
    return max(1, height // 16)


def _tops(rows: int, height: int, block: int) -> list[int]:
    """Return the first line of pixels of each row."""
    return [r * (height + _gap(height)) + (r // block if block else 0) * (height // 3) for r in range(rows)]


def image_grid(
    images: Tensor, title: str, rows: Sequence[str] = (), columns: Sequence[str] = (), block: int = 0
) -> Figure:
    """Draw images (R, C, channels, H, W) in [−1, 1] as R rows of C, with optional names for rows and columns.

    Args:
        images: R rows of C.
        title: above them.
        rows, columns: their names; those of columns are also above several blocks.
        block: rows that belong together, with a gap after them; 0 for none.
    """
    count_r, count_c, _, height, width = images.shape
    gap = _gap(height)
    rows, columns = ([literal(name, 40) for name in each] for each in (rows, columns))
    names = 0.065 * max((len(line) for row in rows for line in row.split("\n")), default=0)  # inches
    inches = max(NARROWEST, 0.55 * count_c + 0.6 + names)
    title = heading(title, inches)
    texts = 0.17 * (title.count("\n") + 1) + 0.2 * bool(columns)
    side = min(0.8, (inches - 0.6 - names) / count_c)  # of an image
    size = (inches, side * (count_r + (count_r // block / 3 if block else 0)) + 0.4 + texts)
    figure = Figure(figsize=size, dpi=min(150, MOST_PIXELS / max(size)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(mosaic(images, block).squeeze(2).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    tops = _tops(count_r, height, block)
    axes.set_yticks([top + height / 2 for top, _ in zip(tops, rows, strict=False)], rows, fontsize=7)
    axes.set_xticks([c * (width + gap) + width / 2 for c in range(len(columns))], columns, fontsize=7)
    axes.tick_params(length=0, labeltop=0 < block < count_r)
    if rows:
        axes.set_anchor("E")  # space that is left over belongs to the names
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=9)
    return figure


def grid_between(corners: Tensor, images: Tensor, title: str) -> Figure:
    """Draw what a model makes between four images, and these images beside their corners.

    Args:
        corners: the images, (4, channels, H, W): two at the top, two at the bottom.
        images: what lies between them, (R, C, channels, H, W).
        title: above them.
    """
    beside = images.new_ones(len(images), 2, *images.shape[2:])  # white
    beside[[0, -1]] = corners.unflatten(0, (2, 2)).to(images)
    columns = ["image", *[""] * images.shape[1], "image"]
    return image_grid(torch.cat([beside[:, :1], images, beside[:, 1:]], 1), title, columns=columns)


def faded(x: Tensor, steps: int) -> Tensor:
    """Fade the pixels of the first half of images (2n, C, H, W) over to the second's: (n, steps, C, H, W)."""
    x_a, x_b = x.cpu().flatten(1).chunk(2)
    return Lerp().points(x_a, x_b, steps).unflatten(2, x.shape[1:])


def pixels_of(figure: Figure) -> UInt8[np.ndarray, "H W 3"]:
    """Render a figure, once as long as it does not change."""
    canvas = figure.canvas
    if figure.stale or not isinstance(canvas, FigureCanvasAgg):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def literal(text: str, width: int) -> str:
    """Return a text that a figure shows literally, in lines of that many characters.

    Otherwise matplotlib renders dollars as mathematics, and warns about characters that its font lacks.
    """
    return "\n".join(textwrap.wrap(shortened(printable(text, _font_has), LINES * width), width)).replace("$", r"\$")


def legend_label(text: str) -> str:
    """Return an entry of a legend; matplotlib would omit one that begins with an underscore."""
    wrapped = literal(text, 60)
    return f" {wrapped}" if wrapped.startswith("_") else wrapped


def heading(text: str, inches: float) -> str:
    """Return a title of one or several lines for a figure of that width."""
    return "\n".join(literal(line, max(24, int(11 * inches))) for line in text.split("\n")[:LINES])


@cache
def _font_has(character: str) -> bool:
    """Return True if a character is printable and in the font of figures."""
    fonts = (FontProperties(family=[name]) for name in matplotlib.rcParams["font.family"])
    return character.isprintable() and any(get_font(findfont(font)).get_char_index(ord(character)) for font in fonts)
