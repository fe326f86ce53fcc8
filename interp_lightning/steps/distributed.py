"""Shard a global batch over several devices, and gather it again."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def shard(batch: Tensor, rank: int, world_size: int) -> Tensor:
    """Return this rank's shard of a global batch: a slice from the front and its mirror image from the back.

    So the i-th and the i-th last sample of the global batch stay together: reversing the local batch pairs the same
    samples as reversing the global one.

    Args:
        batch: (N, …), N a multiple of 2·world_size.
        rank, world_size: this device and the number of devices.

    Returns:
        (N / world_size, …).

    Example:
        >>> shard(torch.arange(8), rank=1, world_size=2)
        tensor([2, 3, 4, 5])
    """
    if world_size == 1:
        return batch
    half = len(batch) // (2 * world_size)
    end = len(batch) - rank * half
    return torch.cat([batch[rank * half : (rank + 1) * half], batch[end - half : end]])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        parts = [torch.empty_like(local) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, local.contiguous())
        halves = [part.chunk(2) for part in parts]
        return torch.cat([front for front, _ in halves] + [back for _, back in reversed(halves)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].contiguous()
        dist.all_reduce(total)
        return shard(total, dist.get_rank(), dist.get_world_size())


def gather(local: Tensor) -> Tensor:
    """Gather shards into the global batch, in its order: (B, …) on each rank → (B·world_size, …).

    The backward pass sums over ranks. With DDP's averaging, the gradient of a function of the global batch equals the
    gradient on one device, without a factor in the function.
    """
    if not _several():
        return local
    return _Gather.apply(local)


def everywhere(holds: Tensor) -> Tensor:
    """Return 1 if a flag is 1 on all devices, else 0: () → ()."""
    if not _several():
        return holds
    on_all = holds.float()
    dist.all_reduce(on_all, dist.ReduceOp.MIN)
    return on_all.to(holds.dtype)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
