"""Read picture files as images of one shape: all at once into memory, or each when it is needed."""

import logging
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from interp_lightning.data.contract import spread
from interp_lightning.data.files import foreign, known_formats
from interp_lightning.data.listing import in_words
from interp_lightning.data.sources import InMemory, OnDisk, Source
from interp_lightning.errors import DataError
from interp_lightning.system.machine import GIB
from interp_lightning.system.text import counted, printable

log = logging.getLogger(__name__)

MOST_BROKEN = 0.05  # share of the pictures that may be unreadable
TRIES = 1_000  # pictures that may stand in for an unreadable one
BACKGROUNDS = {"white": 255, "grey": 128, "black": 0}  # behind transparent pixels
# Full scale of pixels of more than 8 bits: the first that no picture exceeds. Cameras write 10 to 14 bits into 16.
SCALES = (1.0, 255.0, 1_023.0, 4_095.0, 16_383.0, 65_535.0)
COLOURFUL, COLOURED = 24, 0.002  # a difference of channels that is no JPEG noise; share of pixels with it


class Unreadable(Exception):
    """A file is no picture that can be read; says why."""


@dataclass(frozen=True)
class View:
    """How a picture file becomes an image: upright, on a background, cropped to its central square, resized.

    Args:
        channels: 1 for grey, 3 for colour.
        size: pixels to a side.
        background: brightness behind transparent pixels, 0 to 255.
        crop: pixels to a side of the central square; None for the largest.
        scale: full scale of pixels of more than 8 bits; brighter ones are cut off.
    """

    channels: int
    size: int
    background: int = 255
    crop: int | None = None
    scale: float = SCALES[-1]

    def read(self, path: str) -> Tensor:
        """Read an image, (C, size, size) uint8; of an animation the first frame.

        Raises:
            Unreadable: says why.
        """
        picture = self.upright(path)
        side = min(*picture.size, self.crop or max(picture.size))
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        box = (left, top, left + side, top + side)
        small = picture.resize((self.size, self.size), Image.Resampling.BICUBIC, box, reducing_gap=3.0)
        return torch.from_numpy(np.array(small)).reshape(self.size, self.size, self.channels).movedim(2, 0).contiguous()

    def upright(self, path: str) -> Image.Image:
        """Read a picture in 8 bits, grey or colour, upright and opaque; perhaps smaller than it is in its file."""
        try:
            with Image.open(path, formats=known_formats()) as file:
                if self.crop is None:  # lets JPEG decode at a half, a quarter or an eighth of the size
                    ratio = 2 * self.size / min(file.size)
                    file.draft(None, (round(file.width * ratio), round(file.height * ratio)))
                picture = ImageOps.exif_transpose(file)
            if picture.mode[0] in "IF":
                picture = _eight_bits(picture, self.scale)
            elif picture.has_transparency_data:
                behind = Image.new("RGBA", picture.size, (self.background,) * 3 + (255,))
                picture = Image.alpha_composite(behind, picture.convert("RGBA"))
            return picture.convert("L" if self.channels == 1 else "RGB")
        except Unreadable:
            raise
        except MemoryError:
            raise
        except Exception as error:  # decoders raise all kinds of errors on damaged files
            raise Unreadable(_reason(path, error)) from error


def _eight_bits(picture: Image.Image, scale: float) -> Image.Image:
    values = np.asarray(picture, dtype=np.float32)
    if not np.isfinite(values).all():
        raise Unreadable("NaN or infinite pixels")
    if (values < 0).any():
        raise Unreadable("pixels below 0")
    return Image.fromarray((values * (255 / scale)).clip(0, 255).round().astype(np.uint8))


def _reason(path: str, error: Exception) -> str:
    """Return in a few words why a file cannot be read."""
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels"
    if other := foreign(Path(path)):
        return other
    if isinstance(error, UnidentifiedImageError):
        return "empty" if os.path.getsize(path) == 0 else "not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(f"{error}".split())[:100] or type(error).__name__


@dataclass(frozen=True)
class Looks:
    """What a sample of pictures is like: in colour, and the full scale of those of more than 8 bits."""

    colour: bool
    scale: float


def look_at(root: str, names: Sequence[str]) -> Looks:
    """Look at 64 evenly spaced pictures.

    Raises:
        DataError: many of them cannot be read.
    """
    sample = [names[index] for index in spread(len(names))]
    small, highest, colour, broken = View(channels=3, size=32), 0.0, False, list[str]()
    with warnings.catch_warnings(action="ignore"):
        for name in sample:
            path = os.path.join(root, name)
            try:
                highest = max(highest, _highest(path))
                colour = colour or _is_colourful(small.upright(path))
            except Unreadable as reason:
                broken.append(f"{name} ({reason})")
    if len(broken) > 3 * MOST_BROKEN * len(sample):  # so many by chance, with 5 % of all, once in a million folders
        raise too_many_broken(root, broken, len(broken), len(sample))
    return Looks(colour, next((scale for scale in SCALES if highest <= scale), highest))


def _highest(path: str) -> float:
    """Return the brightest pixel of a picture of more than 8 bits; 0 for others."""
    try:
        with Image.open(path, formats=known_formats()) as file:
            return float(np.asarray(file, dtype=np.float32).max()) if file.mode[0] in "IF" else 0.0
    except Exception as error:
        raise Unreadable(_reason(path, error)) from error


def _is_colourful(picture: Image.Image) -> bool:
    pixels = np.asarray(picture).astype(np.int16)
    return bool((np.ptp(pixels, axis=2) > COLOURFUL).mean() > COLOURED)


def too_many_broken(root: str, broken: Sequence[str], number: int, whole: int) -> DataError:
    """Return the error for a folder with many pictures that cannot be read."""
    return DataError(
        f"`data.root` (={printable(root)}): {number:,} of {counted(whole, 'picture')} cannot be read, such as "
        f"{in_words(broken[:3])}, but at most {MOST_BROKEN:.0%} may be so; replace them or move them away"
    )


class PictureFiles(Dataset[Any]):
    """Picture files as a data set. The next one that can be read stands in for one that cannot.

    Args:
        root: their folder.
        names: their paths in it.
        labels: (N,), −1 without.
        view: how to read them.
        broken: (N,) True for pictures of the whole folder that cannot be read, shared with its other splits.
        part: the places of this split's pictures there.
    """

    def __init__(
        self, root: str, names: Sequence[str], labels: np.ndarray, view: View, broken: Tensor, part: slice
    ) -> None:
        self.root, self.view = root, view
        # In one array: processes that prefetch would copy a list of a million names by counting its references.
        self.names = np.array([os.fsencode(name) for name in names], dtype=bytes)
        self.labels = torch.from_numpy(labels).long()
        self.everywhere, self.broken = broken, broken[part]

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> str:
        return os.path.join(self.root, os.fsdecode(bytes(self.names[index])))

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        for at in ((index + step) % len(self) for step in range(min(TRIES, len(self)))):
            if self.broken[at]:
                continue
            try:
                with warnings.catch_warnings(action="ignore"):
                    return self.view.read(self.path(at)), int(self.labels[at])
            except Unreadable as reason:
                self._set_aside(at, reason)
        raise DataError(f"{printable(self.root)} holds no more pictures that can be read; replace the damaged ones")

    def _set_aside(self, index: int, reason: Unreadable) -> None:
        """Remember a picture that cannot be read; warn of the first, and raise DataError if there are many."""
        self.broken[index] = True
        number, name = int(self.everywhere.sum()), printable(os.fsdecode(bytes(self.names[index])))
        if number > MOST_BROKEN * len(self.everywhere):
            raise too_many_broken(self.root, [f"{name} ({reason})"], number, len(self.everywhere))
        if number == 1:
            log.warning(f"{name} cannot be read ({reason}); another picture stands in for it, and for others like it")


def sources(
    root: str,
    names: Sequence[str],
    splits: Sequence[np.ndarray],
    labels: np.ndarray,
    view: View,
    memory: float,
    workers: int,
) -> tuple[Source, Source, Source]:
    """Return a source for each split: in memory if all images take at most `memory` GiB, else on disk.

    Args:
        root: the pictures' folder.
        names: their paths in it, N.
        splits: positions in `names` of the training, validation and test pictures.
        labels: (N,), −1 without.
        view: how to read them.
        memory: limit in GiB.
        workers: threads that read pictures into memory, or processes for each epoch from disk.

    Raises:
        DataError: more than 5 % of the pictures cannot be read.
    """
    used, ends = np.concatenate(splits), np.cumsum([0, *map(len, splits)])
    parts = [slice(start, end) for start, end in pairwise(ends.tolist())]
    size = len(used) * view.channels * view.size**2
    if size > memory * GIB:
        log.info(
            f"{counted(len(used), 'picture')} are read from disk in every epoch, as {size / GIB:.1f} GiB are more than "
            f"`data.memory` (={memory:g})"
        )
        broken = torch.zeros(len(used), dtype=torch.bool).share_memory_()  # seen by all processes
        found = [
            OnDisk(PictureFiles(root, [names[i] for i in each], labels[each], view, broken, part), workers)
            for each, part in zip(splits, parts, strict=True)
        ]
        return found[0], found[1], found[2]
    images, whole = _read_all(root, [names[i] for i in used], view, workers)
    kept = []
    for each, part in zip(splits, parts, strict=True):
        split = InMemory(images[part], torch.from_numpy(labels[each]).long())
        kept.append(split if whole[part].all() else InMemory(*split.batch(whole[part].nonzero()[:, 0])))
    return kept[0], kept[1], kept[2]


def _read_all(root: str, names: Sequence[str], view: View, workers: int) -> tuple[Tensor, Tensor]:
    """Read pictures by threads: images (n, C, H, W) uint8, and (n,) False where a picture cannot be read."""
    images = torch.empty(len(names), view.channels, view.size, view.size, dtype=torch.uint8)
    whole, broken = torch.ones(len(names), dtype=torch.bool), list[str]()

    def read(index: int) -> Unreadable | None:
        try:
            images[index] = view.read(os.path.join(root, names[index]))
        except Unreadable as reason:
            return reason
        return None

    with warnings.catch_warnings(action="ignore"), ThreadPoolExecutor(max(1, workers)) as threads:
        reading = threads.map(read, range(len(names)))
        try:
            for index, reason in enumerate(tqdm(reading, "Pictures", len(names), leave=False, disable=None)):
                if reason is not None:
                    whole[index] = False
                    broken.append(f"{names[index]} ({reason})")
                    if len(broken) > MOST_BROKEN * len(names):
                        raise too_many_broken(root, broken, len(broken), len(names))
        finally:
            threads.shutdown(cancel_futures=True)
    if broken:
        log.warning(
            f"Skipped {len(broken):,} of {counted(len(names), 'picture')} that cannot be read: {in_words(broken)}"
        )
    return images, whole
