"""Interpolate between two images: `python -m interp_lightning interpolate`."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from interp_lightning.commands.settings import Common, command, find_last, prepare, setting
from interp_lightning.errors import ConfigError
from interp_lightning.parameters import check_choice, check_integer
from interp_lightning.runs.find import find_runs, results_folder, run_folder
from interp_lightning.system.conf import choices
from interp_lightning.system.disk import replace, within

if TYPE_CHECKING:
    from torch import Tensor

    from interp_lightning.data.base import ImageData

log = logging.getLogger(__name__)


@dataclass
class Settings(Common):
    """Interpolate between two images with a trained run: write a strip (PNG) and an animation (GIF).

      python -m interp_lightning interpolate run=last a=3 b=8
      python -m interp_lightning interpolate run=DIR a=index:17 b=index:4021 how=graph steps=16
      python -m interp_lightning interpolate run=DIR a=mine.png b=yours.jpg

    The files are named by the ends and written to the run's figures/.
    """

    run: list[str] = setting([], "a run, a folder with one run in it, or last, the newest run", "DIR")
    ckpt: str = setting("", "a checkpoint file instead of run=", "FILE")
    a: str = setting(
        "",
        "the first end: a label (the first test image with it), index:N (test image N, from 0; a number that is no "
        "label is an index, too), or an image file of any size, grey or colour",
        "IMAGE",
    )
    b: str = setting("", "the other end, as a=; a label means the last test image with it", "IMAGE")
    steps: int = setting(11, "points on the path, both ends included")
    how: str = setting("lerp", "kind of path: " + ", ".join(choices("path")))
    speed: str = setting("constant", "frames that look equally far apart: constant; the path's own speed: own")
    out: str = setting("", "where to write instead of the run's figures/", "DIR")


MOST_STEPS = 1_000
FRAMES = 41  # least number in the animation, for smooth motion


def main() -> None:
    """Run the command line."""
    command(Settings, work)


def work(settings: Settings) -> None:
    """Draw the path between the two images that the settings name."""
    steps = check_integer("steps", settings.steps, least=2, most=MOST_STEPS)
    how = check_choice("how", settings.how, choices("path"))
    speed = check_choice("speed", settings.speed, ("constant", "own"))
    for name, end in (("a", settings.a), ("b", settings.b)):
        if not end:
            raise ConfigError(f"`{name}` is missing: name a label, index:N or an image file, such as a=3 b=8")
    source = _source(settings)

    import torch

    from interp_lightning.display import figures
    from interp_lightning.display.animation import gif
    from interp_lightning.evaluation.protocol import Evaluation
    from interp_lightning.runs.load import load_run
    from interp_lightning.runs.record import run_title

    device = prepare(settings.device, settings.threads)
    folder = Path(settings.out) if settings.out else run_folder(source) / "figures"
    if not settings.out and not settings.trust:
        within(run_folder(source), folder)
    run = load_run(source, root=settings.data_root or None, trust=settings.trust)
    model = run.model.to(device)

    name_a, x_a = find_image(settings.a, "a", run.datamodule)
    name_b, x_b = find_image(settings.b, "b", run.datamodule)
    x = torch.cat([x_a, x_b]).to(device)
    with torch.no_grad():
        evaluation = Evaluation()
        evaluation.folder = results_folder(source)
        path = evaluation.path(how, model, run.datamodule)
        look = evaluation.look(model, run.datamodule) if speed == "constant" else None
        title = f"{name_a} → {name_b}\n{run_title(run.config)}"
        strip = figures.interpolations(model, x, title, how, steps, path, look)
        frames = model.interpolate(x[:1], x[1:], max(steps, FRAMES), path, look)[0].cpu()
    stem = f"{_stem(settings.a)}_to_{_stem(settings.b)}_{how}{'_own_speed' * (speed == 'own')}{_suffix(settings.ckpt)}"
    if settings.out:  # figures of other runs may be in the same folder
        stem += f"-{_digest(str(source.resolve()).encode(errors='surrogateescape'))}"
    figures.save({stem: strip}, folder)
    replace(folder / f"{stem}.gif", gif(frames))
    log.info(f"{name_a} → {name_b}: {folder / stem}.png and .gif")


def _source(settings: Settings) -> Path:
    """Return the run's folder or the checkpoint file that the settings name."""
    if settings.ckpt and settings.run:
        raise ConfigError("`run` and `ckpt` both name a model; remove one of them")
    if settings.ckpt:
        return Path(settings.ckpt)
    runs = find_runs(find_last(settings.run))
    if len(runs) != 1:
        several = f"{len(runs)} runs, the first {runs[0]}" if runs else "no run"
        raise ConfigError(f"`run` names {several}; name one, such as run=last")
    return runs[0]


def find_image(what: str, name: str, data: "ImageData") -> tuple[str, "Tensor"]:
    """Return the image that a user names.

    Args:
        what: a label, `index:N`, `label:N`, or a file's name. A plain number is a label if there is such a label.
        name: of the end: "a" takes the first image with a label, "b" the last.
        data: the data set whose test images labels and indices refer to.

    Returns:
        A name for titles, and the image, (1, C, H, W) in [−1, 1].

    Raises:
        ConfigError: there is no such label, index or image, or the images have no labels.
    """
    from interp_lightning.data.files import read_image
    from interp_lightning.functional.images import to_unit_range

    kind, colon, number = what.rpartition(":")
    if Path(what).is_file() or not (number.isdecimal() and kind in ("", "index", "label")):
        if not Path(what).exists() and not Path(what).suffix[1:].isalpha():
            label = f"a label from 0 to {data.classes - 1}, " if data.labelled else ""
            allowed = f"{label}index:N below {len(data.test):,}"
            raise ConfigError(f"`{name}` (={what}) must be {allowed}, or an image file")
        image, inverted = read_image(Path(what), data)
        if inverted:
            log.info(f"{what} is dark on light where {data.name} is light on dark, or the reverse: inverted")
        return Path(what).name, image
    if kind != "index" and not data.labelled:
        raise ConfigError(
            f"`{name}` (={what}) is a label, but the images of data={data.name} have no labels; use "
            f"{name}=index:{number} or an image file"
        )
    items, value = data.test.all(), int(number)
    images, labels = data.test.batch(items)
    if kind == "label" or (not colon and value < data.classes):
        found = (labels == value).nonzero().flatten()
        if not len(found):
            raise ConfigError(f"`{name}` (={what}) must be a label of data={data.name}, 0 to {data.classes - 1}")
        value = int(found[0 if name == "a" else -1])
    if value >= len(items):
        raise ConfigError(f"`{name}` (={what}) must be an index below {len(items):,}, the number of test images")
    label = f" (label {int(labels[value])})" if data.labelled else ""
    return f"test image {value}{label}", to_unit_range(images[value : value + 1])


def _stem(end: str) -> str:
    """Return the name of an end in a file name; different image files get different names."""
    path = Path(end)
    if not path.is_file():
        return end.replace(":", "")
    return f"{path.stem.replace('.', '_')}-{_digest(path.read_bytes())}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def _suffix(ckpt: str) -> str:
    """Return the suffix that separates the figures of a checkpoint file from those of its run."""
    return f"_{Path(ckpt).name.removesuffix('.ckpt')}" if ckpt else ""
