"""Data sets that torchvision downloads, verifies and reads."""

import hashlib
import logging
import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import ClassVar, TypeVar

import torch

from interp_lightning.data.base import Fallback, ImageData
from interp_lightning.data.sources import InMemory
from interp_lightning.errors import DataNotFound
from interp_lightning.parameters import Count, Folder, Seed
from interp_lightning.system.disk import lock

log = logging.getLogger(__name__)

TIMEOUT = 10  # seconds without a response
HELD_OUT = 5_000  # training images, for validation
SPLIT_SEED = 0  # the split belongs to the data set, not to the run
T = TypeVar("T")


class Downloaded(ImageData):
    """A data set of torchvision. Its files are looked for in root/`inside`, and downloaded if they are missing.

    torchvision compares the files' MD5 with those of the published ones, before it reads them.

    Args:
        batch_size, seed, fallback: see `ImageData`.
        root: folder of data sets.
    """

    inside: ClassVar[str]  # folder in `root`
    needed: ClassVar[str]  # files, for the sentence that asks for them

    def __init__(self, batch_size: Count, seed: Seed = 0, root: Folder = "data", fallback: Fallback = None) -> None:
        super().__init__(batch_size, seed, fallback)
        self.folder = Path(root, self.inside).absolute()

    def opened(self, make: Callable[[bool], T]) -> T:
        """Return what `make(download)` opens: what is on disk, or else what can be downloaded.

        Raises:
            DataNotFound: files are missing or damaged, and cannot be downloaded.
        """
        try:
            return make(False)
        except (RuntimeError, OSError) as missing:
            if not self.may_fetch:
                raise self._not_found("the folder is named by the run's configuration only") from missing
        with alone(self.folder), impatient():
            try:
                return make(True)
            except Exception as error:  # of any protocol, and of a missing package
                raise self._not_found(" ".join(str(getattr(error, "reason", error)).split())[:200]) from error

    def _not_found(self, reason: str) -> DataNotFound:
        return DataNotFound(
            f"data={self.name} is not whole in {self.folder} and could not be downloaded ({reason}); put {self.needed} "
            "there, name the folder above it by data.root=…, or use data=digits, which needs no files"
        )


def alone(folder: Path) -> AbstractContextManager[None]:
    """Prevent other processes of this machine from downloading the same files at the same time."""
    key = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]  # one key for all names of a folder
    try:
        place = Path(tempfile.gettempdir())
    except OSError:  # no temporary folder; files are written atomically in any case
        return nullcontext()
    return lock(
        place / f"interp_lightning_{key}.lock",
        lambda: log.info(f"Waiting for another process that downloads the files of {folder} …"),
        mode=0o666,
    )


@contextmanager
def impatient() -> Iterator[None]:
    """Do not wait for a server that is silent."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def held_out(training: InMemory) -> tuple[InMemory, InMemory]:
    """Divide training images into those to train on and 5,000 for validation, or a tenth of few; always the same.

    Example:
        >>> train, val = held_out(InMemory(torch.zeros(50_000, 1, 1, 1)))
        >>> len(train), len(val)
        (45000, 5000)
    """
    order = torch.randperm(len(training), generator=torch.Generator().manual_seed(SPLIT_SEED))
    val = min(HELD_OUT, len(training) // 10)
    return InMemory(*training.batch(order[val:])), InMemory(*training.batch(order[:val]))
