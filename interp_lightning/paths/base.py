"""The interface of every path, and the paths that conf/path names."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache, cached_property, partial
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.parameters import Configurable, check_choice, check_integer
from interp_lightning.system.conf import CONF, build, choices, read

log = logging.getLogger(__name__)

T = TypeVar("T")
Codes = Float[Tensor, "B d"]
Positions = Float[Tensor, " T"] | Float[Tensor, "B T"]
Points = Float[Tensor, "B T d"]
Course = Callable[[Tensor], Tensor]  # positions (T,) or (B, T) in [0, 1] on B paths → points (B, T, d)


class Store:
    """Where fitted paths are kept. This one keeps nothing."""

    def use(self, path: "Path", make: Callable[[Mapping[str, Tensor]], T]) -> T:
        """Return what `make` returns for the state that was kept, or for an empty one if it cannot use that."""
        if state := self.load(path):
            try:
                if not all(tensor.isfinite().all() for tensor in state.values()):
                    raise ValueError("some numbers are not finite")
                return make(state)
            except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
                reason = " ".join(str(error).split())[:100]
                log.warning(f"What was kept of how={path.how} cannot be used ({reason}); it is made again")
        return make({})

    def load(self, path: "Path") -> dict[str, Tensor]:
        """Return what was kept of a path with the same settings, for the same model; empty if there is nothing."""
        return {}

    def save(self, path: "Path", state: Mapping[str, Tensor]) -> None:
        """Keep a path's state, finished or not; replace what was kept before."""


def itself(z: Tensor) -> Tensor:
    return z


class Space:
    """What a path may know of a model before it is fitted.

    Args:
        codes: of training images, (N, d), or a function that encodes them when they are first asked for.
        look: codes (n, d) → a judge's features (n, f) of the decoded images; without a judge, pixels.
        decode: codes (n, d) → pixels of the decoded images (n, p).
        store: where to keep what took long.
        judged: whether there is a judge.
    """

    def __init__(
        self,
        codes: Tensor | Callable[[], Tensor],
        look: Callable[[Tensor], Tensor] = itself,
        decode: Callable[[Tensor], Tensor] = itself,
        store: Store | None = None,
        judged: bool = True,
    ) -> None:
        self.look, self.decode, self.store, self.judged = look, decode, store or Store(), judged
        self._codes = codes

    @cached_property
    def codes(self) -> Float[Tensor, "N d"]:
        """The codes of the training images."""
        return (self._codes() if callable(self._codes) else self._codes).detach()


class Path(Configurable, ABC, group="path"):
    """A way from one code to another."""

    fits: ClassVar[bool] = False  # it must know a model's codes first, by `fit`
    slow: ClassVar[bool] = False  # it takes minutes, so that an evaluation measures it only if asked
    samples: ClassVar[bool] = False  # it also draws codes, by `sample`
    fitted: bool = False  # `fit` sets it, on the path that it returns
    how: str = ""  # its name and settings in conf/path; a path built in Python has none, and is not kept
    settings: Mapping[str, Any] = MappingProxyType({})

    def fit(self, space: Space) -> "Path":
        """Return this path for the codes of a model; most paths are the same for every model."""
        return self

    def at_hand(self, store: Store) -> bool:
        """Return True if `fit` and a path between two codes take seconds, perhaps thanks to what a store has kept."""
        return not self.slow or bool(store.load(self))

    def sample(self, noise: Codes) -> Codes:
        """Turn standard normal noise into codes, if the path `samples`."""
        raise NotImplementedError

    @abstractmethod
    def __call__(self, z_a: Codes, z_b: Codes, t: Positions) -> Points:
        """Return the codes at positions t of the paths from z_a to z_b.

        Args:
            z_a, z_b: ends of the paths.
            t: positions in [0, 1], the same for all paths or some for each; 0 gives z_a, 1 gives z_b.
        """

    def between(self, z_a: Codes, z_b: Codes) -> Course:
        """Return the paths as a function of position, for paths that are costly to find."""
        return partial(self, z_a, z_b)

    def points(self, z_a: Codes, z_b: Codes, steps: int) -> Float[Tensor, "B {steps} d"]:
        """Return the codes at `steps` equidistant positions, both ends included.

        Raises:
            ConfigError: `steps` is below 2.

        Example:
            >>> named("lerp").points(torch.tensor([[0.0]]), torch.tensor([[1.0]]), 3)[0, :, 0]
            tensor([0.0000, 0.5000, 1.0000])
        """
        return self(z_a, z_b, equidistant(steps, z_a))


def equidistant(steps: int, like: Tensor) -> Float[Tensor, " {steps}"]:
    """Return `steps` positions from 0 to 1, both included, of a tensor's type and device.

    Raises:
        ConfigError: `steps` is below 2.
    """
    check_integer("steps", steps, least=2)
    return torch.linspace(0, 1, steps, device=like.device, dtype=like.dtype)


def named(how: str) -> Path:
    """Return the path that conf/path/`how`.yaml describes.

    Raises:
        ConfigError: there is no such file.
    """
    return _build(check_choice("how", how, choices("path")))


def ready(how: str | Path) -> Path:
    """Return a path that can be used: one that was fitted, or one that needs not be.

    Args:
        how: the path's name, or the path.

    Raises:
        ConfigError: there is no such path, or it must be fitted to a model first.
    """
    path = named(how) if isinstance(how, str) else how
    if path.fits and not path.fitted:
        name = path.how or type(path).__name__
        raise ConfigError(
            f"`how` (={name}) must know the codes of the training images first; give the path that its fit(space) or "
            f"Evaluation().path('{path.how or 'graph'}', model, data) returns, or use lerp"
        )
    return path


@cache
def _build(how: str) -> Path:
    settings = read(CONF / "path" / f"{how}.yaml")
    path: Path = build(settings)
    path.how, path.settings = how, settings
    return path
