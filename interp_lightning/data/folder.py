"""data=folder: the user's own pictures, from a folder."""

import logging
import os
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from interp_lightning.data.base import Fallback, ImageData
from interp_lightning.data.listing import Division, Listing, divide, in_words, list_pictures
from interp_lightning.data.pictures import BACKGROUNDS, Looks, Unreadable, View, look_at, sources
from interp_lightning.data.sources import Source
from interp_lightning.errors import ConfigError, DataError
from interp_lightning.parameters import Count, Folder, Natural, Seed, WayOut, Weight
from interp_lightning.system.text import counted, printable

log = logging.getLogger(__name__)

IMAGES_SEEN, MOST_EPOCHS = 275_000, 500  # default budget: as many images as in five epochs on MNIST

Size = Annotated[int, Field(ge=8, le=1_024)]


class ImageFolder(ImageData):
    """Pictures of any size and format in a folder and the folders in it.

    Each is turned upright by its EXIF orientation, cropped to its central square and resized with antialiasing. The
    name of the folder is that of the data set, with a digest of the pictures' names and sizes.

    Args:
        batch_size, seed: see `ImageData`.
        root: the folder. `train`, `val` and `test` in it are splits, others are classes; see `listing.divide`.
        image_size: pixels to a side.
        channels: 1 for grey, 3 for colour; "auto" looks at 64 pictures: colour if one of them is.
        background: behind transparent pixels.
        memory: GiB; images that take more are read from disk in every epoch.
        workers: threads, or processes if pictures are read in every epoch.
        fallback: see `ImageData`; unused, as nothing replaces own pictures.

    Raises:
        ConfigError: an argument is not allowed, or `root` is missing.
    """

    features: ClassVar[str | None] = "own"

    def __init__(
        self,
        batch_size: Count,
        seed: Seed = 0,
        root: Folder | None = None,
        image_size: Annotated[Size, WayOut("64 is usual")] = 64,
        channels: Literal["auto", 1, 3] = "auto",
        background: Literal["white", "grey", "black"] = "white",
        memory: Weight = 2.0,
        workers: Natural = 2,
        fallback: Fallback = None,
    ) -> None:
        super().__init__(batch_size, seed, fallback)
        if root is None:
            raise ConfigError("data=folder requires `data.root`, the folder of your pictures, such as data.root=pics")
        self.root, self.size, self.channels = os.path.abspath(root), image_size, channels
        self.background, self.memory, self.workers = BACKGROUNDS[background], memory, workers

    @property
    def name(self) -> str:  # type: ignore[override]
        """The folder's name and a digest of the pictures' names and sizes: other pictures are another data set."""
        folder = re.sub(r"[^\w.-]+", "_", Path(self.root).name)[:40].strip("_.") or "pictures"
        return f"{folder}-{self._listing.digest[:6]}"

    @property
    def image_shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        channels = self._channels if self.channels == "auto" else self.channels
        return channels, self.size, self.size

    @property
    def classes(self) -> int:  # type: ignore[override]
        return len(self._division.classes)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._division.classes

    @property
    def epochs(self) -> int:  # type: ignore[override]
        return max(1, min(MOST_EPOCHS, round(IMAGES_SEEN / len(self._division.train))))

    def is_still(self, name: str) -> bool:
        return name.rpartition("-")[2] == self.name.rpartition("-")[2]  # the folder may have another name now

    def remembered(self) -> dict[str, Any]:
        return {"channels": self.image_shape[0]}

    def load(self) -> tuple[Source, Source, Source]:
        division, listing = self._division, self._listing
        splits = division.train, division.val, division.test
        log.info(self._described())
        for remark in division.remarks:
            log.warning(f"In {printable(self.root)} {remark}")
        return sources(self.root, listing.names, splits, division.labels, self._view, self.memory, self.workers)

    def read_picture(self, path: Path) -> Tensor:
        try:
            return self._view.read(str(path))
        except Unreadable as error:
            raise DataError(f"{path} cannot be read ({error}); name a PNG, JPEG or other image file") from error

    @property
    def _view(self) -> View:
        return View(self.image_shape[0], self.size, self.background, scale=self._looks.scale)

    @property
    def _channels(self) -> int:
        return 3 if self._looks.colour else 1

    @cached_property
    def _listing(self) -> Listing:
        return list_pictures(self.root)

    @cached_property
    def _division(self) -> Division:
        return divide(self._listing)

    @cached_property
    def _looks(self) -> Looks:
        return look_at(self.root, self._listing.names)

    def _described(self) -> str:
        """Describe the pictures and how they are divided."""
        division, skipped = self._division, self._listing.skipped
        sizes = [f"{len(split):,}" for split in (division.train, division.val, division.test)]
        kinds = f"{len(division.classes):,} classes ({in_words(division.classes)})"
        return (
            f"{counted(len(self._listing.names), 'picture')} in {printable(self.root)}: {sizes[0]} to train, "
            f"{sizes[1]} to validate, {sizes[2]} to test; {'colour' if self.image_shape[0] == 3 else 'grey'}; "
            f"{kinds if division.classes else 'no labels'}{skipped and f'; skipped {skipped}'}"
        )
