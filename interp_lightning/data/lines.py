"""data=lines: the procedural benchmark of ACAI, whose interpolations can be judged exactly."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor
from torchmetrics import Metric

from interp_lightning.data.base import Batch, ImageData, Source

SIZE = 32
SECTORS = 10
CPU = torch.device("cpu")


def render_lines(angles: Tensor, size: int = SIZE) -> Tensor:
    """Lines of width 2 from the centre outwards, size/2 − 1 long, one per angle.

    Args:
        angles: radians, counter-clockwise from the right, (N,).
        size: height and width in pixels.

    Returns:
        (N, 1, size, size) float32, −1 background, 1 line. Source: Berthelot et al. 2018, section 3.1; pixel for
        pixel the published renderer's, which measures the width along the minor axis and anti-aliases the end of
        a line only towards the left and the top.
    """
    centre = size / 2
    angles = angles.double()
    x = centre + (centre - 1) * angles.cos() - centre
    y = centre + (centre - 1) * (-angles).sin() - centre
    flat = y.abs() < x.abs()  # the major axis is horizontal
    major, minor = torch.where(flat, x, y), torch.where(flat, y, x)
    first, last = centre + major.clamp(max=0), centre + major.clamp(min=0)

    rows = torch.arange(size, dtype=torch.float64, device=angles.device)  # along the major axis
    weight = (rows[None] + 1 - first[:, None]).clamp(0, 1) * (rows[None] < last[:, None])  # (N, size)
    middle = centre + (rows[None] - 0.5 - centre) * (minor / major)[:, None]  # of the line in each row, (N, size)
    coverage = (1.5 - (rows + 0.5 - middle[:, :, None]).abs_()).clamp_(0, 1)  # (N, size, size)
    images = coverage.mul_(weight[:, :, None]).mul_(2).sub_(1).float()
    return torch.where(flat[:, None, None], images.mT, images)[:, None]


@dataclass(frozen=True)
class Angles(Source):
    """Lines by their angle. Training draws new angles every epoch, evaluation has fixed ones.

    Labels are the ten equal sectors of the circle, for the probe, the clustering and the colours of figures.
    """

    number: int
    seed: int
    device: torch.device = CPU  # where they are rendered

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
    """Lines at angles uniform over the circle, rendered as they are needed: 65,536 an epoch, as ACAI evaluates."""

    name: str = "lines"
    image_shape: ClassVar[tuple[int, int, int]] = (1, SIZE, SIZE)
    classes: ClassVar[int] = SECTORS
    epochs: ClassVar[int] = 5

    def path_metrics(self) -> list[Metric]:
        from interp_lightning.metrics.lines import LineEvaluation  # which renders lines

        return [LineEvaluation(sync_on_compute=False)]

    def load(self) -> tuple[Source, Source, Source]:
        return Angles(65_536, seed=0), Angles(2_000, seed=1), Angles(2_000, seed=2)
