"""Move numbers between host and device without a host sync."""

import torch
from torch import Tensor


def runs_ahead(device: torch.device) -> bool:
    """Return True if the host continues while a device computes: reading a number is then a host sync."""
    return device.type == "cuda"


def sent(numbers: Tensor, device: torch.device) -> Tensor:
    """Copy numbers from the host to a device, in stream order, without a host sync."""
    return pinned(numbers, device).to(device, non_blocking=runs_ahead(device))


def pinned(numbers: Tensor, device: torch.device) -> Tensor:
    """Return the numbers in pinned memory if they are for a GPU, else unchanged."""
    return numbers.pin_memory() if device.type == "cuda" else numbers
