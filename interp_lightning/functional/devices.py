"""Move numbers between host and device without making the host wait."""

import torch
from torch import Tensor


def runs_ahead(device: torch.device) -> bool:
    """Whether the host goes on while a device computes; to look at any number, it then has to wait."""
    return device.type == "cuda"


def sent(numbers: Tensor, device: torch.device) -> Tensor:
    """Numbers of the host's on a device, which they reach in their turn."""
    return pinned(numbers, device).to(device, non_blocking=runs_ahead(device))


def pinned(numbers: Tensor, device: torch.device) -> Tensor:
    """The same numbers where a GPU can fetch them by itself, if they are for one."""
    return numbers.pin_memory() if device.type == "cuda" else numbers
