"""What every data set shares: splits, in memory if they can be, batches, the order of an epoch from its number."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Self

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate
from torchmetrics import Metric

from interp_lightning.data.contract import UNLABELLED, Contract, described, spread, theirs
from interp_lightning.errors import ConfigError, DataError
from interp_lightning.functional.images import to_unit_range
from interp_lightning.parameters import (
    Configurable,
    Count,
    Natural,
    Seed,
    Text,
    WayOut,
    accepts,
    check_integer,
    check_value,
)
from interp_lightning.steps.distributed import shard

EVAL_BATCH = 500
SPLITS = ("training", "validation", "test")

Fallback = Literal["digits"] | None
Batch = tuple[Tensor, Tensor]  # images (B, C, H, W), uint8 or in [−1, 1]; labels (B,), all −1 if there are none


class Source(ABC):
    """A split: a number of items, and how to make a batch of some of them."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def epoch(self, generator: torch.Generator) -> Tensor:
        """What an epoch of training goes through, in its order, (N, …); all randomness comes from `generator`."""

    @abstractmethod
    def all(self) -> Tensor:
        """What evaluation goes through, (N, …): always the same, in the same order."""

    @abstractmethod
    def batch(self, items: Tensor) -> Batch:
        """Images and labels of some of those items."""

    def batches(self, items: Iterable[Tensor]) -> Iterator[Batch]:
        """One batch after the other."""
        return map(self.batch, items)

    def to(self, device: torch.device) -> Self:
        """The same split, made ready where its images will be used, if that makes sense."""
        return self

    def checked(self, contract: Contract) -> tuple["Source", Contract]:
        """Check the split before training, by a batch of items spread over it.

        Returns:
            The split as it is to be used, and the contract with what the look has shown.

        Raises:
            DataError: it breaks the contract.
        """
        if not contract.check_number(len(self)):
            return self, contract
        images, labels = self.batch(self.all()[spread(len(self))])
        return self, contract.check(images, labels)[2]


@dataclass(frozen=True)
class InMemory(Source):
    """Images (N, C, H, W), uint8 or in [−1, 1], and labels (N,); without labels all are −1."""

    images: Tensor
    labels: Tensor = None  # type: ignore[assignment]  # never None once it is set up

    def __post_init__(self) -> None:
        if self.labels is None and isinstance(self.images, Tensor):
            object.__setattr__(self, "labels", torch.full(self.images.shape[:1], UNLABELLED))

    def __len__(self) -> int:
        return len(self.images)

    def epoch(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self), generator=generator).to(self.images.device)

    def all(self) -> Tensor:
        return torch.arange(len(self), device=self.images.device)

    def batch(self, items: Tensor) -> Batch:
        return self.images[items], self.labels[items]

    def to(self, device: torch.device) -> Self:
        """All of it on the device, unless that would take more than half of the memory that is free there."""
        if device.type == "cuda" and self.images.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
            return self
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def checked(self, contract: Contract) -> tuple[Source, Contract]:
        """Check every image and label."""
        if not contract.check_number(len(self)):
            return self, contract
        images, labels, contract = contract.check(self.images, self.labels)
        return InMemory(images, labels.to(images.device)), contract


@dataclass(frozen=True)
class OnDisk(Source):
    """A data set in the sense of torch.utils.data, too large for memory: read by an ordinary DataLoader.

    Args:
        dataset: gives an image (C, H, W), uint8 or in [−1, 1], and its label, by index; without labels just the image.
        workers: processes that read ahead.
    """

    dataset: Dataset[Any]
    workers: int = 2

    def __post_init__(self) -> None:
        check_integer("OnDisk(…, workers=)", self.workers, least=0)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def epoch(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self), generator=generator)

    def all(self) -> Tensor:
        return torch.arange(len(self))

    def batch(self, items: Tensor) -> Batch:
        return _whole(_collate([self.dataset[item] for item in items.tolist()]))

    def batches(self, items: Iterable[Tensor]) -> Iterator[Batch]:
        order = [each.tolist() for each in items]
        # The system's own way to start processes: joblib's, in a job of a sweep, cannot start a DataLoader's.
        how = ("fork" if sys.platform == "linux" else "spawn") if self.workers else None
        pinned = torch.cuda.is_available()
        loader: Iterable[Batch | DataError] = DataLoader(
            self.dataset,
            batch_sampler=order,
            num_workers=self.workers,
            collate_fn=_collate,
            pin_memory=pinned,
            multiprocessing_context=how,
        )
        yield from map(_whole, loader)

    def checked(self, contract: Contract) -> tuple[Source, Contract]:
        """Check at most 64 items, the first, the last and evenly spread ones; each other one as it is read."""
        kind = type(self.dataset)
        indexed = hasattr(kind, "__len__") and hasattr(kind, "__getitem__") and not issubclass(kind, IterableDataset)
        if not indexed:
            raise DataError(
                f"{contract.owner}: OnDisk holds a {kind.__name__} for the {contract.split} split, but must hold a "
                "data set with __len__ and __getitem__; use a torch.utils.data.Dataset that reads items by their index"
            )
        seen = []
        for index in spread(contract.check_number(len(self))):
            image, label = Checked(self.dataset, contract).read(index)
            contract = replace(contract, dtype=image.dtype, labelled=label != UNLABELLED)
            seen.append((image, label))
        if seen:
            contract.check(*default_collate(seen))
        return OnDisk(Checked(self.dataset, contract), self.workers), contract


@dataclass(frozen=True)
class Checked(Dataset[Any]):
    """A data set of the user's whose every item is checked as it is read.

    An item that breaks the contract is given as the error, which a batch of it raises: raised in a process that reads
    ahead, it would reach the user as that process's traceback.
    """

    dataset: Dataset[Any]
    contract: Contract

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, int] | DataError:
        try:
            return self.read(index)
        except DataError as error:
            return error

    def read(self, index: int) -> tuple[Tensor, int]:
        """An item.

        Raises:
            DataError: it breaks the contract, or cannot be read.
        """
        with theirs(f"{self.contract.owner}: reading {self.contract.split} item {index}"):
            return self.contract.check_item(self.dataset[index], index)


def _collate(items: list[Any]) -> Batch | DataError:
    """Items as a batch, or the first error among them."""
    return next((item for item in items if isinstance(item, DataError)), None) or default_collate(items)


def _whole(batch: Batch | DataError) -> Batch:
    """Return the batch, or raise what is there instead."""
    if isinstance(batch, DataError):
        raise batch
    return batch


class TrainingLoader:
    """An epoch of full batches, each sliced for this rank. Its state is where in which epoch it stands.

    Args:
        limit: the share of an epoch's batches, or their number, after which whoever iterates goes on to the next.
    """

    def __init__(
        self, source: Source, batch_size: int, seed: int, rank: int, world_size: int, limit: float = 1.0
    ) -> None:
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.limit = int(limit * len(self)) if isinstance(limit, float) else min(limit, len(self))
        self.current_epoch, self.next_batch = -1, 0
        self.resuming = False

    def __len__(self) -> int:
        return len(self.source) // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        if not self.resuming:
            self.current_epoch, self.next_batch = self.current_epoch + 1, 0
        self.resuming = False
        key = np.random.SeedSequence([self.seed, self.current_epoch]).generate_state(1, np.uint64)[0]
        order = self.source.epoch(torch.Generator().manual_seed(int(key)))
        left = order.split(self.batch_size)[self.next_batch : len(self)]
        for batch in self.source.batches(shard(items, self.rank, self.world_size) for items in left):
            self.next_batch += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        over = self.next_batch >= self.limit
        return {"current_epoch": self.current_epoch, "next_batch": self.next_batch, "over": over}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.current_epoch, self.next_batch = state["current_epoch"], state["next_batch"]
        # A finished epoch has nothing left to resume: the next iteration starts a new one.
        self.resuming = not state["over"]


class EvaluationLoader:
    """Every item once, in order, in batches as equal as can be, so that no batch has a handful of images."""

    def __init__(self, source: Source, rank: int, world_size: int) -> None:
        self.source, self.rank, self.world_size = source, rank, world_size

    def __len__(self) -> int:
        return -(-len(self.source) // (EVAL_BATCH * self.world_size))

    def __iter__(self) -> Iterator[Batch]:
        if not len(self):
            return
        parts = self.source.all().tensor_split(len(self) * self.world_size)
        yield from self.source.batches(parts[self.rank :: self.world_size])


@dataclass(frozen=True)
class Drawing:
    """How what is drawn lies in the images of a data set, which are grey."""

    box: int  # pixels of its longer side
    by_mass: bool  # whether its centre of mass is in the middle (at the pixel after it, as in MNIST), or its frame's


class ImageData(Configurable, L.LightningDataModule, ABC, group="data", top_level=("seed",)):
    """A data set of square images; `data.contract.Contract` says what they and their labels must be.

    Args:
        batch_size: training images per step, on all devices together.
        seed: of the training order.
        fallback: the data set to train on when this one's files are neither there nor to be fetched; None is an error.
    """

    name: str
    image_shape: ClassVar[tuple[int, int, int]]  # (C, H, W)
    classes: ClassVar[int]  # 0 if the images have no labels
    epochs: ClassVar[int]  # a training budget that is worth looking at
    features: ClassVar[str | None] = None  # of metrics.features: the network that tells these images apart

    drawing: ClassVar[Drawing | None] = None  # how drawings lie in their images; None: the images are no drawings

    may_fetch = True  # whether files that are missing may be downloaded into their folder

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
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
        """Training, validation and test split; raises DataError if files are missing or damaged.

        Training and test split have at least 2 images. A validation split without images skips validation.
        """

    def path_metrics(self) -> list[Metric]:
        """Fresh metrics of paths of such images, (pairs, steps, H, W), by what only this data set knows of them."""
        return []

    def setup(self, stage: str | None = None) -> None:
        """Load the splits and check them, once.

        Raises:
            DataError: a split breaks the contract, or the data set's own code raises an exception.
            ConfigError: there are fewer training images than a batch has.
        """
        if self._splits is not None:
            return
        owner = type(self).__name__
        _check_declarations(self, owner)  # again, as an object may have others than its class
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
    def labelled(self) -> bool:
        """Whether the images have labels."""
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
        """A split as it is to be used, and whether it has labels, None if it is empty."""
        contract = Contract(type(self).__name__, split, self.image_shape, self.classes)
        with theirs(f"{contract.owner}: looking at the {split} split"):
            source, contract = source.checked(contract)
        return source, contract.labelled

    def _split(self, index: int) -> Source:
        self.setup()
        assert self._splits is not None
        return self._splits[index]

    def _there(self, source: Source) -> Source:
        """A split, on the trainer's device."""
        return source if self.trainer is None else source.to(self.trainer.strategy.root_device)

    def _place(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def mean_image_error(source: Source, items: int = 2_000) -> float:
    """Return the mean squared error of a model that answers each image with the mean of all, in [−1, 1].

    Args:
        source: the images.
        items: how many of them to look at, evenly spread.
    """
    every = source.all()
    images = to_unit_range(source.batch(every[:: max(1, len(every) // items)])[0])
    return images.var(0, correction=0).mean().item()


def _check_declarations(data: Any, owner: str) -> None:
    """Raise ConfigError if a data set, class or object, declares of itself what cannot be."""
    rules = {
        "name": Text,
        "classes": Annotated[Natural, WayOut("0 is for images without labels")],
        "epochs": Count,
        "features": Literal["digits", "inception"] | None,
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
    """Return three splits, or raise DataError for anything else that `load` may return."""
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
