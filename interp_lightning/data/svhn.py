"""data=svhn: house numbers in colour."""

from typing import ClassVar

import torch
from torchvision.datasets import SVHN as TorchvisionSVHN

from interp_lightning.data.downloaded import Downloaded, held_out
from interp_lightning.data.sources import InMemory, Source


class SVHN(Downloaded):
    """Street View House Numbers (Netzer et al. 2011), cropped digits: (3, 32, 32).

    Official test set, 5,000 training images for validation. http://ufldl.stanford.edu/housenumbers

    Args:
        batch_size, seed, root, fallback: see `Downloaded`.
    """

    name: str = "svhn"
    image_shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)
    classes: ClassVar[int] = 10
    epochs: ClassVar[int] = 4
    features: ClassVar[str | None] = "own"
    inside: ClassVar[str] = "svhn"
    needed: ClassVar[str] = "train_32x32.mat and test_32x32.mat"

    def load(self) -> tuple[Source, Source, Source]:
        return *held_out(self._part("train")), self._part("test")

    def _part(self, split: str) -> InMemory:
        found = self.opened(lambda download: TorchvisionSVHN(self.folder, split, download=download))
        return InMemory(torch.from_numpy(found.data).contiguous(), torch.from_numpy(found.labels))
