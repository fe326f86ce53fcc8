"""Keep fitted paths in a run's folder, for as long as the run's weights are the same."""

import logging
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from interp_lightning.functional.digests import digest, sealed, unsealed
from interp_lightning.metrics.features import Judge
from interp_lightning.models.base import Autoencoder
from interp_lightning.paths import base
from interp_lightning.system.disk import lies_in, regular, replace

log = logging.getLogger(__name__)


class Kept(base.Store):
    """Files `paths/<how>.safetensors` in a run's folder, one for each kind of path.

    A file that belongs to other weights or settings, or that is damaged, is not used.

    Args:
        folder: the run's.
        model: whose encoder and decoder the paths belong to.
        judge: its features decide the graphs that measure distances in them.
    """

    def __init__(self, folder: Path, model: Autoencoder, judge: Judge | None = None) -> None:
        self.folder, self.judge = folder, judge
        own = dict(model.named_buffers(recurse=False))  # such as a codebook
        self._weights = digest(
            {**model.encoder.state_dict(prefix="e."), **model.decoder.state_dict(prefix="d."), **own}
        )

    def load(self, path: base.Path) -> dict[str, Tensor]:
        file = self._file(path)
        if not path.how or not file.exists():
            return {}
        try:
            if not lies_in(self.folder, file):
                return {}
            state = unsealed(regular(file).read_bytes(), self._owner(path))
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            log.warning(f"{file} cannot be read ({' '.join(str(error).split())[:100]}); it is not used")
            return {}
        if state is None:
            log.info(f"{file} was made for other weights or settings, or is damaged; it is not used")
            return {}
        return state

    def save(self, path: base.Path, state: Mapping[str, Tensor]) -> None:
        if not path.how:
            return
        file = self._file(path)
        try:
            if lies_in(self.folder, file.parent):
                file.parent.mkdir(parents=True, exist_ok=True)  # a checkpoint file has no folder yet
                replace(file, sealed(state, self._owner(path)))
        except OSError as error:
            log.warning(f"{file} could not be written ({error.strerror}); the path is made again next time")

    def _file(self, path: base.Path) -> Path:
        return self.folder / "paths" / f"{path.how}.safetensors"

    def _owner(self, path: base.Path) -> bytes:
        """Return everything that a state belongs to."""
        owner = self._weights + repr(dict(path.settings)).encode()
        if self.judge is not None and path.settings.get("distances") in ("features", "both"):
            owner += digest(self.judge.state_dict())
        return owner
