"""Data sets of torchvision, by small invented files in their formats."""

import gzip
import hashlib
import pickle
import struct
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io
import torch
import torchvision
from PIL import Image

from interp_lightning.data.base import ImageData
from interp_lightning.data.celeba import CROP, CelebA
from interp_lightning.data.cifar10 import CIFAR10
from interp_lightning.data.kmnist import KMNIST
from interp_lightning.data.svhn import SVHN
from interp_lightning.errors import DataError, DataNotFound

ALL = [CIFAR10, SVHN, CelebA, KMNIST]


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def colours(number: int, size: int = 32) -> np.ndarray:
    """Images of random pixels, (N, 3, size, size)."""
    return np.random.default_rng(number).integers(0, 256, (number, 3, size, size), dtype=np.uint8)


@pytest.fixture
def files(tmp_path, monkeypatch) -> SimpleNamespace:
    """A folder with small files of all data sets, whose checksums count as the published ones."""
    made = SimpleNamespace(root=tmp_path)

    batches = tmp_path / "cifar10" / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    made.cifar = colours(25)
    parts = {"data_batch_1": slice(0, 12), "data_batch_2": slice(12, 20), "test_batch": slice(20, 25)}
    for name, part in parts.items():
        content = {"data": made.cifar[part].reshape(-1, 3072), "labels": [i % 10 for i in range(25)][part]}
        (batches / name).write_bytes(pickle.dumps(content))
    (batches / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    listed = [[name, md5(batches / name)] for name in parts]
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5(batches / "batches.meta")}
    for name, value in {"train_list": listed[:2], "test_list": listed[2:], "meta": meta}.items():
        monkeypatch.setattr(torchvision.datasets.CIFAR10, name, value)

    svhn = tmp_path / "svhn"
    svhn.mkdir()
    split_list = {}
    for split, number in {"train": 30, "test": 6}.items():
        path = svhn / f"{split}_32x32.mat"
        scipy.io.savemat(path, {"X": colours(number).transpose(2, 3, 1, 0), "y": np.arange(number)[:, None] % 10 + 1})
        split_list[split] = ["http://nowhere/", path.name, md5(path)]
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", split_list)

    celeba = tmp_path / "celeba"
    (celeba / "img_align_celeba").mkdir(parents=True)
    names = [f"{index:06}.jpg" for index in range(1, 31)]
    for index, name in enumerate(names):
        image = Image.new("RGB", (178, 218), (9, 200, 9))
        image.paste((10 * (index % 20), 9, 9), (30, 50, 150, 170))
        image.save(celeba / "img_align_celeba" / name)
    splits = [0] * 20 + [1] * 4 + [2] * 6
    (celeba / "list_eval_partition.txt").write_text("".join(f"{n} {s}\n" for n, s in zip(names, splits, strict=True)))
    (celeba / "identity_CelebA.txt").write_text("".join(f"{name} 1\n" for name in names))
    for kind in ("bbox", "landmarks_align", "attr"):
        lines = "".join(f"{name} 1 1\n" for name in names)
        (celeba / f"list_{kind}_celeba.txt").write_text(f"{len(names)}\na b\n{lines}")
    listed = [("", md5(celeba / name), name) for _, _, name in torchvision.datasets.CelebA.file_list[1:]]
    monkeypatch.setattr(torchvision.datasets.CelebA, "file_list", listed)

    kmnist = tmp_path / "KMNIST" / "raw"
    kmnist.mkdir(parents=True)
    found = {}
    for name, (shape, _) in KMNIST.files.items():
        small = (30 if "train" in name else 8, *shape[1:])
        values = np.random.default_rng(0).integers(0, 10 if len(small) == 1 else 256, small, dtype=np.uint8)
        header = struct.pack(f">{1 + len(small)}i", 0x800 + len(small), *small)
        (kmnist / f"{name}.gz").write_bytes(gzip.compress(header + values.tobytes()))
        found[name] = (small, md5(kmnist / f"{name}.gz"))
    monkeypatch.setattr(KMNIST, "files", found)
    return made


@pytest.fixture(autouse=True)
def _offline(monkeypatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


def opened(kind: type[ImageData], root: Path) -> ImageData:
    data = kind(batch_size=2, root=str(root))
    data.setup()
    return data


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [(CIFAR10, (18, 2, 5)), (SVHN, (27, 3, 6)), (CelebA, (20, 4, 6)), (KMNIST, (27, 3, 8))],
)
def test_files_that_are_there_are_read(kind, sizes, files):
    data = opened(kind, files.root)
    assert tuple(map(len, (data.train, data.val, data.test))) == sizes
    images, labels = data.train.batch(data.train.all())
    assert images.shape[1:] == kind.image_shape
    assert images.dtype == torch.uint8
    assert (labels.min() >= 0) == (kind.classes > 0)
    again = opened(kind, files.root)
    assert torch.equal(again.val.batch(again.val.all())[0], data.val.batch(data.val.all())[0])


def test_pixels_and_labels_of_cifar10_are_the_files(files):
    images, labels = opened(CIFAR10, files.root).test.batch(torch.arange(5))
    assert torch.equal(images, torch.from_numpy(files.cifar[20:]))
    assert labels.tolist() == [0, 1, 2, 3, 4]


def test_ten_is_zero_in_svhn(files):
    images, labels = opened(SVHN, files.root).test.batch(torch.arange(6))
    assert torch.equal(images, torch.from_numpy(colours(6)))
    assert labels.tolist() == [1, 2, 3, 4, 5, 6]


def test_faces_are_cropped_from_the_middle(files):
    (image,), _ = opened(CelebA, files.root).test.batch(torch.tensor([0]))
    left = round(64 * (30 - (178 - CROP) / 2) / CROP)  # of the face, of which green hair is around
    assert (image[1, 32, : left - 1] > 150).all()
    assert (image[1, 32, left + 1 : 58] < 60).all()


@pytest.mark.parametrize("kind", ALL)
def test_files_that_are_missing_are_a_sentence(kind, tmp_path):
    with pytest.raises(DataNotFound, match=r"could not be downloaded \(.+\); put .+data\.root=.+data=digits") as error:
        opened(kind, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (CIFAR10, "cifar10/cifar-10-batches-py/data_batch_2"),
        (SVHN, "svhn/train_32x32.mat"),
        (CelebA, "celeba/list_eval_partition.txt"),
        (KMNIST, "KMNIST/raw/t10k-labels-idx1-ubyte.gz"),
    ],
)
def test_a_damaged_file_is_not_read(kind, name, files):
    content = bytearray((files.root / name).read_bytes())
    content[-9] ^= 1
    (files.root / name).write_bytes(content)
    with pytest.raises(DataError, match="could not be downloaded"):
        opened(kind, files.root)


@pytest.mark.parametrize("kind", ALL)
def test_nothing_is_downloaded_into_a_folder_that_a_run_names(kind, tmp_path, monkeypatch):
    data = kind(batch_size=2, root=str(tmp_path))
    data.may_fetch = False
    with pytest.raises(DataNotFound, match="the folder is named by the run's configuration only"):
        data.setup()
    assert not [*tmp_path.iterdir()]
