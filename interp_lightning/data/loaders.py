"""Batches of a split: the order of a training epoch follows from its number; evaluation is in order."""

from collections.abc import Iterator

import numpy as np
import torch

from interp_lightning.data.sources import Batch, Source
from interp_lightning.steps.distributed import shard

EVAL_BATCH = 500


class TrainingLoader:
    """Full batches of an epoch, each sliced for this rank. Its state is the epoch and the next batch.

    Args:
        source: the split.
        batch_size: images per batch, on all devices together.
        seed: of the order.
        rank, world_size: this device among those that share a batch.
        limit: share (float) or number (int) of an epoch's batches after which the consumer starts the next epoch.
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
        # A finished epoch is not resumed: the next iteration starts a new one.
        self.resuming = not state["over"]


class EvaluationLoader:
    """Every item once, in order, in batches of nearly equal size, so that none has only a handful of images."""

    def __init__(self, source: Source, rank: int, world_size: int) -> None:
        self.source, self.rank, self.world_size = source, rank, world_size

    def __len__(self) -> int:
        return -(-len(self.source) // (EVAL_BATCH * self.world_size))

    def __iter__(self) -> Iterator[Batch]:
        if not len(self):
            return
        parts = self.source.all().tensor_split(len(self) * self.world_size)
        yield from self.source.batches(parts[self.rank :: self.world_size])
