"""python -m interp_lightning interpolate: one image melting into another."""

import hashlib
import io
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from interp_lightning.commands.settings import Settings, command
from interp_lightning.config.check import HOW
from interp_lightning.errors import ConfigError
from interp_lightning.parameters import check_choice, check_integer
from interp_lightning.runs.find import find_runs
from interp_lightning.system.disk import replace, within

if TYPE_CHECKING:
    from torch import Tensor

    from interp_lightning.data.base import ImageData

log = logging.getLogger(__name__)

USAGE = """Interpolate between two images with a trained run: a strip (PNG) and an animation (GIF).

  python -m interp_lightning interpolate run=outputs/acai_wasserstein/<time> a=3 b=8
  python -m interp_lightning interpolate run=DIR a=index:17 b=index:4021 how=slerp steps=16
  python -m interp_lightning interpolate run=DIR a=mine.png b=yours.jpg

  run=DIR         a run, or a folder with just one in it
  ckpt=FILE       a checkpoint instead of run=
  a=…  b=…        the ends: a label (a is the first test image that has it, b the last), index:N (test image N, from
                  0; a number that is no label is an index, too), or an image file of any size, grey or colour
  steps=11        points on the path, both ends included
  how=lerp        lerp (straight) or slerp (on a great circle)
  out=DIR         where to write; the run's figures/ if not given"""

DEFAULTS: Settings = {
    "run": [],
    "ckpt": "",
    "a": "",
    "b": "",
    "steps": 11,
    "how": "lerp",
    "out": "",
}

MOST_STEPS = 1_000
FRAMES = 41  # of the animation, at least: enough for the eye
FRAME = 256  # pixels to a side
MILLISECONDS, PAUSE = 60, 800  # a frame in between, and one at an end


def main() -> None:
    """Run the command line."""
    command(USAGE, DEFAULTS, work)


def work(settings: Settings) -> None:
    """Draw the path between the two images that the settings name."""
    steps = check_integer("steps", settings["steps"], least=2, most=MOST_STEPS)
    how = check_choice("how", settings["how"], HOW)
    for end in ("a", "b"):
        if not settings[end]:
            raise ConfigError(f"`{end}` is missing: name a label, index:N or an image file, such as a=3 b=8")
    if settings["ckpt"] and settings["run"]:
        raise ConfigError("`run` and `ckpt` both name a model; leave one of them out")
    sources = [Path(settings["ckpt"])] if settings["ckpt"] else find_runs(settings["run"])
    if len(sources) != 1:
        several = f"{len(sources)} runs, the first {sources[0]}" if sources else "no run"
        raise ConfigError(f"`run` names {several}; name one, such as run=outputs/acai_wasserstein/<time>")

    import torch

    from interp_lightning.commands.settings import prepare
    from interp_lightning.display import figures
    from interp_lightning.runs.find import run_folder
    from interp_lightning.runs.load import load_run
    from interp_lightning.runs.record import title

    device = prepare(settings["device"], settings["threads"])
    folder = Path(settings["out"]) if settings["out"] else run_folder(sources[0]) / "figures"
    if not settings["out"] and not settings["trust"]:
        within(run_folder(sources[0]), folder)
    model, data, config = load_run(sources[0], root=settings["data.root"] or None, trust=settings["trust"])
    model.to(device)

    (name_a, x_a), (name_b, x_b) = (find_image(settings[end], end, data) for end in ("a", "b"))
    x = torch.cat([x_a, x_b]).to(device)
    with torch.inference_mode():
        strip = figures.interpolations(model, x, f"{name_a} → {name_b}\n{title(config)}", how, steps)
        frames = model.interpolate(x[:1], x[1:], max(steps, FRAMES), how)[0].cpu()
    stem = f"{_stem(settings['a'])}_to_{_stem(settings['b'])}_{how}{_suffix(settings['ckpt'])}"
    if settings["out"]:  # where pictures of other runs may lie
        stem += f"-{_digest(str(sources[0].resolve()).encode(errors='surrogateescape'))}"
    figures.save({stem: strip}, folder)
    save_animation(frames, folder / f"{stem}.gif")
    log.info(f"{name_a} → {name_b}: {folder / stem}.png and .gif")


def find_image(what: str, name: str, data: "ImageData") -> tuple[str, "Tensor"]:
    """The image that a user means, and what to call it.

    Args:
        what: a label, `index:N`, `label:N`, or a file's name. A plain number is a label if there is one like that.
        name: of the end, "a", which takes the first image with a label, or "b", which takes the last.
        data: whose test images labels and indices mean.

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
            f"`{name}` (={what}) is a label, but the images of data={data.name} have none; use "
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


def save_animation(frames: "Tensor", path: Path) -> None:
    """Write images (T, C, H, W) in [−1, 1] as a GIF that goes there and back without end, see `folders.replace`."""
    from torchvision.transforms.v2.functional import resize, to_pil_image

    large = resize((frames.float().clamp(-1, 1) + 1) / 2, [FRAME, FRAME], antialias=True).clamp(0, 1)
    there = [to_pil_image(frame) for frame in large]
    turn = [PAUSE] + [MILLISECONDS] * (len(there) - 2)
    file = io.BytesIO()
    back = [*there[1:], *there[-2:0:-1]]
    there[0].save(file, "GIF", save_all=True, append_images=back, duration=[*turn, *turn], loop=0)
    replace(path, file.getvalue())


def _stem(end: str) -> str:
    """What an end is called in a file's name: pictures that differ, of one name or another, are called differently."""
    path = Path(end)
    if not path.is_file():
        return end.replace(":", "")
    return f"{path.stem.replace('.', '_')}-{_digest(path.read_bytes())}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def _suffix(ckpt: str) -> str:
    """What tells the pictures of a checkpoint file from those of its run."""
    return f"_{Path(ckpt).name.removesuffix('.ckpt')}" if ckpt else ""
