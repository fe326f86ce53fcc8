"""Learning-rate schedules: the factor on every learning rate, as a pure function of the epoch."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

from interp_lightning.config.check import check


class Schedule(ABC):
    """A factor on every learning rate. Stateless, so that a resumed run continues exactly where it stopped."""

    @abstractmethod
    def __call__(self, epoch: float, epochs: int) -> float:
        """Return the factor at `epoch` (fractional, 0 at the start) of a run of `epochs`."""


class Constant(Schedule):
    """No schedule."""

    def __call__(self, epoch: float, epochs: int) -> float:
        return 1.0


class Cosine(Schedule):
    """Half a cosine from 1 to `final` (Loshchilov and Hutter 2017, eq. 5, without restarts).

    Args:
        final: factor at the end.
    """

    def __init__(self, final: float = 0.0) -> None:
        self.final = check("schedule.final", final)

    def __call__(self, epoch: float, epochs: int) -> float:
        done = min(epoch / epochs, 1.0)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2


class PiecewiseConstant(Schedule):
    """The factor of the latest epoch in `factors` that has started, 1 before the first.

    Args:
        factors: by the epoch from which each applies.
    """

    def __init__(self, factors: Mapping[int, float]) -> None:
        self.factors = dict(check("schedule.factors", factors))

    def __call__(self, epoch: float, epochs: int) -> float:
        begun = [start for start in self.factors if start <= epoch]
        return self.factors[max(begun)] if begun else 1.0
