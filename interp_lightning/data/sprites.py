"""data=sprites: procedural shapes in colour, whose interpolations can be measured against known factors."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from interp_lightning.data.base import Fallback, ImageData
from interp_lightning.data.sources import Batch, Source
from interp_lightning.functional.sprites import SHAPE, SHAPES, SIZE, render_sprites
from interp_lightning.parameters import Count, Seed

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Factors(Source):
    """Sprites by their factors. Training draws new ones every epoch; evaluation has fixed ones. Labels are the shapes.

    Example:
        >>> source = Factors(10, seed=0)
        >>> images, labels = source.batch(source.all())
        >>> images.shape, labels.shape
        (torch.Size([10, 3, 32, 32]), torch.Size([10]))
    """

    number: int
    seed: int
    size: int = SIZE
    device: torch.device = CPU  # that renders them

    def __len__(self) -> int:
        return self.number

    def epoch(self, generator: torch.Generator) -> Tensor:
        shapes = torch.randint(len(SHAPES), (self.number, 1), generator=generator)
        others = torch.rand(self.number, 5, generator=generator, dtype=torch.float64)
        return torch.cat([shapes, others], dim=1).to(self.device)

    def all(self) -> Tensor:
        return self.epoch(torch.Generator().manual_seed(self.seed))

    def to(self, device: torch.device) -> Self:
        return self if device.type == "mps" else replace(self, device=device)  # which lacks double precision

    def batch(self, items: Tensor) -> Batch:
        return render_sprites(items, self.size), items[:, SHAPE].long()


class Sprites(ImageData):
    """Discs, squares, triangles and crosses on black, uniform in hue, size, rotation and position: 65,536 per epoch.

    Args:
        batch_size, seed, fallback: see `ImageData`.
        image_size: height and width in pixels.
    """

    name: str = "sprites"
    image_shape: ClassVar[tuple[int, int, int]] = (3, SIZE, SIZE)
    classes: ClassVar[int] = len(SHAPES)
    epochs: ClassVar[int] = 5
    features: ClassVar[str | None] = None  # metrics.sprites measures them by their factors

    def __init__(
        self, batch_size: Count, seed: Seed = 0, fallback: Fallback = None, image_size: Literal[32, 64] = 32
    ) -> None:
        super().__init__(batch_size, seed, fallback)
        self.image_shape = (3, image_size, image_size)  # type: ignore[misc]  # this object's own
        self.image_size = image_size

    @property
    def class_names(self) -> tuple[str, ...]:
        return SHAPES

    def load(self) -> tuple[Source, Source, Source]:
        size = self.image_size
        return Factors(65_536, seed=0, size=size), Factors(2_000, seed=1, size=size), Factors(2_000, seed=2, size=size)
