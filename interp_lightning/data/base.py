"""The interface of every data set: three splits of square images, checked before training."""

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import lightning as L
from torch import Tensor

from interp_lightning.data.contract import UNLABELLED, Contract
from interp_lightning.data.loaders import EvaluationLoader, TrainingLoader
from interp_lightning.data.sentences import described, theirs
from interp_lightning.data.sources import Batch, InMemory, OnDisk, Source  # noqa: F401, for own data sets
from interp_lightning.errors import ConfigError, DataError
from interp_lightning.functional.images import to_unit_range
from interp_lightning.parameters import Configurable, Count, Natural, Seed, Text, WayOut, accepts, check_value

log = logging.getLogger(__name__)

SPLITS = ("training", "validation", "test")

Fallback = Literal["digits"] | None


@dataclass(frozen=True)
class Drawing:
    """Placement of drawings in the grey images of a data set."""

    box: int  # pixels of a drawing's longer side
    by_mass: (
        bool  # its centre of mass is in the middle (at the pixel after it, as in MNIST); else the centre of its box
    )


class ImageData(Configurable, L.LightningDataModule, ABC, group="data", top_level=("seed",)):
    """A data set of square images. `data.contract.Contract` defines valid images and labels.

    Args:
        batch_size: training images per step, on all devices together.
        seed: of the training order.
        fallback: the data set to train on if this one's files are missing and cannot be downloaded; None is an error.
    """

    name: str
    image_shape: ClassVar[tuple[int, int, int]]  # (C, H, W)
    classes: ClassVar[int]  # 0 if the images have no labels
    epochs: ClassVar[int]  # default training budget
    features: ClassVar[str | None] = "own"  # default judge, see metrics.features

    drawing: ClassVar[Drawing | None] = None  # placement of drawings; None: the images are not drawings

    may_fetch = True  # missing files may be downloaded into their folder
    trained_on: str | None = None  # name of the data set that a loaded run was trained on
    chosen = False  # instead of that data set

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if getattr(cls.load, "__isabstractmethod__", False):  # a base of data sets
            return
        missing = [name for name in ("name", "image_shape", "classes", "epochs") if getattr(cls, name, None) is None]
        if missing:
            raise ConfigError(
                f"the data set {cls.__name__} must have {', '.join(missing)}, see interp_lightning.data.base"
            )
        if isinstance(cls.image_shape, list):
            cls.image_shape = tuple(cls.image_shape)
        _check_declarations(cls, cls.__name__)

    def __init__(self, batch_size: Count, seed: Seed = 0, fallback: Fallback = None) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.seed = seed
        self.fallback = fallback

    @abstractmethod
    def load(self) -> tuple[Source, Source, Source]:
        """Return the training, validation and test split.

        Training and test split have at least 2 images. An empty validation split skips validation.

        Raises:
            DataError: files are missing or damaged.
        """

    def is_still(self, name: str) -> bool:
        """Return True if these are the images that had this name when a run was trained on them."""
        return name == self.name

    def remembered(self) -> dict[str, Any]:
        """Return settings in place of those that leave a choice to the images, for the run's record."""
        return {}

    def read_picture(self, path: Path) -> Tensor | None:
        """Read a user's picture as the data set reads its own, (C, H, W) uint8; None if it has no way of its own.

        Raises:
            DataError: the file cannot be read.
        """
        return None

    def setup(self, stage: str | None = None) -> None:
        """Load and check the splits, once.

        Raises:
            DataError: a split violates the contract, or the data set's own code raises an exception; or a loaded run
                was trained on other images, and nobody has chosen these.
            ConfigError: there are fewer training images than in a batch.
        """
        if self._splits is not None:
            return
        owner = type(self).__name__
        _check_declarations(self, owner)  # again, as an object may have others than its class
        _check_unchanged(self)
        with theirs(f"{owner}.load()"):
            loaded = self.load()
        splits, labelled = zip(*map(self._checked, SPLITS, _three(owner, loaded)), strict=True)
        if len(set(labelled) - {None}) > 1:
            which = [split for split, has in zip(SPLITS, labelled, strict=True) if has]
            raise DataError(
                f"{owner}: only {' and '.join(which)} images have labels, but all splits or none must have them; use "
                f"{UNLABELLED} for all"
            )
        if len(splits[0]) < self.batch_size:
            raise ConfigError(
                f"`data.batch_size` (={self.batch_size}) must be ≤ {len(splits[0])}, the number of training images"
            )
        self._splits, self._labelled = splits, bool(labelled[0])

    _splits: tuple[Source, Source, Source] | None = None
    _labelled = True

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the labels from 0 to classes − 1, for figures and command lines: by default the numbers."""
        return tuple(map(str, range(self.classes)))

    @property
    def labelled(self) -> bool:
        """The images have labels."""
        self.setup()
        return self._labelled

    @property
    def train(self) -> Source:
        return self._split(0)

    @property
    def val(self) -> Source:
        return self._split(1)

    @property
    def test(self) -> Source:
        return self._split(2)

    def train_dataloader(self) -> TrainingLoader:
        limit = 1.0 if self.trainer is None else self.trainer.limit_train_batches
        return TrainingLoader(self._there(self.train), self.batch_size, self.seed, *self._place(), limit)

    def val_dataloader(self) -> EvaluationLoader:
        return EvaluationLoader(self._there(self.val), *self._place())

    def test_dataloader(self) -> EvaluationLoader:
        return EvaluationLoader(self._there(self.test), *self._place())

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        images, labels = batch
        return to_unit_range(images), labels

    def _checked(self, split: str, source: Source) -> tuple[Source, bool | None]:
        """Return the checked split, and True if it has labels, False if not, None if it is empty."""
        contract = Contract(type(self).__name__, split, self.image_shape, self.classes)
        with theirs(f"{contract.owner}: looking at the {split} split"):
            source, contract = source.checked(contract)
        return source, contract.labelled

    def _split(self, index: int) -> Source:
        self.setup()
        assert self._splits is not None
        return self._splits[index]

    def _there(self, source: Source) -> Source:
        """Return a split on the trainer's device."""
        return source if self.trainer is None else source.to(self.trainer.strategy.root_device)

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def _check_unchanged(data: ImageData) -> None:
    """Raise DataError if a loaded run was trained on other images; warn if these have been chosen instead."""
    if data.trained_on is None or data.is_still(data.trained_on):
        return
    sentence = (
        f"this run was trained on data={data.trained_on}, but that is now data={data.name}: pictures have been added, "
        "removed or changed, so its test images may have been trained on"
    )
    if not data.chosen:
        raise DataError(f"{sentence}; restore them, or name a folder by data_root=…, which takes it as it is")
    log.warning(f"{sentence[0].upper()}{sentence[1:]}")


def mean_image_error(source: Source, items: int = 2_000) -> float:
    """Return the mean squared error of the mean image, in [−1, 1]: the score of a model that has learned nothing.

    Args:
        source: the images.
        items: number of evenly spaced images to use.
    """
    every = source.all()
    images = to_unit_range(source.batch(every[:: max(1, len(every) // items)])[0])
    return images.var(0, correction=0).mean().item()


def _check_declarations(data: Any, owner: str) -> None:
    """Raise ConfigError if a data set, class or object, has an invalid declaration."""
    rules = {
        "name": Text,
        "classes": Annotated[Natural, WayOut("0 is for images without labels")],
        "epochs": Count,
        "features": Literal["digits", "inception", "own"] | None,
    }
    for name, rule in rules.items():
        if not hasattr(getattr(data, name), "__get__"):  # a property has its value in objects only
            check_value(f"{owner}.{name}", getattr(data, name), rule)
    shape = data.image_shape
    if hasattr(shape, "__get__"):
        return
    if not (
        isinstance(shape, tuple)
        and len(shape) == 3
        and accepts(tuple[Count, Count, Count], shape)
        and shape[0] in (1, 3)
        and shape[1] == shape[2]
    ):
        raise ConfigError(
            f"`{owner}.image_shape` (={shape!r}) must be (channels, height, width), with 1 (grey) or 3 (colour) "
            "channels and height = width, such as (3, 32, 32); pad or crop the images to a square"
        )


def _three(owner: str, loaded: Any) -> tuple[Source, Source, Source]:
    """Return three splits; raise DataError if `load` has returned anything else."""
    must = f"{owner}.load() must return three splits, training, validation and test, each InMemory or OnDisk"
    if not isinstance(loaded, (tuple, list)):
        raise DataError(f"{must}, but returns {described(loaded)}; return (training, validation, test)")
    if len(loaded) != 3:
        raise DataError(
            f"{must}, but returns {len(loaded)}; hold images back from training for the missing ones, such as by "
            "torch.utils.data.random_split, or use InMemory(images[:0]) for no validation"
        )
    for split, source in zip(SPLITS, loaded, strict=True):
        if not isinstance(source, Source):
            raise DataError(
                f"{must}, but the {split} split is {described(source)}; wrap a Dataset as OnDisk(dataset), tensors as "
                "InMemory(images, labels)"
            )
    return tuple(loaded)
