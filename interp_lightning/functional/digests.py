"""Digests of tensors, and files of tensors that notice damage."""

import hashlib
from collections.abc import Mapping

import torch
from safetensors.torch import load, save
from torch import Tensor

SEAL = "sha256"


def digest(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the SHA-256 of named tensors: of their names, types, shapes and bytes.

    Example:
        >>> digest({"a": torch.zeros(2)}) == digest({"a": torch.zeros(2)}) != digest({"a": torch.zeros(1, 2)})
        True
    """
    whole = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        whole.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        whole.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return whole.digest()


def sealed(tensors: Mapping[str, Tensor], owner: bytes) -> bytes:
    """Return a safetensors file of named tensors, with the digest of them and of their owner.

    Args:
        tensors: to store.
        owner: whatever they belong to.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return save({**plain, SEAL: _seal(plain, owner)})


def unsealed(content: bytes, owner: bytes) -> dict[str, Tensor] | None:
    """Return the tensors of a file of `sealed`; None if it belongs to another owner, or is damaged.

    Raises:
        SafetensorError, ValueError, KeyError: it is no such file.

    Example:
        >>> file = sealed({"a": torch.ones(1)}, b"me")
        >>> unsealed(file, b"me"), unsealed(file, b"you")
        ({'a': tensor([1.])}, None)
    """
    tensors = load(content)
    seal = tensors.pop(SEAL, torch.empty(0))
    return tensors if torch.equal(seal, _seal(tensors, owner)) else None


def _seal(tensors: Mapping[str, Tensor], owner: bytes) -> Tensor:
    """Return the digest as bytes (32,)."""
    return torch.tensor(list(hashlib.sha256(owner + digest(tensors)).digest()), dtype=torch.uint8)
