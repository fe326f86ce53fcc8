"""Training steps that keep a GPU busy: the host does not wait for it, and can launch each step as a whole."""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.functional.devices import pinned
from interp_lightning.steps.guard import Turn

T = TypeVar("T")

WARM_UP = 3  # batches before the recording, in which libraries and optimizers set themselves up


class Recorded:
    """A step on batches of one size, done as it stands at first, then recorded, then replayed.

    A replay repeats on the same memory what was computed, but nothing of the Python that led to it. So a step must
    change in place what lasts, find in tensors what the host decides, and take the host's random numbers from `draw`.

    Args:
        step: what is done with a batch's images, (B, C, H, W).
        reseed: sets a generator up for a batch.
        count: called for each step that was replayed.
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
        self.under_way = False  # the recording

    def __call__(self, x: Tensor) -> list[Turn]:
        """Take a step.

        Raises:
            ConfigError: if it does what cannot be recorded.
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
        """A place on the device that is filled with what `make` makes before each replay."""
        numbers = torch.empty_like(make(generator), device=device)
        self._draws.append((make, generator, numbers))
        return numbers

    def _record(self, x: Tensor) -> None:
        self._x = x.clone()
        self.under_way = True
        # trainer.deterministic has new memory filled, with each replay anew, also the places of random numbers.
        memory: Any = torch.utils.deterministic
        fills, memory.fill_uninitialized_memory = memory.fill_uninitialized_memory, False
        try:
            self._replay, self._turns = record(lambda: self._step(self._x))
        except RuntimeError as error:
            raise ConfigError(
                f"`cuda_graphs` (=true) cannot record these training steps: {_first_line(error)}; nothing in them may "
                "wait for the GPU or be copied to it; or use cuda_graphs=false"
            ) from error
        finally:
            self.under_way = False
            memory.fill_uninitialized_memory = fills


def aside(work: Callable[[], T]) -> T:
    """Do work on a stream of its own, as what is to be recorded must be warmed up."""
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
    """Record work without doing it: → what does it as often as it is called, and what it returns, in one place."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # a DataLoader's threads may go on
        result = work()
    return graph.replay, result


def _first_line(error: BaseException) -> str:
    """What went wrong first: ending a recording that has failed is an error of its own."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return str(error).splitlines()[0]
