"""Images as tensors."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def to_unit_range(images: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Convert uint8 images to [−1, 1]; return others in single precision.

    Example:
        >>> to_unit_range(torch.tensor([0, 255], dtype=torch.uint8))
        tensor([-1.,  1.])
    """
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images.float()
