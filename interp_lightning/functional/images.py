"""Images as tensors."""

import torch
from torch import Tensor


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 images to [−1, 1]; images already there unchanged, in single precision."""
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images.float()
