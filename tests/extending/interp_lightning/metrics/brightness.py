"""How bright are the images of a path?"""

from typing import Any

from torch import Tensor

from interp_lightning.metrics.base import Means


class Brightness(Means):
    """Mean pixel. `update` takes images along paths, (pairs, steps, C, H, W); `compute` gives {"brightness": ()}."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("brightness", **kwargs)

    def update(self, paths: Tensor) -> None:
        self.add(paths.flatten(1).mean(1))
