"""Turn images and what is said of them into HTML. page.js picks a frame: that needs no answer from here."""

import base64
import io
import json
import re
from collections.abc import Sequence
from html import escape

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from interp_lightning.explorer.ends import End
from interp_lightning.explorer.state import POSITIONS, SIDE, Strip
from interp_lightning.explorer.witness import Facts
from interp_lightning.system.text import printable

FRAMES = 11  # of a strip
MIDDLE = POSITIONS // 2


def path_html(strips: Sequence[Strip], unit: str) -> str:
    """Return a section for each strip: the current frame, the whole strip, and the facts.

    Args:
        strips: of `POSITIONS` frames.
        unit: of distances.
    """
    return "".join(_section(strip, _strip_html(strip.images), unit, "path") for strip in strips)


def grid_html(grids: Sequence[Strip], unit: str) -> str:
    """Return a section for each grid of `SIDE` × `SIDE` frames: the current frame, the grid, and the facts."""
    cell = f'<canvas class="map pixels" {_size(grids[0].images, SIDE)} role="img" aria-label="grid of images"></canvas>'
    return "".join(_section(grid, cell, unit, "grid") for grid in grids)


def end_html(end: End, problem: str = "") -> str:
    """Return the picture of an end with its name, and a sentence if the user's last choice was not possible."""
    below = problem_html(problem) if problem else ""
    name = escape(printable(end.name))
    picture = f'<img class="pixels" src="{png(end.x)}" alt="{name}">'
    return f'<figure class="end">{picture}<figcaption>{name}</figcaption></figure>{below}'


def gallery_html(examples: Sequence[End]) -> str:
    """Return a button for each example; page.js puts its place into the field for the number."""
    pictures = (
        f'<button type="button" data-number="{number}" title="{escape(end.name)}">'
        f'<img class="pixels" src="{png(end.x)}" alt="{escape(end.name)}"></button>'
        for number, end in enumerate(examples)
    )
    return f'<div class="gallery">{"".join(pictures)}</div>'


def problem_html(sentence: str) -> str:
    """Return a sentence in the place of what it is about; its `names` are set as code."""
    return f'<p class="problem" role="alert">{_with_code(sentence)}</p>'


def notes_html(sentences: Sequence[str]) -> str:
    """Return a line for each sentence that is no problem; its `names` are set as code."""
    return "".join(f'<p class="note">{_with_code(sentence)}</p>' for sentence in sentences)


def said(facts: Facts, unit: str) -> dict[str, list[str]]:
    """Return the facts as texts: for each heading one per image.

    Example:
        >>> import torch
        >>> said(Facts(classes=("3",), probability=torch.tensor([0.975])), "features")
        {'judge': ['3 (98 %)']}
    """
    found: dict[str, list[str]] = {}
    if facts.classes is not None and facts.probability is not None:
        pairs = zip(facts.classes, facts.probability.tolist(), strict=True)
        found["judge"] = [f"{label} ({probability:.0%})".replace("%", " %") for label, probability in pairs]
    if facts.member is not None:
        found["among test images"] = ["yes" if member else "no" for member in facts.member.tolist()]
    if facts.alpha is not None:
        found["critic's α"] = [f"{alpha:.2f}" for alpha in facts.alpha.tolist()]
    if facts.distance is not None:
        whole = facts.distance[-1].item()
        each = facts.distance.tolist()
        found["distance"] = [f"{at / whole if whole else 0:.0%} ".replace("%", " %") + f"· {at:.1f}" for at in each]
        found["length"] = [f"{whole:.1f} in {unit}"] * len(each)
    return found


def png(images: Float[Tensor, "T C H W"]) -> str:
    """Return images in [−1, 1], one below the other, as a data URL."""
    pixels = ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte().movedim(1, 3).flatten(0, 1).numpy()
    file = io.BytesIO()
    Image.fromarray(np.squeeze(pixels, 2) if pixels.shape[2] == 1 else pixels).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _with_code(sentence: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(printable(sentence)))


def _section(strip: Strip, pictures: str, unit: str, kind: str) -> str:
    facts = said(strip.facts, unit)
    content = {"frames": len(strip.images), "side": SIDE, "sprite": png(strip.images), "facts": facts}
    headings = "".join(f"<div><dt>{escape(name)}</dt><dd></dd></div>" for name in facts)
    return (
        f'<section class="seen {kind}" data-content="{escape(json.dumps(content))}">'
        f"<h3>{escape(strip.how)}<span>{escape(strip.run)}</span></h3>"
        f'<canvas class="now pixels" {_size(strip.images)} role="img" aria-label="decoded image"></canvas>'
        f"{pictures}<dl>{headings}</dl></section>"
    )


def _strip_html(images: Tensor) -> str:
    frames = [round(step * (len(images) - 1) / (FRAMES - 1)) for step in range(FRAMES)]
    pictures = (
        f'<button type="button" data-frame="{frame}" aria-label="α = {frame / (len(images) - 1):.1f}">'
        f'<canvas class="pixels" {_size(images)}></canvas><span>{frame / (len(images) - 1):.1f}</span></button>'
        for frame in frames
    )
    return f'<div class="strip">{"".join(pictures)}</div>'


def _size(images: Tensor, times: int = 1) -> str:
    height, width = images.shape[2:]
    return f'width="{times * width}" height="{times * height}"'
