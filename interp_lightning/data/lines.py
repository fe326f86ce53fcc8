"""data=lines: the procedural benchmark of ACAI, whose interpolations can be measured exactly."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from interp_lightning.data.base import ImageData
from interp_lightning.data.sources import Batch, Source
from interp_lightning.functional.lines import SIZE, render_lines

SECTORS = 10
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Angles(Source):
    """Lines by their angle. Training draws new angles every epoch; evaluation has fixed ones.

    Labels are ten equal sectors of the circle, for the probe, the clustering and the colours of figures.
    """

    number: int
    seed: int
    device: torch.device = CPU  # that renders them

    def __len__(self) -> int:
        return self.number

    def epoch(self, generator: torch.Generator) -> Tensor:
        return (2 * math.pi * torch.rand(self.number, generator=generator, dtype=torch.float64)).to(self.device)

    def all(self) -> Tensor:
        return self.epoch(torch.Generator().manual_seed(self.seed))

    def to(self, device: torch.device) -> Self:
        return self if device.type == "mps" else replace(self, device=device)  # which lacks double precision

    def batch(self, items: Tensor) -> Batch:
        return render_lines(items), (items * (SECTORS / (2 * math.pi))).long()


class Lines(ImageData):
    """Lines at angles uniform over the circle, rendered when needed: 65,536 per epoch, as in ACAI's evaluation."""

    name: str = "lines"
    image_shape: ClassVar[tuple[int, int, int]] = (1, SIZE, SIZE)
    classes: ClassVar[int] = SECTORS
    epochs: ClassVar[int] = 5
    features: ClassVar[str | None] = None  # metrics.lines measures them exactly

    def load(self) -> tuple[Source, Source, Source]:
        return Angles(65_536, seed=0), Angles(2_000, seed=1), Angles(2_000, seed=2)
