"""Learning-rate schedules: the factor on every learning rate, as a pure function of the epoch."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from interp_lightning.parameters import Configurable, Natural, WayOut, Weight


class Schedule(Configurable, ABC, group="schedule"):
    """A stateless schedule, so that a resumed run continues exactly.

    Example:
        >>> class Warmup(Schedule):
        ...     def __call__(self, epoch, epochs):
        ...         return min(1.0, epoch / 5)
        >>> Warmup()(epoch=2.5, epochs=100)
        0.5
    """

    @abstractmethod
    def __call__(self, epoch: float, epochs: int) -> float:
        """Return the factor at an epoch of a run.

        Args:
            epoch: fractional, 0 at the start.
            epochs: length of the run.
        """


class Constant(Schedule):
    """The factor 1."""

    def __call__(self, epoch: float, epochs: int) -> float:
        return 1.0


class Cosine(Schedule):
    """Half a cosine from 1 to `final`; Loshchilov and Hutter 2017, eq. 5, without restarts.

    Args:
        final: factor at the end of the run.

    Example:
        >>> [round(Cosine()(epoch, epochs=10), 3) for epoch in (0, 5, 10)]
        [1.0, 0.5, 0.0]
    """

    def __init__(self, final: Weight = 0.0) -> None:
        self.final = final

    def __call__(self, epoch: float, epochs: int) -> float:
        done = min(epoch / epochs, 1.0)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2


class PiecewiseConstant(Schedule):
    """The factor of the latest of some epochs that has begun, and 1 before the first.

    Args:
        factors: factor by epoch.

    Example:
        >>> [PiecewiseConstant({30: 0.5, 50: 0.2})(epoch, epochs=100) for epoch in (29.5, 30, 60)]
        [1.0, 0.5, 0.2]
    """

    def __init__(
        self,
        factors: Annotated[
            Mapping[Natural, Weight], Field(min_length=1), WayOut("add one by +schedule.factors={10: 0.5}")
        ],
    ) -> None:
        self.factors = dict(factors)

    def __call__(self, epoch: float, epochs: int) -> float:
        begun = [start for start in self.factors if start <= epoch]
        return self.factors[max(begun)] if begun else 1.0
