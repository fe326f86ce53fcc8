"""Images as tensors."""

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor


def to_unit_range(images: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Convert uint8 images to [−1, 1]; return others in single precision.

    Example:
        >>> to_unit_range(torch.tensor([0, 255], dtype=torch.uint8))
        tensor([-1.,  1.])
    """
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images.float()


def by_typicality(images: Float[Tensor, "B C H W"]) -> Int64[Tensor, " B"]:
    """Return the order of images by their distance to their mean, pixel by pixel, the nearest first.

    Example:
        >>> by_typicality(torch.tensor([3.0, 0.0, 9.0]).reshape(3, 1, 1, 1)).tolist()
        [0, 1, 2]
    """
    pixels = images.flatten(1)
    return (pixels - pixels.mean(0)).square().sum(1).argsort()
