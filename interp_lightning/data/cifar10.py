"""data=cifar10: ten kinds of animals and vehicles in colour."""

from typing import ClassVar

import torch
from torchvision.datasets import CIFAR10 as TorchvisionCIFAR10

from interp_lightning.data.downloaded import Downloaded, held_out
from interp_lightning.data.sources import InMemory, Source


class CIFAR10(Downloaded):
    """CIFAR-10 (Krizhevsky 2009), (3, 32, 32): official test set, 5,000 training images for validation.

    https://www.cs.toronto.edu/~kriz/cifar.html

    Args:
        batch_size, seed, root, fallback: see `Downloaded`.
    """

    name: str = "cifar10"
    image_shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    classes: ClassVar[int] = 10
    epochs: ClassVar[int] = 5
    features: ClassVar[str | None] = "own"
    inside: ClassVar[str] = "cifar10"
    needed: ClassVar[str] = "cifar-10-python.tar.gz"

    def load(self) -> tuple[Source, Source, Source]:
        return *held_out(self._part(train=True)), self._part(train=False)

    def _part(self, train: bool) -> InMemory:
        found = self.opened(lambda download: TorchvisionCIFAR10(self.folder, train, download=download))
        return InMemory(torch.from_numpy(found.data).movedim(3, 1).contiguous(), torch.tensor(found.targets))
