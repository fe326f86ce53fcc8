"""data=mnist: downloaded if missing, verified before use."""

import gzip
import hashlib
import logging
import struct
import urllib.request
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from typing import ClassVar
from uuid import uuid4

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad
from torchvision.datasets import MNIST as TorchvisionMNIST

from interp_lightning.data.base import Drawing, Fallback, ImageData
from interp_lightning.data.downloaded import TIMEOUT, alone, held_out
from interp_lightning.data.sources import InMemory, Source
from interp_lightning.errors import DataError, DataNotFound
from interp_lightning.parameters import Count, Folder, Seed
from interp_lightning.system.disk import regular

log = logging.getLogger(__name__)


class MNIST(ImageData):
    """MNIST (LeCun et al. 1998), padded with black to 32 × 32; official test set, 5,000 training digits for validation.

    Args:
        batch_size, seed, fallback: see `ImageData`.
        root: torchvision's root folder; the files are in root/MNIST/raw, packed (.gz) or not.
    """

    name: str = "mnist"
    image_shape: ClassVar[tuple[int, int, int]] = (1, 32, 32)
    classes: ClassVar[int] = 10
    epochs: ClassVar[int] = 5
    features: ClassVar[str | None] = "digits"
    drawing: ClassVar[Drawing | None] = Drawing(box=20, by_mass=True)

    torchvision: ClassVar[type[TorchvisionMNIST]] = TorchvisionMNIST  # knows the folder's name and the mirrors
    installed: ClassVar[Path | None] = None  # where a package of the system puts the files

    # Name, shape and MD5 of each file's unpacked content, or of the file as it is published, packed.
    packed: ClassVar[bool] = False
    files: ClassVar[dict[str, tuple[tuple[int, ...], str]]] = {
        "train-images-idx3-ubyte": ((60_000, 28, 28), "6bbc9ace898e44ae57da46a324031adb"),
        "train-labels-idx1-ubyte": ((60_000,), "a25bea736e30d166cdddb491f175f624"),
        "t10k-images-idx3-ubyte": ((10_000, 28, 28), "2646ac647ad5339dbf082846283269ea"),
        "t10k-labels-idx1-ubyte": ((10_000,), "27ae3e4e09519cfbb04c329615203637"),
    }

    def __init__(self, batch_size: Count, seed: Seed = 0, root: Folder = "data", fallback: Fallback = None) -> None:
        super().__init__(batch_size, seed, fallback)
        self.folder = Path(root) / self.torchvision.__name__ / "raw"

    def load(self) -> tuple[Source, Source, Source]:
        arrays = {name: self._find(name) for name in self.files}
        training, test = (
            InMemory(
                pad(arrays[f"{part}-images-idx3-ubyte"][:, None], [2] * 4), arrays[f"{part}-labels-idx1-ubyte"].long()
            )
            for part in ("train", "t10k")
        )
        return *held_out(training), test

    def _folders(self) -> list[Path]:
        """Return the folders to look into, in order."""
        return [self.folder.absolute(), *([] if self.installed is None else [self.installed])]

    def _find(self, name: str) -> Tensor:
        """Return the verified content of one file, from disk or else from the network."""
        content, _ = self._on_disk(name)
        if content is not None:
            return content
        with alone(self.folder):
            content, damaged = self._on_disk(name)  # another process may have downloaded it meanwhile
            if content is not None:
                return content
            try:
                content = self._download(name)
            except (OSError, ValueError, EOFError, zlib.error) as error:
                if damaged:
                    raise DataError(
                        f"{damaged} and could not be downloaded again ({_reason(error)}); replace it by the original "
                        "or use data=digits"
                    ) from error
                raise DataNotFound(
                    f"{self.torchvision.__name__} is not in {' or '.join(map(str, self._folders()))} and could not be "
                    f"downloaded ({_reason(error)}); put {', '.join(f'{file}.gz' for file in self.files)} into "
                    f"{self.folder.absolute()}, name the folder of {self.torchvision.__name__}/raw by data.root=…, or "
                    "use data=digits, which needs no files"
                ) from error
        if damaged:
            warnings.warn(f"{damaged}; downloaded again", stacklevel=2)
        return content

    def _on_disk(self, name: str) -> tuple[Tensor | None, str]:
        """Return the verified content of one file, None if it is missing, and a description of damaged files."""
        damaged, names = list[str](), (f"{name}.gz",) if self.packed else (name, f"{name}.gz")
        for path in [folder / file for folder in self._folders() for file in names]:
            try:
                content = self._read(name, regular(path).read_bytes(), packed=path.suffix == ".gz")
                if damaged:
                    log.warning(f"{' and '.join(damaged)}; {path} is read instead")
                return content, ""
            except FileNotFoundError:
                continue
            except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
                damaged.append(f"{path} is damaged ({error})")
            except OSError as error:
                raise DataError(
                    f"`data.root`: {path} cannot be read ({error.strerror}); make it readable or name another folder"
                ) from error
        return None, " and ".join(damaged)

    def _read(self, name: str, raw: bytes, packed: bool) -> Tensor:
        """Return the content of a file; raise ValueError or one of gzip's errors if it is not the published file."""
        shape, checksum = self.files[name]
        content = gzip.decompress(raw) if packed else raw
        decoded = _decoded(content, shape)
        if hashlib.md5(raw if self.packed else content, usedforsecurity=False).hexdigest() != checksum:
            raise ValueError("its checksum is not that of the published file")
        return decoded

    def _download(self, name: str) -> Tensor:
        failure: Exception = OSError("no mirror known")
        if not self.may_fetch:
            raise OSError("the folder is named by the run's configuration only, so nothing is downloaded into it")
        for mirror in self.torchvision.mirrors:
            try:
                with urllib.request.urlopen(f"{mirror}{name}.gz", timeout=TIMEOUT) as response:
                    packed = response.read()
                content = self._read(name, packed, packed=True)
            except (OSError, ValueError, EOFError, zlib.error) as error:
                failure = error
                continue
            self._keep(f"{name}.gz", packed)
            return content
        raise failure

    def _keep(self, name: str, packed: bytes) -> None:
        """Write a file atomically, so that no other process ever reads half of it."""
        part = (
            self.folder / f".{name}.{uuid4().hex}.part"
        )  # not the process id: containers that share a folder may have equal ones
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(packed)
            part.replace(self.folder / name)
        except OSError as error:
            warnings.warn(
                f"{name} could not be written to {self.folder} ({error.strerror}), so the next run downloads it again; "
                "name a writable folder by data.root=…",
                stacklevel=2,
            )
            with suppress(OSError):
                part.unlink(missing_ok=True)


def _decoded(content: bytes, shape: tuple[int, ...]) -> Tensor:
    """Decode an IDX file of bytes; raise ValueError if it is not one of this shape."""
    if len(content) < 4 * (1 + len(shape)):
        raise ValueError(f"it is {len(content)} bytes long")
    magic, *found = struct.unpack_from(f">{1 + len(shape)}i", content)
    if magic != 0x800 + len(shape):
        raise ValueError(f"it begins with {magic:#x}, not {0x800 + len(shape):#x}")
    if tuple(found) != shape:
        raise ValueError(f"it holds {'×'.join(map(str, found))}, not {'×'.join(map(str, shape))}")
    header = 4 * (1 + len(shape))
    if len(content) - header != np.prod(shape):
        raise ValueError(f"{len(content) - header:,} bytes of data, not {np.prod(shape):,}")
    if len(shape) == 1 and max(content[header:]) > 9:
        raise ValueError(f"a label is {max(content[header:])}, not 0 to 9")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).reshape(shape)


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", error))
