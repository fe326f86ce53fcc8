"""A small judge for images of any size and number of channels."""

import torch
from torch import Tensor, nn

from interp_lightning.functional.digests import digest
from interp_lightning.metrics.features import Judge, principal_components

WIDTH, HIDDEN = 64, 64
GRID = 4  # cells of the last maps to a side
STEM_FROM = 64  # images of this size or more are halved first, so that larger ones cost little more


class OwnJudge(Judge):
    """Images (N, C, H, W) in [−1, 1] → features (N, dimension), and logits (N, classes) if there are classes.

    As in the digit network, features are principal components of the last convolution's maps: the layer before the
    logits contracts each class too much.

    Args:
        image_shape: (C, H, W).
        classes: number of labels; 0 for a judge without logits.
        dimension: number of features.
    """

    def __init__(self, image_shape: tuple[int, int, int], classes: int, dimension: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.dimension, self.classes = dimension, classes
        size, widths = max(height, width), [WIDTH // 2, WIDTH, WIDTH]
        while size >= STEM_FROM * 2 ** (len(widths) - 3):
            widths.insert(0, WIDTH // 4)
        layers: list[nn.Module] = []
        for out in widths:
            stride = 2 if size > GRID else 1
            layers += [nn.Conv2d(channels, out, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
            channels, size = out, -(-size // stride)
        cells = min(GRID, height), min(GRID, width)
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(cells), nn.Flatten())
        maps = WIDTH * cells[0] * cells[1]
        hidden = nn.Linear(maps, HIDDEN, bias=False)
        self.head = nn.Sequential(hidden, nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, classes or HIDDEN))
        self.register_buffer("mean", torch.zeros(maps))
        self.register_buffer("components", torch.zeros(maps, dimension))
        self.to(memory_format=torch.channels_last)

    mean: Tensor
    components: Tensor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        maps = self.body(x.clamp(-1, 1))
        return (maps - self.mean) @ self.components, self.head(maps) if self.classes else None

    @property
    def name(self) -> str:
        """Its kind, and the first 8 hexadecimal digits of the digest of its weights."""
        return f"own-{digest(self.state_dict()).hex()[:8]}"

    @torch.no_grad()
    def fit_components(self, maps: Tensor) -> None:
        """Make the features the principal components of maps (n, …), of variance 1 on average."""
        mean, components = principal_components(maps, self.dimension)
        self.mean.copy_(mean)
        self.components.copy_(components)
