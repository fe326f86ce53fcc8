"""Record training steps as CUDA graphs, so that the host launches each step as a whole."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.functional.devices import pinned
from interp_lightning.steps.guard import Turn

T = TypeVar("T")

WARM_UP = 3  # batches before the recording: libraries and optimizers initialise their state


class Recorded:
    """A step on batches of one size: executed for the first batches, then recorded, then replayed.

    A replay repeats the kernels on the same memory, but no Python. So a step must update state in place, read the
    host's decisions from tensors, and take the host's random numbers from `draw`.

    Args:
        step: the step on a batch of images, (B, C, H, W).
        reseed: seeds a generator for a batch.
        count: called for each replayed step.
    """

    def __init__(
        self,
        step: Callable[[Tensor], list[Turn]],
        reseed: Callable[[torch.Generator], Any],
        count: Callable[[], None],
    ) -> None:
        self._step, self._reseed, self._count = step, reseed, count
        self._warm_up = WARM_UP
        self._replay: Callable[[], None] | None = None
        self._draws: list[tuple[Callable[[torch.Generator], Tensor], torch.Generator, Tensor]] = []
        self.under_way = False  # recording now

    def __call__(self, x: Tensor) -> list[Turn]:
        """Take a step.

        Raises:
            ConfigError: the step cannot be recorded.
        """
        if self._warm_up:
            self._warm_up -= 1
            return aside(lambda: self._step(x))
        if self._replay is None:
            self._record(x)
        elif x.shape == self._x.shape:
            self._count()
        else:
            return self._step(x)
        assert self._replay is not None
        self._x.copy_(x)
        for generator in {id(generator): generator for _, generator, _ in self._draws}.values():
            self._reseed(generator)
        for make, generator, numbers in self._draws:
            numbers.copy_(pinned(make(generator), numbers.device), non_blocking=True)
        self._replay()
        return [turn.clone() for turn in self._turns]

    def draw(self, make: Callable[[torch.Generator], Tensor], generator: torch.Generator, device: Any) -> Tensor:
        """Return memory on the device that is filled by `make` before each replay."""
        numbers = torch.empty_like(make(generator), device=device)
        self._draws.append((make, generator, numbers))
        return numbers

    def _record(self, x: Tensor) -> None:
        self._x = x.clone()
        self.under_way = True
        # trainer.deterministic fills new memory, in each replay again, also the memory of random numbers.
        memory: Any = torch.utils.deterministic
        fills, memory.fill_uninitialized_memory = memory.fill_uninitialized_memory, False
        try:
            self._replay, self._turns = record(lambda: self._step(self._x))
        except RuntimeError as error:
            raise ConfigError(
                f"`cuda_graphs` (=true) cannot record these training steps: {_first_line(error)}; remove host syncs "
                "and copies to the GPU from them, or use cuda_graphs=false"
            ) from error
        finally:
            self.under_way = False
            memory.fill_uninitialized_memory = fills


def aside(work: Callable[[], T]) -> T:
    """Do work on a side stream, as the warm-up of a recording requires."""
    stream, current = _side_stream(), torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        result = work()
    current.wait_stream(stream)
    return result


@cache
def _side_stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()


def record(work: Callable[[], T]) -> tuple[Callable[[], None], T]:
    """Record work without executing it; return a function that replays it, and its result, which replays overwrite."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # a DataLoader's threads may continue
        result = work()
    return graph.replay, result


def _first_line(error: BaseException) -> str:
    """Return the first line of the first error: ending a failed recording raises another."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return str(error).splitlines()[0]
