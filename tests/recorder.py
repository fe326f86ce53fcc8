"""What a CUDA graph does, on a CPU: records operations without doing them, and does them again on the same memory."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor
from torch.utils import deterministic
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from interp_lightning.steps import cuda_graphs

T = TypeVar("T")


def tensors(*trees: Any) -> Iterator[Tensor]:
    return (leaf for tree in trees for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


class Recording(TorchDispatchMode):
    """Notes every operation, the memory that it got, and what those that work in place have overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Callable[..., Any], Any, Any, Any]] = []
        self.overwritten: list[tuple[Tensor, Tensor]] = []
        self.allocated: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        assert not torch.is_inference_mode_enabled()
        written = [i for i, argument in enumerate(func._schema.arguments) if argument.is_write]
        names = [func._schema.arguments[i].name for i in written]
        for tensor in tensors([args[i] for i in written if i < len(args)], [kwargs[n] for n in names if n in kwargs]):
            self.overwritten.append((tensor, tensor.clone()))
        result = func(*args, **kwargs)
        given = {tensor.untyped_storage().data_ptr() for tensor in tensors(args, kwargs)}
        self.allocated += [t for t in tensors(result) if t.untyped_storage().data_ptr() not in given]
        fills = torch.are_deterministic_algorithms_enabled() and deterministic.fill_uninitialized_memory
        if "empty" not in func.overloadpacket.__name__ or fills:  # which computes nothing otherwise
            self.done.append((func, args, kwargs, result))
        return result


def record(work: Callable[[], T]) -> tuple[Callable[[], None], T]:
    """In place of `interp_lightning.steps.cuda_graphs.record`."""
    with Recording() as recording:
        result = work()
    with torch.no_grad():
        for tensor, before in reversed(recording.overwritten):
            tensor.copy_(before)

    @torch.no_grad()
    def replay() -> None:
        for tensor in recording.allocated:  # between replays it belongs to nobody
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)
        for func, args, kwargs, results in recording.done:
            again = func(*args, **kwargs)
            for before, now in zip(tensors(results), tensors(again), strict=True):
                if before.data_ptr() != now.data_ptr():
                    before.copy_(now)

    return replay, result


def install(patch: pytest.MonkeyPatch, record: Callable[..., Any] = record) -> None:
    """Put a recorder in the place of the GPU's: a CPU records no graphs, and has no stream to work aside."""
    patch.setattr(cuda_graphs, "record", record)
    patch.setattr(cuda_graphs, "aside", lambda work: work())
