"""Splits of a data set: in memory, or read by a DataLoader."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from interp_lightning.data.contract import UNLABELLED, Contract, spread
from interp_lightning.data.sentences import theirs
from interp_lightning.errors import DataError
from interp_lightning.parameters import check_integer

Batch = tuple[Tensor, Tensor]  # images (B, C, H, W), uint8 or in [−1, 1]; labels (B,), all −1 if there are none


class Source(ABC):
    """A split: a number of items that batches are made of."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def epoch(self, generator: torch.Generator) -> Tensor:
        """Return the items of a training epoch in order, (N, …). All randomness comes from `generator`."""

    @abstractmethod
    def all(self) -> Tensor:
        """Return the items of an evaluation, (N, …): always the same, in the same order."""

    @abstractmethod
    def batch(self, items: Tensor) -> Batch:
        """Return images and labels of items, (n, …)."""

    def batches(self, items: Iterable[Tensor]) -> Iterator[Batch]:
        """Yield a batch for each tensor of items."""
        return map(self.batch, items)

    def to(self, device: torch.device) -> Self:
        """Return the same split for use on a device, moved there if that makes sense."""
        return self

    def checked(self, contract: Contract) -> tuple["Source", Contract]:
        """Check a batch of evenly spaced items before training.

        Returns:
            The split to use, and the contract, completed by the type and labels that were found.

        Raises:
            DataError: the split violates the contract.
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
        """Return the split on the device, unless it would take more than half of the free memory there."""
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
    """A torch.utils.data.Dataset too large for memory, read by a DataLoader.

    Args:
        dataset: returns an image (C, H, W), uint8 or in [−1, 1], and its label by index; without labels the image only.
        workers: number of processes that prefetch.
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
        # The system's default start method: joblib's, in a job of a sweep, cannot start a DataLoader's processes.
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
        """Check at most 64 evenly spaced items, including first and last; check each other item when it is read."""
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
    """A user's data set that checks each item when it is read.

    An item that violates the contract is returned as a DataError, and its batch raises it: raised in a prefetching
    process, it would reach the user as a traceback of that process.
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
        """Return an item.

        Raises:
            DataError: it violates the contract, or cannot be read.
        """
        with theirs(f"{self.contract.owner}: reading {self.contract.split} item {index}"):
            return self.contract.check_item(self.dataset[index], index)


def _collate(items: list[Any]) -> Batch | DataError:
    """Return items as a batch, or the first error among them."""
    return next((item for item in items if isinstance(item, DataError)), None) or default_collate(items)


def _whole(batch: Batch | DataError) -> Batch:
    """Return a batch, or raise the error in its place."""
    if isinstance(batch, DataError):
        raise batch
    return batch
