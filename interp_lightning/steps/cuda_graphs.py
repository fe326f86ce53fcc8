"""Record training steps as CUDA graphs, so that the host launches each step as a whole."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.functional.devices import pinned, sent
from interp_lightning.steps.guard import Turn

T = TypeVar("T")

WARM_UP = 3  # batches before the recording: libraries and optimizers initialise their state


class Recorded:
    """A step on batches of one size: executed for the first batches, then recorded, then replayed.

    A replay repeats the kernels on the same memory, but no Python. So a step must update state in place, read the
    host's decisions from tensors, and take the host's random numbers from `draw`. The recording shares its own memory
    out among its kernels, so what the host writes before a replay lies in memory from before the recording.

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
        self._recording = False
        self._shape: torch.Size | None = None  # of the last batch of the warm-up
        self._drawn: list[Tensor] = []  # of that batch; a replay gets its random numbers in their memory
        self._draws: list[tuple[Callable[[torch.Generator], Tensor], torch.Generator]] = []

    def __call__(self, x: Tensor) -> list[Turn]:
        """Take a step.

        Raises:
            ConfigError: the step cannot be recorded.
        """
        if self._replay is None and (self._warm_up > 0 or x.shape != self._shape):
            self._warm_up -= 1
            self._shape, self._drawn = x.shape, []
            return aside(lambda: self._step(x))
        if self._replay is None:
            self._record(x)
        elif x.shape == self._x.shape:
            self._count()
        else:
            return self._step(x)
        assert self._replay is not None
        self._x.copy_(x)
        for generator in {id(generator): generator for _, generator in self._draws}.values():
            self._reseed(generator)
        for (make, generator), numbers in zip(self._draws, self._drawn, strict=True):
            numbers.copy_(pinned(make(generator), numbers.device), non_blocking=True)
        self._replay()
        return [turn.clone() for turn in self._turns]

    def draw(self, make: Callable[[torch.Generator], Tensor], generator: torch.Generator, device: Any) -> Tensor:
        """Return the random numbers that `make` draws; before each replay the same memory gets new ones."""
        if self._recording:
            self._draws.append((make, generator))
            return self._drawn[len(self._draws) - 1]
        numbers = sent(make(generator), device)
        if self._replay is None:
            self._drawn.append(numbers)
        return numbers

    def _record(self, x: Tensor) -> None:
        self._x = x.clone()
        self._recording = True
        try:
            self._replay, self._turns = record(lambda: self._step(self._x))
        except RuntimeError as error:
            raise ConfigError(
                f"`cuda_graphs` (=true) cannot record these training steps: {_first_line(error)}; remove host syncs "
                "and copies to the GPU from them, or use cuda_graphs=false"
            ) from error
        finally:
            self._recording = False


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
