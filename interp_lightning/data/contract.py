"""The contract of a data set: valid images and labels. Each split is checked before training."""

import logging
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from interp_lightning.data.sentences import described, type_name
from interp_lightning.errors import DataError

log = logging.getLogger(__name__)

LEAST = 2  # images of a split: penalties compare codes, and a path has two ends
LOOKS = 64  # items read before training from a split that is not in memory
AT_ONCE = 1_000  # images
UNLABELLED = -1
TOLERANCE = 0.01  # beyond [−1, 1], for images that were resized or stored in half precision
LEAST_REACH = 0.1  # floats in [−1, 1] must go at least that far below and above 0
FULL_REACH = 0.6  # less than that is unusual, and a warning
LEAST_SPAN = 0.2  # from the darkest to the brightest pixel of a split, in units of [−1, 1]


@dataclass(frozen=True)
class Contract:
    """Valid images and labels of one split; anything else raises one sentence.

    Images are tensors (C, H, W), uint8, or finite floating point that uses the range [−1, 1]. Labels are integers from
    0 to classes − 1, or all −1 if the images have none.

    Args:
        owner: the data set's class, named in each sentence.
        split: "training", "validation" or "test".
        image_shape: (C, H, W).
        classes: number of labels; 0 if the images have none.
        dtype, labelled: of the images seen so far, equal for all further ones; None before the first check.
    """

    owner: str
    split: str
    image_shape: tuple[int, int, int]
    classes: int
    dtype: torch.dtype | None = None
    labelled: bool | None = None

    def check_number(self, number: int) -> int:
        """Return the number of images; raise DataError if it is too small."""
        if number >= LEAST or (number == 0 and self.split == "validation"):
            return number
        found = f"the {self.split} split has {number} image{'s' * (number != 1)}"
        least = f"at least {LEAST}{' or none' * (self.split == 'validation')}"
        raise self._error(found, f"must have {least}", "divide the images among the splits in another way")

    def check(self, images: Any, labels: Any) -> tuple[Tensor, Tensor, Self]:
        """Check images (N, C, H, W) and labels (N,), a whole split or a sample of it.

        Returns:
            The images, the labels as int64, and the contract for further items.

        Raises:
            DataError: the images or labels are invalid.
        """
        what, labels_are = f"the {self.split} images", f"the {self.split} labels"
        images = self._tensor(images, f"{what} are", "a tensor (N, C, H, W)")
        self._check_shape(images.shape[1:], f"{what} are")
        self._check_dtype(images.dtype, f"{what} are")
        if not isinstance(labels, Tensor):
            way_out = f"use torch.{'from_numpy' if isinstance(labels, np.ndarray) else 'tensor'}(…)"
            raise self._error(f"{labels_are} are {described(labels)}", "must be a tensor (N,) of integers", way_out)
        if labels.shape != images.shape[:1]:
            raise self._error(
                f"{labels_are} are {tuple(labels.shape)} for {len(images):,} images",
                f"must be a tensor ({len(images)},), one integer per image",
                self._way_out_of(labels.shape[1:]) or "hand over as many labels as images",
            )
        if labels.is_floating_point() or labels.is_complex():
            raise self._error(f"{labels_are} are {type_name(labels.dtype)}", "must be integers", "use labels.long()")
        labels = labels.long()
        if len(images):
            self._check_range(images)
            self._check_labels(labels)
        labelled = bool((labels != UNLABELLED).all()) if len(labels) else None
        return images.detach(), labels, replace(self, dtype=images.dtype, labelled=labelled)

    def check_item(self, item: Any, index: int) -> tuple[Tensor, int]:
        """Check one item of a data set: (image, label), or an image without label.

        Returns:
            The image and its label, −1 if it has none.

        Raises:
            DataError: the item is invalid.
        """
        where = f"{self.split} item {index}"
        parts = [*item, None] if isinstance(item, (tuple, list)) and len(item) == 1 else item
        image, label = parts if isinstance(parts, (tuple, list)) and len(parts) == 2 else (parts, None)
        if isinstance(image, (tuple, list, dict)):
            raise self._error(
                f"{where} is {described(item)}",
                "must be a pair (image, label)",
                "return just these two from __getitem__",
            )
        image = self._tensor(image, f"the image of {where} is", "a tensor (C, H, W)").detach()
        self._check_shape(image.shape, f"the image of {where} is")
        self._check_dtype(image.dtype, f"the image of {where} is")
        low, high = image.aminmax() if image.dtype == torch.uint8 else image.float().aminmax()
        self._check_bounds(low.item(), high.item(), image.dtype, f"the image of {where} is")
        label = self._integer(label, f"the label of {where}")
        self._check_label_bounds(label, label, f"the label of {where} is {label}")
        if self.labelled is not None and (label != UNLABELLED) != self.labelled:
            others = "are labelled" if self.labelled else f"are all {UNLABELLED}"
            raise self._error(f"the label of {where} is {label}", f"others {others}", "label all images or none")
        return image, label

    def _check_shape(self, found: torch.Size, what: str) -> None:
        """Reject images that do not have the declared shape."""
        channels, height, width = self.image_shape
        shape = tuple(found)
        if shape == self.image_shape:
            return
        if shape == (height, width, channels):
            way_out = "move the channels to the front by .movedim(-1, -3)"
        elif shape == (height, width) and channels == 1:
            way_out = "add the dimension of the channels by .unsqueeze(-3)"
        else:
            way_out = "resize, crop or pad them"
            if self.dtype is None and len(shape) == 3 and shape[0] in (1, 3) and shape[1] == shape[2]:
                way_out += f", or declare image_shape = {shape}"
        raise self._error(f"{what} {shape}", f"must be (C, H, W) = {self.image_shape}, as declared", way_out)

    def _check_dtype(self, dtype: torch.dtype, what: str) -> None:
        """Reject images of a type without a defined range, or of different types."""
        if dtype != torch.uint8 and not dtype.is_floating_point:
            way_out = "multiply by 255 and use .to(torch.uint8)" if dtype == torch.bool else "use .to(torch.uint8)"
            raise self._error(f"{what} {type_name(dtype)}", "must be uint8, or floating point in [−1, 1]", way_out)
        if self.dtype not in (None, dtype):
            raise self._error(
                f"{what} {type_name(dtype)}",
                f"others are {type_name(self.dtype)}",
                "give all images of a split one type",
            )

    def _check_bounds(self, low: float, high: float, dtype: torch.dtype, what: str) -> None:
        """Reject pixels that are not finite, or floats outside [−1, 1]."""
        if dtype == torch.uint8:
            return
        if not np.isfinite([low, high]).all():
            way_out = "repair or remove it"
            raise self._error(f"{what} NaN or infinite in places", "must be finite", way_out)
        if low < -1 - TOLERANCE or high > 1 + TOLERANCE:
            way_out = "divide by 127.5 and subtract 1" if low >= 0 and high <= 255 else "scale them to [−1, 1]"
            raise self._error(
                f"{what} {type_name(dtype)} from {low:.4g} to {high:.4g}",
                "floats must lie in [−1, 1]",
                f"{way_out}, or hand over uint8 (PILToTensor, and no Normalize)",
            )

    def _check_range(self, images: Tensor) -> None:
        """Reject images that do not use the range of their type: they would train on a wrong range unnoticed."""
        what, dtype = f"the {self.split} images are", images.dtype
        parts = [part.flatten(1) if dtype == torch.uint8 else part.flatten(1).float() for part in images.split(AT_ONCE)]
        lows, highs = (
            torch.cat([each.float() for each in found]) for found in zip(*map(_extremes, parts), strict=True)
        )
        broken = (~(lows.isfinite() & highs.isfinite())).nonzero()
        if len(broken):
            self._check_bounds(torch.nan, torch.nan, dtype, f"{self.split} image {int(broken[0])} is")
        low, high = lows.min().item(), highs.max().item()
        self._check_bounds(low, high, dtype, what)
        found = f"{what} {type_name(dtype)} from {low:.4g} to {high:.4g}"
        if torch.equal(lows, highs):
            raise self._error(
                found, "each has one value only, so there is nothing to learn", "look at how they are made"
            )
        if dtype == torch.uint8:
            if high - low < LEAST_SPAN * 127.5:
                way_out = f"multiply by {255 / high:.3g}" if low == 0 else "stretch them to 0 … 255"
                raise self._error(found, "uint8 must use 0 (black) to 255 (white)", way_out)
            return
        allowed = "floats must use [−1 (black), 1 (white)]"
        if low > -LEAST_REACH and high > 0.5:  # as ToTensor makes them
            way_out = "multiply by 2 and subtract 1, or hand over uint8 (PILToTensor instead of ToTensor)"
            raise self._error(found, allowed, way_out)
        if low > -LEAST_REACH or high < LEAST_REACH or high - low < LEAST_SPAN:
            raise self._error(found, allowed, "stretch them to [−1, 1], or hand over uint8 (PILToTensor)")
        if low > -FULL_REACH or high < FULL_REACH:
            log.warning(f"{self.owner}: {found}; {allowed}, so check that they are not scaled wrongly")

    def _check_labels(self, labels: Tensor) -> None:
        """Reject labels (N,) outside the classes, or for some images only."""
        low, high = int(labels.min()), int(labels.max())
        missing = labels == UNLABELLED
        if missing.any() and not missing.all():
            raise self._error(
                f"{int(missing.sum()):,} of {len(labels):,} {self.split} labels are {UNLABELLED}, the first of them "
                f"that of image {int(missing.nonzero()[0])}",
                "either all or none may be",
                f"remove these images, or use {UNLABELLED} for all",
            )
        self._check_label_bounds(low, high, f"the {self.split} labels are from {low} to {high}")

    def _check_label_bounds(self, low: int, high: int, found: str) -> None:
        """Reject labels that are neither a class nor −1."""
        if low == high == UNLABELLED or 0 <= low <= high < self.classes:
            return
        if self.classes == 0:
            must, way_out = f"must be {UNLABELLED} with classes = 0", f"declare classes = {high + 1}, or no labels"
        else:
            must = f"must be from 0 to {self.classes - 1} with classes = {self.classes}, or all {UNLABELLED} for none"
            one_based = low >= 1 and high == self.classes
            way_out = "subtract 1" if one_based else "number the classes from 0" if low < 0 else ""
            way_out = way_out or f"number the classes from 0, or declare classes = {high + 1}"
        raise self._error(found, must, way_out)

    def _tensor(self, images: Any, what: str, expected: str) -> Tensor:
        """Return images if they are a tensor; else raise DataError."""
        if isinstance(images, Tensor):
            return images
        way_out = "convert it by torch.tensor(…)"
        if isinstance(images, Image.Image):
            way_out = "add PILToTensor() to the transform of the data set"
        elif isinstance(images, np.ndarray):
            way_out = "use torch.from_numpy(…), with the channels before height and width"
        raise self._error(f"{what} {described(images)}", f"must be {expected}", way_out)

    def _integer(self, label: Any, what: str) -> int:
        """Return an item's label, an integer of any type, as an int."""
        if label is None:
            return UNLABELLED
        if isinstance(label, (int, np.integer, np.bool_)):
            return int(label)
        shape = tuple(label.shape) if isinstance(label, (Tensor, np.ndarray)) else ()
        if isinstance(label, (Tensor, np.ndarray)) and not shape:
            number = label.item()
            if isinstance(number, int):
                return int(number)
        way_out = "use int(…)" if isinstance(label, (float, Tensor, np.ndarray, np.floating)) else "number the classes"
        raise self._error(f"{what} is {described(label)}", "must be an integer", self._way_out_of(shape) or way_out)

    def _way_out_of(self, rest: tuple[int, ...]) -> str:
        """Return how to remove these extra dimensions of labels; "" if unknown."""
        if rest == (1,):
            return "drop the last dimension by .squeeze(-1)"
        return "turn one-hot labels into numbers by .argmax(-1)" if rest == (self.classes,) else ""

    def _error(self, found: str, must: str, way_out: str) -> DataError:
        return DataError(f"{self.owner}: {found}, but {must}; {way_out}")


def spread(number: int, most: int = LOOKS) -> list[int]:
    """Return at most `most` evenly spaced indices of `number` items, including the first and the last."""
    last = min(number, most) - 1
    return [index * (number - 1) // max(last, 1) for index in range(last + 1)]


def _extremes(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the darkest and brightest pixel of each image, (n, pixels) → (n,), (n,); NaN if any pixel is."""
    return images.amin(1), images.amax(1)
