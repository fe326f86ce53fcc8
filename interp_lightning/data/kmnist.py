"""data=kmnist: ten cursive Japanese characters, in MNIST's format."""

from typing import ClassVar

from torchvision.datasets import KMNIST as TorchvisionKMNIST

from interp_lightning.data.base import Drawing
from interp_lightning.data.mnist import MNIST


class KMNIST(MNIST):
    """Kuzushiji-MNIST (Clanuwat et al. 2018, https://arxiv.org/abs/1812.01718), padded and split like MNIST.

    Only the packed files are known by their checksums, so these must be there: root/KMNIST/raw/*.gz.

    Args:
        batch_size, seed, root, fallback: see `MNIST`.
    """

    name: str = "kmnist"
    features: ClassVar[str | None] = "own"
    drawing: ClassVar[Drawing | None] = None

    torchvision: ClassVar[type[TorchvisionKMNIST]] = TorchvisionKMNIST
    packed: ClassVar[bool] = True
    files: ClassVar[dict[str, tuple[tuple[int, ...], str]]] = {
        name.removesuffix(".gz"): ((60_000 if "train" in name else 10_000, *((28, 28) if "idx3" in name else ())), md5)
        for name, md5 in TorchvisionKMNIST.resources
    }
