"""Interpolate between images: `python -m interp_lightning interpolate`."""

import hashlib
import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from interp_lightning.commands.settings import Common, command, find_last, prepare, setting
from interp_lightning.errors import ConfigError
from interp_lightning.parameters import check_choice, check_integer
from interp_lightning.runs.find import find_runs, results_folder, run_folder
from interp_lightning.system.conf import choices
from interp_lightning.system.disk import check_writable, lies_in, replace, within
from interp_lightning.system.text import counted, file_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from interp_lightning.data.base import ImageData
    from interp_lightning.runs.load import Run

log = logging.getLogger(__name__)


@dataclass
class Settings(Common):
    """Interpolate between images with a trained run: write a strip (PNG) and an animation (GIF; MP4 by ffmpeg).

      python -m interp_lightning interpolate run=last a=3 b=8
      python -m interp_lightning interpolate run=DIR a=3 b=8 c=5                   from a to b, and on to c
      python -m interp_lightning interpolate run=DIR a=3 b=8 how=lerp              in a straight line
      python -m interp_lightning interpolate run=DIR a=index:17 b=index:4021 steps=16
      python -m interp_lightning interpolate run=DIR a=mine.png b=yours.jpg
      python -m interp_lightning interpolate run=DIR a=0 b=1 c=2 d=3 corners=true  a grid between four

    The files are named by the ends and written to the run's figures/.
    """

    run: list[str] = setting([], "a run, a folder with one run in it, or last, the newest run", "DIR")
    ckpt: str = setting("", "a checkpoint file instead of run=", "FILE")
    a: str = setting(
        "",
        "the first end: a label (the most typical test image with it, nearest to their mean), index:N (test image N, "
        "from 0; a number that is no label is an index, too), or an image file of any size, grey or colour",
        "IMAGE",
    )
    b: str = setting("", "the next end, as a=; a label that was given before means its next typical image", "IMAGE")
    c: str = setting("", "a third end; d=, e= and f= are more", "IMAGE")
    d: str = setting("", "a fourth end", "IMAGE")
    e: str = setting("", "a fifth end", "IMAGE")
    f: str = setting("", "a sixth end", "IMAGE")
    corners: bool = setting(
        False, "true draws all between four corners instead: a and b above c and d, in straight lines"
    )
    steps: int = setting(11, "points on the path between two ends, both included; on each side of a grid")
    how: str = setting("", "kind of path: " + ", ".join(choices("path")), "graph")
    speed: str = setting("", "frames that look equally far apart: constant; the path's own speed: own", "constant")
    frames: bool = setting(False, "true also writes each frame of the strip as a PNG file of the data's own size")
    out: str = setting("", "where to write instead of the run's figures/", "DIR")


STRAIGHT = "lerp"  # the kind of path to compare with
ENDS = "abcdef"
CORNERS = 4
MOST_STEPS, MOST_ON_A_SIDE = 1_000, 50
FRAMES = 41  # least number in the animation between two ends, for smooth motion


def main() -> None:
    """Run the command line."""
    command(Settings, work)


def work(settings: Settings) -> None:
    """Draw what lies between the images that the settings name."""
    ends = _ends(settings)
    check_integer("steps", settings.steps, least=2, most=MOST_ON_A_SIDE if settings.corners else MOST_STEPS)
    _choose_path(settings)
    source = _source(settings)

    import torch

    from interp_lightning.display import figures
    from interp_lightning.display.animation import MP4_REQUIRES, encoder, gif, mp4
    from interp_lightning.runs.load import load_run

    device = prepare(settings.device, settings.threads)
    folder = Path(settings.out) if settings.out else run_folder(source) / "figures"
    if not settings.out and not settings.trust:
        within(run_folder(source), folder)
    check_writable(folder)
    run = load_run(source, root=settings.data_root or None, trust=settings.trust)
    run.model.to(device)
    labels = [*map(_without_zeros, ends)]
    earlier = [labels[:at].count(label) for at, label in enumerate(labels)]
    found = [find_image(*each, run.datamodule) for each in zip(ends, ENDS, earlier, strict=False)]
    names, x = [name for name, _ in found], torch.cat([image for _, image in found]).to(device)
    stem = _stem_of(settings, ends, source)
    with torch.no_grad():
        picture, frames, film = (_grid if settings.corners else _legs)(settings, source, run, names, x)
    figures.save({stem: picture}, folder)
    written, remark = [".png"], ""
    if film is not None:
        kinds = {".gif": gif} | ({".mp4": mp4} if encoder() else {})
        for suffix, make in kinds.items():
            replace(folder / f"{stem}{suffix}", make(film, _caption(settings, names)))
        written += kinds
        remark = "" if ".mp4" in kinds else f" ({MP4_REQUIRES})"
    if settings.frames:
        _write_frames(frames, folder / stem)
        remark += f", and {counted(len(frames), 'frame')} in {folder / stem}"
    what = f"Grid between {', '.join(names[:-1])} and {names[-1]}" if settings.corners else " → ".join(names)
    log.info(f"{what}: {folder / stem}{', '.join(written)}{remark}")


def _caption(settings: Settings, names: list[str]) -> str:
    return f"{' → '.join(names)}\n{settings.how}, {settings.speed} speed"


def _legs(
    settings: Settings, source: Path, run: "Run", names: list[str], x: "Tensor"
) -> tuple["Figure", "Tensor", "Tensor | None"]:
    """Draw the path from each end to the next above a straight line and fading pixels.

    Return also all frames of the path, and more for an animation.
    """
    import torch

    from interp_lightning.display import figures
    from interp_lightning.evaluation.protocol import Evaluation
    from interp_lightning.paths.base import named
    from interp_lightning.runs.record import run_title

    evaluation = Evaluation()
    kept = results_folder(source)
    evaluation.folder = kept if lies_in(run_folder(source), kept) else None  # no link may lead out of a run
    path = evaluation.path(settings.how, run.model, run.datamodule)
    look = evaluation.look(run.model, run.datamodule) if settings.speed == "constant" else None
    pairs, title = torch.cat([x[:-1], x[1:]]), f"{' → '.join(names)}\n{run_title(run.config)}"
    kinds = {settings.how: path} | {how: named(how) for how in [STRAIGHT] if how != settings.how}
    picture = figures.paths_compared(run.model, pairs, title, kinds, look, settings.steps)
    frames, film = (
        torch.cat([*(leg[:-1] for leg in legs[:-1]), legs[-1]])
        for steps in (settings.steps, max(settings.steps, FRAMES))
        for legs in [run.model.interpolate(x[:-1], x[1:], steps, path, look).cpu()]
    )
    return picture, frames, film


def _grid(
    settings: Settings, source: Path, run: "Run", names: list[str], x: "Tensor"
) -> tuple["Figure", "Tensor", "Tensor | None"]:
    """Draw the images between four corners; return also these images, row by row."""
    from interp_lightning.display.grid import grid_between
    from interp_lightning.functional.codes import between_corners
    from interp_lightning.runs.record import run_title

    codes = between_corners(run.model.encode(x).unflatten(0, (2, 2)), settings.steps).flatten(0, 1)
    images = run.model.decode(codes).cpu()
    title = f"Between {', '.join(names)}\n{run_title(run.config)}"
    return grid_between(x.cpu(), images.unflatten(0, (settings.steps, settings.steps)), title), images, None


def _write_frames(frames: "Tensor", folder: Path) -> None:
    """Write images (n, C, H, W) in [−1, 1] as numbered PNG files."""
    from torchvision.transforms.v2.functional import to_pil_image

    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("[0-9][0-9][0-9].png"):  # of an earlier path with more frames
        path.unlink()
    for number, frame in enumerate(frames):
        file = io.BytesIO()
        to_pil_image((frame.float().clamp(-1, 1) + 1) / 2).save(file, "PNG")
        replace(folder / f"{number:03}.png", file.getvalue())


def _choose_path(settings: Settings) -> None:
    """Set the kind of path and the speed that the settings leave open."""
    given = [name for name in ("how", "speed") if getattr(settings, name)]
    if settings.corners and given:
        raise ConfigError(
            "`corners` (=true) draws a grid of codes in straight lines, which has no kind of path and no speed; remove "
            f"{' and '.join(f'{name}=' for name in given)}"
        )
    settings.how, settings.speed = settings.how or "graph", settings.speed or "constant"
    check_choice("how", settings.how, choices("path"))
    check_choice("speed", settings.speed, ("constant", "own"))


def _ends(settings: Settings) -> list[str]:
    """Return the ends that the settings name, at least two, without a gap."""
    ends = [getattr(settings, name) for name in ENDS]
    number = max([2, *(at for at, end in enumerate(ends, 1) if end)])
    for name, end in zip(ENDS[:number], ends, strict=False):
        if not end:
            raise ConfigError(f"`{name}` is missing: name a label, index:N or an image file, such as a=3 b=8")
    if settings.corners and number != CORNERS:
        raise ConfigError(f"`corners` (=true) requires four ends, but there are {number}; name a=, b=, c= and d=")
    return ends[:number]


def _stem_of(settings: Settings, ends: list[str], source: Path) -> str:
    """Return the name of the files, without suffix."""
    how = f"{settings.how}{'_own_speed' * (settings.speed == 'own')}"
    stem = f"{'_to_'.join(map(_stem, ends))}_{'corners' if settings.corners else how}{_suffix(settings.ckpt)}"
    if settings.out:  # figures of other runs may be in the same folder
        stem += f"-{_digest(str(source.resolve()).encode(errors='surrogateescape'))}"
    return file_name(stem)


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


def find_image(what: str, name: str, earlier: int, data: "ImageData") -> tuple[str, "Tensor"]:
    """Return the image that a user names.

    Args:
        what: a label or its name, `index:N`, `label:N`, or a file's name. A plain number is a label if there is such a
            label, which is the most typical image with it: nearest to the mean of them all, pixel by pixel.
        name: of the end, for sentences.
        earlier: number of ends before it with the same label, whose images are left to them.
        data: the data set whose test images labels and indices refer to.

    Returns:
        A name for titles, and the image, (1, C, H, W) in [−1, 1].

    Raises:
        ConfigError: there is no such label, index or image, or the images have no labels.
    """
    from interp_lightning.data.files import read_image
    from interp_lightning.functional.images import by_typicality, to_unit_range

    names = data.class_names if data.labelled else ()
    if what in names and not Path(what).is_file():
        what = f"label:{names.index(what)}"
    kind, colon, number = what.rpartition(":")
    if Path(what).is_file() or not (number.isdecimal() and kind in ("", "index", "label")):
        if not Path(what).exists() and not Path(what).suffix[1:].isalpha():
            label = f"a label ({names[0]} … {names[-1]}), " if data.labelled else ""
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
        typical = by_typicality(to_unit_range(images[found]))
        value = int(found[typical[earlier % len(found)]])
    if value >= len(items):
        raise ConfigError(f"`{name}` (={what}) must be an index below {len(items):,}, the number of test images")
    label = f" (label {names[int(labels[value])]})" if data.labelled else ""
    return f"test image {value}{label}", to_unit_range(images[value : value + 1])


def _stem(end: str) -> str:
    """Return the name of an end in a file name; different image files get different names."""
    path = Path(end)
    if not path.is_file():
        return end.replace(":", "")
    return f"{path.stem.replace('.', '_')}-{_digest(path.read_bytes())}"


def _without_zeros(end: str) -> str:
    """Return a label as a plain number, and other ends as they are."""
    number = end.removeprefix("label:")
    return str(int(number)) if number.isdecimal() and not Path(end).is_file() else end


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]


def _suffix(ckpt: str) -> str:
    """Return the suffix that separates the figures of a checkpoint file from those of its run."""
    return f"_{Path(ckpt).name.removesuffix('.ckpt')}" if ckpt else ""
