"""Choose the images at the ends of a path: test images, files, drawings."""

import base64
import binascii
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from interp_lightning.data.base import ImageData
from interp_lightning.data.contract import UNLABELLED
from interp_lightning.data.files import read_image
from interp_lightning.data.loaders import EvaluationLoader
from interp_lightning.errors import ConfigError, DataError
from interp_lightning.functional.images import by_typicality, to_unit_range

EXAMPLES = 12  # in a gallery
KEPT = 1_000  # test images
PNG = "data:image/png;base64,"
DRAWING = "the drawing"


@dataclass(frozen=True, eq=False)
class End:
    """An image at the end of a path, and its name."""

    name: str
    x: Float[Tensor, "1 C H W"]  # in [−1, 1]


class Ends:
    """Images of a data set that a user can choose.

    Args:
        data: its test images are offered, and pictures of the user are fitted to them.
    """

    def __init__(self, data: ImageData) -> None:
        self.data = data
        labels = torch.cat([y.long().cpu() for _, y in EvaluationLoader(data.test, rank=0, world_size=1)])
        self.labels = [int(label) for label in labels.unique()] if data.labelled else []
        self._of = {label: (labels == label).nonzero().flatten().tolist() for label in self.labels}
        self._all = list(range(len(labels)))
        self._labels = labels.tolist()
        self._test_image: Callable[[int], End] = lru_cache(KEPT)(self._read)

    def items(self, label: int | None) -> list[int]:
        """Return the test images with a label; all for None."""
        return self._all if label is None else self._of.get(label, [])

    def test_image(self, label: int | None, number: float | None) -> End:
        """Return one of the test images with a label, counted from 0; None is any label.

        Raises:
            ConfigError: there is no image with that number.
        """
        items = self.items(label)
        if number is None or number != int(number) or not 0 <= number < len(items):
            with_label = "" if label is None else f" with label {label}"
            given = "is missing; it" if number is None else f"(={number:g})"
            raise ConfigError(
                f"`number` {given} must be an integer from 0 to {len(items) - 1:,}: there are {len(items):,} test "
                f"images{with_label}"
            )
        return self._test_image(items[int(number)])

    def typical(self, label: int | None) -> int:
        """Return the number of the most typical test image with a label; 0 if the label is None."""
        if label is None:
            return 0
        test = self.data.test
        images, _ = test.batch(test.all()[self.items(label)])
        return int(by_typicality(to_unit_range(images))[0])

    def gallery(self, label: int | None) -> list[End]:
        """Return the first test images with a label."""
        return [self._test_image(item) for item in self.items(label)[:EXAMPLES]]

    def picture(self, path: Path, name: str) -> End:
        """Return a user's picture, fitted to the data set.

        Args:
            path: the file.
            name: for titles and sentences.

        Raises:
            DataError: it is no image, or blank.
        """
        try:
            x, inverted = read_image(path, self.data)
        except DataError as error:
            raise DataError(str(error).replace(str(path), name)) from error
        return End(f"{name}, inverted" if inverted and name != DRAWING else name, x)

    def drawing(self, url: str) -> End:
        """Return a drawing that the page has made.

        Args:
            url: the drawing as a data URL of a PNG file.

        Raises:
            DataError: nothing is drawn.
        """
        if not url.startswith(PNG):
            raise DataError(f"{DRAWING} is empty; draw something first")
        try:
            content = base64.b64decode(url.removeprefix(PNG), validate=True)
        except binascii.Error as error:
            raise DataError(f"{DRAWING} is damaged ({error}); draw it again") from error
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "drawing.png"
            file.write_bytes(content)
            return self.picture(file, DRAWING)

    def _read(self, item: int) -> End:
        test = self.data.test
        images, _ = test.batch(test.all()[item : item + 1])
        label = self._labels[item]
        name = f"test image {item}" + (f" (label {self.data.class_names[label]})" if label != UNLABELLED else "")
        return End(name, to_unit_range(images).cpu())
