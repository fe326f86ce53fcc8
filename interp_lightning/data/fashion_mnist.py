"""data=fashion_mnist: ten kinds of garments, in MNIST's format."""

from pathlib import Path
from typing import ClassVar

from torchvision.datasets import FashionMNIST as TorchvisionFashionMNIST

from interp_lightning.data.base import Drawing
from interp_lightning.data.mnist import MNIST


class FashionMNIST(MNIST):
    """Fashion-MNIST (Xiao et al. 2017, https://arxiv.org/abs/1708.07747), padded and split like MNIST.

    The files are looked for in root/FashionMNIST/raw, then where Debian's package dataset-fashion-mnist puts them, and
    downloaded last.

    Args:
        batch_size, seed, root, fallback: see `MNIST`.
    """

    name: str = "fashion_mnist"
    features: ClassVar[str | None] = "own"
    drawing: ClassVar[Drawing | None] = None

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.torchvision.classes)

    torchvision: ClassVar[type[TorchvisionFashionMNIST]] = TorchvisionFashionMNIST
    installed: ClassVar[Path | None] = Path("/usr/share/datasets/fashion-mnist")
    files: ClassVar[dict[str, tuple[tuple[int, ...], str]]] = {
        "train-images-idx3-ubyte": ((60_000, 28, 28), "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
        "train-labels-idx1-ubyte": ((60_000,), "9018921c3c673c538a1fc5bad174d6f9"),
        "t10k-images-idx3-ubyte": ((10_000, 28, 28), "8181f5470baa50b63fa0f6fddb340f0a"),
        "t10k-labels-idx1-ubyte": ((10_000,), "15d484375f8d13e6eb1aabb0c3f46965"),
    }
