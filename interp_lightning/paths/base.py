"""The interface of every path, and the paths that conf/path names."""

from abc import ABC, abstractmethod
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from interp_lightning.parameters import check_choice, check_integer
from interp_lightning.system.conf import CONF, build, choices, read

Codes = Float[Tensor, "B d"]
Positions = Float[Tensor, " T"] | Float[Tensor, "B T"]
Points = Float[Tensor, "B T d"]


class Path(ABC):
    """A way from one code to another."""

    @abstractmethod
    def __call__(self, z_a: Codes, z_b: Codes, t: Positions) -> Points:
        """Return the codes at positions t of the paths from z_a to z_b.

        Args:
            z_a, z_b: ends of the paths.
            t: positions in [0, 1], the same for all paths or some for each; 0 gives z_a, 1 gives z_b.
        """

    def points(self, z_a: Codes, z_b: Codes, steps: int) -> Float[Tensor, "B {steps} d"]:
        """Return the codes at `steps` equidistant positions, both ends included.

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
