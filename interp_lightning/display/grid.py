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

from interp_lightning.system.text import printable, shortened

NARROWEST = 3.2  # inches, for a title
MOST_PIXELS = 2**16 - 1  # to a side, of a figure
LINES = 3  # at most, of a text within a figure


def mosaic(images: Tensor) -> Tensor:
    """Put images (R, C, channels, H, W) in [−1, 1] side by side on white: (height, width, channels) in [0, 1]."""
    count_r, count_c, channels, height, width = images.shape
    gap = _gap(height)
    canvas = torch.ones(count_r * (height + gap) - gap, count_c * (width + gap) - gap, channels)
    for r in range(count_r):
        for c in range(count_c):
            top, left = r * (height + gap), c * (width + gap)
            canvas[top : top + height, left : left + width] = images[r, c].float().clamp(-1, 1).movedim(0, 2) / 2 + 0.5
    return canvas


def _gap(height: int) -> int:
    return max(1, height // 16)


def image_grid(images: Tensor, title: str, rows: Sequence[str] = (), columns: Sequence[str] = ()) -> Figure:
    """Draw images (R, C, channels, H, W) in [−1, 1] as R rows of C, with optional names for rows and columns."""
    count_r, count_c, _, height, width = images.shape
    gap = _gap(height)
    rows, columns = ([literal(name, 40) for name in each] for each in (rows, columns))
    names = 0.065 * max((len(line) for row in rows for line in row.split("\n")), default=0)  # inches
    inches = max(NARROWEST, 0.55 * count_c + 0.6 + names)
    title = heading(title, inches)
    size = (inches, 0.55 * count_r + 0.4 + 0.15 * (title.count("\n") + 1))
    figure = Figure(figsize=size, dpi=min(150, MOST_PIXELS / max(size)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(mosaic(images).squeeze(2).numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_yticks([r * (height + gap) + height / 2 for r in range(len(rows))], rows, fontsize=7)
    axes.set_xticks([c * (width + gap) + width / 2 for c in range(len(columns))], columns, fontsize=7)
    axes.tick_params(length=0)
    if rows:
        axes.set_anchor("E")  # space that is left over belongs to the names
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=9)
    return figure


def pixels_of(figure: Figure) -> UInt8[np.ndarray, "H W 3"]:
    """Render a figure."""
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
