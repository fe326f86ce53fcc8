"""Keep fitted paths in a run's folder, for as long as the run's weights are the same."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from interp_lightning.models.base import Autoencoder
from interp_lightning.paths import base
from interp_lightning.system.disk import lies_in, regular, replace

log = logging.getLogger(__name__)

SEAL = "sha256"  # of the model's weights, the path's settings and its state


class Kept(base.Store):
    """Files `paths/<how>.safetensors` in a run's folder, one for each kind of path.

    A file that belongs to other weights or settings, or that is damaged, is made again.

    Args:
        folder: the run's.
        model: whose encoder and decoder the paths belong to.
    """

    def __init__(self, folder: Path, model: Autoencoder) -> None:
        self.folder = folder
        self._weights = _digest({**model.encoder.state_dict(prefix="e."), **model.decoder.state_dict(prefix="d.")})

    def load(self, path: base.Path) -> dict[str, Tensor]:
        file = self._file(path)
        if not path.how or not file.exists():
            return {}
        try:
            state = load(regular(file).read_bytes()) if lies_in(self.folder, file) else {}
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            log.warning(f"{file} cannot be read ({' '.join(str(error).split())[:100]}); it is made again")
            return {}
        seal = state.pop(SEAL, torch.empty(0))
        if not torch.equal(seal, self._seal(path, state)):
            log.info(f"{file} was made for other weights or settings, or is damaged; it is made again")
            return {}
        return state

    def save(self, path: base.Path, state: Mapping[str, Tensor]) -> None:
        if not path.how:
            return
        file = self._file(path)
        plain = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        try:
            if lies_in(self.folder, file.parent):
                file.parent.mkdir(exist_ok=True)
                replace(file, save({**plain, SEAL: self._seal(path, plain)}))
        except OSError as error:
            log.warning(f"{file} could not be written ({error.strerror}); the path is made again next time")

    def _file(self, path: base.Path) -> Path:
        return self.folder / "paths" / f"{path.how}.safetensors"

    def _seal(self, path: base.Path, state: Mapping[str, Tensor]) -> Tensor:
        """Return the digest of everything that a state belongs to, and of itself: bytes (32,)."""
        whole = hashlib.sha256(self._weights + repr(dict(path.settings)).encode() + _digest(state))
        return torch.tensor(list(whole.digest()), dtype=torch.uint8)


def _digest(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the digest of named tensors: their names, types, shapes and bytes."""
    whole = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        whole.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        whole.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return whole.digest()
