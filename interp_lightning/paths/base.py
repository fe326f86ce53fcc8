"""The interface of every path, and the paths that conf/path names."""

from abc import ABC, abstractmethod
from functools import cache

import torch
from torch import Tensor

from interp_lightning.parameters import check_choice, check_integer
from interp_lightning.system.conf import CONF, build, choices, read


class Path(ABC):
    """A way from one code to another."""

    @abstractmethod
    def __call__(self, z_a: Tensor, z_b: Tensor, t: Tensor) -> Tensor:
        """Return the codes at positions t of the paths from z_a to z_b.

        Args:
            z_a, z_b: ends of the paths, (B, d).
            t: positions in [0, 1], (T,) for all paths or (B, T) for each; 0 gives z_a, 1 gives z_b.

        Returns:
            (B, T, d).
        """

    def points(self, z_a: Tensor, z_b: Tensor, steps: int) -> Tensor:
        """Return the codes at `steps` equidistant positions, both ends included: (B, d), (B, d) → (B, steps, d).

        Raises:
            ConfigError: `steps` is below 2.

        Example:
            >>> named("lerp").points(torch.tensor([[0.0]]), torch.tensor([[1.0]]), 3)[0, :, 0]
            tensor([0.0000, 0.5000, 1.0000])
        """
        check_integer("steps", steps, least=2)
        return self(z_a, z_b, torch.linspace(0, 1, steps, device=z_a.device, dtype=z_a.dtype))


def named(how: str) -> Path:
    """Return the path that conf/path/`how`.yaml describes.

    Raises:
        ConfigError: there is no such file.
    """
    return _build(check_choice("how", how, choices("path")))


@cache
def _build(how: str) -> Path:
    return build(read(CONF / "path" / f"{how}.yaml"))
