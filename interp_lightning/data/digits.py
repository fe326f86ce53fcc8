"""data=digits: the handwritten digits that scikit-learn ships. Needs no download."""

from typing import ClassVar

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn.functional import pad
from torchvision.transforms.v2.functional import InterpolationMode, resize

from interp_lightning.data.base import Drawing, ImageData
from interp_lightning.data.sources import InMemory, Source

SPLIT_SEED = 0  # the split belongs to the data set, not to the run


class Digits(ImageData):
    """1,797 digits of 8 × 8 pixels (UCI optdigits' test half), resized to 28 × 28 and padded like MNIST's to 32 × 32.

    Stratified by class: 1,257 for training, 180 for validation, 360 for testing.
    """

    name: str = "digits"
    image_shape: ClassVar[tuple[int, int, int]] = (1, 32, 32)
    classes: ClassVar[int] = 10
    epochs: ClassVar[int] = 50
    features: ClassVar[str | None] = "digits"
    drawing: ClassVar[Drawing | None] = Drawing(box=28, by_mass=False)

    def load(self) -> tuple[Source, Source, Source]:
        bunch = load_digits()
        small = torch.from_numpy(bunch.images).float()[:, None] * (255 / 16)  # (N, 1, 8, 8), 0…16 → 0…255
        images = pad(resize(small, [28, 28], InterpolationMode.BICUBIC).round().clamp(0, 255).to(torch.uint8), [2] * 4)
        labels = torch.from_numpy(bunch.target).long()

        rest, test = train_test_split(range(len(labels)), test_size=360, stratify=labels, random_state=SPLIT_SEED)
        train, val = train_test_split(rest, test_size=180, stratify=labels[rest], random_state=SPLIT_SEED)
        return tuple(InMemory(images[part], labels[part]) for part in (train, val, test))  # type: ignore[return-value]
