"""Data: lines against a naive renderer, MNIST's files in every state, batches over epochs and devices."""

import gzip
import hashlib
import io
import logging
import math
import os
import shutil
import signal
import struct
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset
from torchvision.datasets import MNIST as TorchvisionMNIST

from interp_lightning.data.base import ImageData
from interp_lightning.data.digits import Digits
from interp_lightning.data.fashion_mnist import FashionMNIST
from interp_lightning.data.lines import Lines
from interp_lightning.data.loaders import EvaluationLoader, TrainingLoader
from interp_lightning.data.mnist import MNIST
from interp_lightning.data.sources import InMemory, OnDisk, Source
from interp_lightning.errors import ConfigError, DataError, DataNotFound
from interp_lightning.functional.images import to_unit_range
from interp_lightning.functional.lines import render_lines
from interp_lightning.runs.checkpoints import read_checkpoint
from interp_lightning.steps.distributed import shard

# Lines


def naive_line(angle: float, size: int = 32) -> np.ndarray:
    """Row by row along the major axis, pixel by pixel along the minor one."""
    centre, image = size / 2, np.zeros((size, size))
    end_x, end_y = centre + (centre - 1) * math.cos(-angle), centre + (centre - 1) * math.sin(-angle)
    flat = abs(end_y - centre) < abs(end_x - centre)
    start_major, end_major, end_minor = centre, (end_x if flat else end_y), (end_y if flat else end_x)
    slope = (end_minor - centre) / (end_major - centre)
    low, high = min(start_major, end_major), max(start_major, end_major)
    for row in range(math.floor(low), math.ceil(high)):
        weight = min(1.0, row + 1 - low)
        left = centre - 1 + (row - centre - 0.5) * slope
        for column in range(size):
            image[row, column] = weight * max(0.0, min(column + 1, left + 2) - max(column, left))
    return 2 * (image.T if flat else image) - 1


@given(st.floats(0, 2 * math.pi, allow_subnormal=False))
def test_lines_agree_with_a_naive_renderer(angle):
    image = render_lines(torch.tensor([angle], dtype=torch.float64))[0, 0]
    np.testing.assert_allclose(image.numpy(), naive_line(angle), atol=1e-6)


def test_lines_at_known_angles():
    right, up, left, down = render_lines(torch.tensor([0, 0.5, 1, 1.5]).double() * math.pi)[:, 0]
    expected = -torch.ones(32, 32)
    expected[15:17, 16:31] = 1
    torch.testing.assert_close(right, expected)
    torch.testing.assert_close(left, expected.roll(-15, dims=1))
    torch.testing.assert_close(down, expected.T, atol=1e-6, rtol=0)
    torch.testing.assert_close(up, expected.T.roll(-15, dims=0), atol=1e-6, rtol=0)


def test_lines_are_new_every_epoch_and_fixed_in_evaluation():
    data = Lines(batch_size=64, seed=0)
    generator = torch.Generator().manual_seed(0)
    first, second = data.train.epoch(generator), data.train.epoch(generator)
    assert not torch.equal(first, second)
    assert torch.equal(data.test.all(), data.test.all())
    assert not torch.equal(data.test.all(), data.val.all())
    images, labels = data.test.batch(data.test.all())
    assert images.shape == (2000, 1, 32, 32)
    assert set(labels.tolist()) == set(range(10))


# Digits


def test_digits_are_split_by_class_without_overlap():
    data = Digits(batch_size=64)
    sizes = [len(split) for split in (data.train, data.val, data.test)]
    assert sizes == [1257, 180, 360]
    seen = [
        hashlib.md5(image.numpy().tobytes()).digest()
        for split in (data.train, data.val, data.test)
        for image in split.images
    ]
    assert len(set(seen)) == 1797
    for split in (data.train, data.val, data.test):
        shares = torch.bincount(split.labels, minlength=10) / len(split)
        assert (shares - 0.1).abs().max() < 0.01
    images = to_unit_range(data.test.images)
    assert (images.min(), images.max()) == (-1, 1)
    assert data.test.images.shape[1:] == data.image_shape


# MNIST


def idx(*shape: int) -> bytes:
    """Random images or labels in the form of MNIST's files."""
    values = np.random.default_rng(shape).integers(0, 10 if len(shape) == 1 else 256, shape, dtype=np.uint8)
    return struct.pack(f">{1 + len(shape)}i", 0x800 + len(shape), *shape) + values.tobytes()


SHAPES = {"train-images-idx3-ubyte": (6000, 28, 28), "train-labels-idx1-ubyte": (6000,),
          "t10k-images-idx3-ubyte": (50, 28, 28), "t10k-labels-idx1-ubyte": (50,)}  # fmt: skip


class SmallMNIST(MNIST):
    """A tenth of it: MNIST itself is 55 MB, and cannot be fetched in tests."""

    files: ClassVar = {name: (shape, hashlib.md5(idx(*shape)).hexdigest()) for name, shape in SHAPES.items()}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The folder that a small MNIST's files lie in."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, shape in SHAPES.items():
        (folder / name).write_bytes(idx(*shape))
    return folder


def read(folder: Path, **kwargs: object) -> MNIST:
    data = SmallMNIST(batch_size=64, root=str(folder.parent.parent), **kwargs)
    data.setup()
    return data


def test_mnist_keeps_the_official_split(files):
    data = read(files)
    assert [len(split) for split in (data.train, data.val, data.test)] == [5400, 600, 50]
    raw = np.frombuffer((files / "t10k-images-idx3-ubyte").read_bytes(), np.uint8, offset=16).reshape(50, 28, 28)
    np.testing.assert_array_equal(data.test.images[:, 0, 2:30, 2:30], raw)
    assert data.test.images[:, :, :2].max() == 0
    train = {image.numpy().tobytes() for image in data.train.images}
    assert not train & {image.numpy().tobytes() for image in data.val.images}


def test_mnist_reads_packed_files_and_prefers_whichever_is_whole(files):
    expected = read(files).test.images
    for path in list(files.iterdir()):
        (files / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert torch.equal(read(files).test.images, expected)
    (files / "t10k-images-idx3-ubyte").write_bytes(b"not an image")
    assert torch.equal(read(files).test.images, expected)


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def damage_ten_items(path: Path) -> None:
    content = path.read_bytes()
    rank = content[3]
    path.write_bytes(content[:4] + struct.pack(">i", 10) + content[8 : 4 + 4 * rank] + bytes(10 * 784))


def damage_swap(path: Path) -> None:
    path.write_bytes((path.parent / "t10k-labels-idx1-ubyte").read_bytes())


def damage_label(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] = 11
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("train-images-idx3-ubyte", damage_truncate, "bytes of data"),
        ("train-images-idx3-ubyte", damage_empty, "0 bytes long"),
        ("train-images-idx3-ubyte", damage_flip, "checksum"),
        ("train-images-idx3-ubyte", damage_ten_items, "it holds 10×28×28, not 6000×28×28"),
        ("train-images-idx3-ubyte", damage_swap, "it begins with 0x801"),
        ("train-labels-idx1-ubyte", damage_swap, "it holds 50, not 6000"),
        ("train-labels-idx1-ubyte", damage_label, "a label is 11"),
        ("train-labels-idx1-ubyte", damage_flip, "checksum|a label is"),
    ],
)
def test_damaged_files_are_named_even_where_there_is_a_fallback(files, name, damage, message, packed):
    damage(files / name)
    if packed:
        content = (files / name).read_bytes()
        (files / name).unlink()
        (files / f"{name}.gz").write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=f"{name}.* is damaged.*({message})") as caught:
        read(files, fallback="digits")
    assert not isinstance(caught.value, DataNotFound)


def test_a_broken_gzip_file_is_damaged(files):
    content = gzip.compress((files / "t10k-labels-idx1-ubyte").read_bytes())
    (files / "t10k-labels-idx1-ubyte").unlink()
    (files / "t10k-labels-idx1-ubyte.gz").write_bytes(content[:20])
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz is damaged"):
        read(files)


@pytest.fixture
def mirror(files, tmp_path, monkeypatch) -> Path:
    """Where the files can be fetched from."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for path in files.iterdir():
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    monkeypatch.setattr(TorchvisionMNIST, "mirrors", ["file:///nowhere/", f"file://{folder}/"])
    return folder


def test_missing_and_damaged_files_are_downloaded(files, mirror):
    expected = read(files)
    (files / "train-images-idx3-ubyte").unlink()
    damage_truncate(files / "t10k-images-idx3-ubyte")
    with pytest.warns(UserWarning, match="t10k-images-idx3-ubyte is damaged.*downloaded again"):
        assert torch.equal(read(files).train.images, expected.train.images)
    assert (files / "train-images-idx3-ubyte.gz").is_file()
    assert not list(files.glob(".*"))  # no half-written file is left


def begin(work: Callable[[], object], user: int = 0) -> int:
    """Work in a process of its own, of another user if this one may choose; returns its number."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if user and os.getuid() == 0:
                os.setuid(user)
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def status(pid: int) -> int:
    """The exit status of a process: 0 if nothing was raised."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_two_processes_fetch_each_file_once(files, mirror, tmp_path, monkeypatch):
    expected = read(files)
    shutil.rmtree(files)
    files.mkdir()
    (files / ".t10k-labels-idx1-ubyte.gz.7.part").write_bytes(b"half of it")  # of a process that was killed
    (tmp_path / "log").touch()
    fetch = urllib.request.urlopen

    def slowly(address: str, timeout: float) -> object:
        answer = fetch(address, timeout=timeout)
        with (tmp_path / "log").open("a") as file:
            file.write(f"{address}\n")
        time.sleep(0.1)
        return answer

    monkeypatch.setattr(urllib.request, "urlopen", slowly)
    (tmp_path / "link").symlink_to(tmp_path / "MNIST")
    (tmp_path / "MNIST" / "MNIST").symlink_to(tmp_path / "MNIST")
    roots = [tmp_path, tmp_path / "link" / "..", tmp_path / "MNIST"]  # one folder by three names
    processes = [begin(partial(read, root / "MNIST" / "raw")) for root in roots]
    assert [status(process) for process in processes] == [0, 0, 0]
    fetched = (tmp_path / "log").read_text().split()
    assert len(fetched) == len(set(fetched)) == 4
    assert torch.equal(read(files).test.images, expected.test.images)


def test_a_process_that_dies_while_fetching_holds_nobody_up(files, mirror, monkeypatch):
    (files / "t10k-labels-idx1-ubyte").unlink()

    def die(*arguments: object, **keywords: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(urllib.request, "urlopen", die)
        assert status(begin(partial(read, files))) == -signal.SIGKILL
    read(files)


def test_without_a_folder_for_the_lock_files_are_fetched_all_the_same(files, mirror, monkeypatch):
    (files / "t10k-labels-idx1-ubyte").unlink()
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(files / "nowhere")])
    read(files)


def test_waiting_for_another_process_is_said(files, mirror, caplog, monkeypatch):
    (files / "t10k-labels-idx1-ubyte").unlink()
    caplog.set_level(logging.INFO)
    acquire, calls = FileLock.acquire, []

    def held_once(self: FileLock, timeout: float = -1) -> object:
        calls.append(timeout)
        if timeout == 0:
            raise Timeout("held by another process")
        return acquire(self)

    monkeypatch.setattr(FileLock, "acquire", held_once)
    read(files)
    assert calls == [0, -1]
    assert "Waiting for another process that downloads" in caplog.text


@pytest.fixture
def shared(files) -> Iterator[Path]:
    """A folder that everybody may read and only its owner write to, with files as they should be."""
    root = Path(tempfile.mkdtemp())
    folder = Path(shutil.copytree(files, root / "MNIST" / "raw"))
    for path in (*folder.iterdir(), folder, folder.parent, root):
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield folder
    for path in (root, folder.parent, folder):
        path.chmod(0o755)
    shutil.rmtree(root)


def test_a_folder_that_cannot_be_written_to_will_do(shared):
    assert status(begin(partial(read, shared), user=65534)) == 0


def test_what_cannot_be_kept_is_used_all_the_same(shared, mirror):
    # Only the name of the mirror's folder need be readable: it is read before the user changes.
    content = {path.name: path.read_bytes() for path in mirror.iterdir()}
    shared.chmod(0o755)
    (shared / "t10k-labels-idx1-ubyte").unlink()
    shared.chmod(0o555)

    def work() -> None:
        urllib.request.urlopen = lambda address, timeout: io.BytesIO(content[address.rsplit("/", 1)[1]])
        with pytest.warns(
            UserWarning, match=r"t10k-labels-idx1-ubyte\.gz could not be written to .*next run downloads"
        ):
            read(shared)

    assert status(begin(work, user=65534)) == 0


def test_a_mirror_that_serves_something_else_is_not_believed(files, tmp_path, monkeypatch):
    (files / "t10k-labels-idx1-ubyte").unlink()
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"<html>please log in</html>"))
    monkeypatch.setattr(TorchvisionMNIST, "mirrors", [f"file://{tmp_path}/"])
    with pytest.raises(DataNotFound):
        read(files)
    assert not (files / "t10k-labels-idx1-ubyte.gz").exists()


def test_missing_files_are_named_with_their_folder_and_the_way_out(tmp_path):
    with pytest.raises(DataNotFound, match=r"MNIST/raw .*train-images-idx3-ubyte.gz.*data.root=.*data=digits"):
        MNIST(batch_size=64, root=str(tmp_path)).setup()


def test_fashion_mnist_is_read_where_a_package_of_the_system_puts_it(files, tmp_path):
    folder = files

    class Small(FashionMNIST):
        files: ClassVar = SmallMNIST.files
        installed: ClassVar = folder

    data = Small(batch_size=64, root=str(tmp_path / "nowhere"))
    assert torch.equal(data.test.images, read(files).test.images)
    (files / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(
        DataNotFound, match=rf"FashionMNIST is not in .*nowhere/FashionMNIST/raw or {files} .*data.root="
    ):
        Small(batch_size=64, root=str(tmp_path / "nowhere")).setup()


@pytest.mark.skipif(not FashionMNIST.installed.is_dir(), reason="the package dataset-fashion-mnist is not installed")
def test_fashion_mnist_is_the_published_one():
    data = FashionMNIST(batch_size=64)
    assert [len(split) for split in (data.train, data.val, data.test)] == [55_000, 5_000, 10_000]


def test_a_root_that_is_a_file_cannot_be_read(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"`data.root`: .* cannot be read \(Not a directory\)"):
        MNIST(batch_size=64, root=str(tmp_path / "file"), fallback="digits").setup()


# Batches


@pytest.fixture
def numbers() -> InMemory:
    return InMemory(torch.arange(100, dtype=torch.uint8)[:, None, None, None], torch.arange(100))


def test_an_epoch_goes_through_the_split_once_in_a_new_order(numbers):
    loader = TrainingLoader(numbers, batch_size=10, seed=0, rank=0, world_size=1)
    first, second = (torch.cat([labels for _, labels in loader]) for _ in range(2))
    assert len(loader) == 10
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(100))
    assert not torch.equal(first, second)
    again = torch.cat([labels for _, labels in TrainingLoader(numbers, 10, seed=0, rank=0, world_size=1)])
    assert torch.equal(first, again)
    assert not torch.equal(first, torch.cat([labels for _, labels in TrainingLoader(numbers, 10, 1, 0, 1)]))


def test_training_batches_are_full(numbers):
    assert [len(labels) for _, labels in TrainingLoader(numbers, 64, 0, 0, 1)] == [64]


@given(stop=st.integers(1, 25))
def test_a_loader_resumes_where_it_stood(stop):
    numbers = InMemory(torch.zeros(100, 1, 1, 1, dtype=torch.uint8), torch.arange(100))
    straight, broken = (TrainingLoader(numbers, 10, 0, 0, 1) for _ in range(2))
    expected = [labels.tolist() for _ in range(3) for _, labels in straight]
    seen: list[list[int]] = []
    while len(seen) < stop:
        for _, labels in broken:
            seen.append(labels.tolist())
            if len(seen) == stop:
                break
    resumed = TrainingLoader(numbers, 10, 0, 0, 1)
    resumed.load_state_dict(broken.state_dict())
    while len(seen) < 30:
        seen += [labels.tolist() for _, labels in resumed]
    assert seen == expected


@pytest.mark.parametrize("world_size", [2, 3])
def test_devices_share_the_global_batch_in_mirrored_pairs(numbers, world_size):
    whole = list(TrainingLoader(numbers, 12, 0, 0, 1))
    parts = [list(TrainingLoader(numbers, 12, 0, rank, world_size)) for rank in range(world_size)]
    for index, (_, labels) in enumerate(whole):
        shares = [part[index][1] for part in parts]
        assert sorted(torch.cat(shares).tolist()) == sorted(labels.tolist())
        partner = dict(zip(labels.tolist(), labels.flip(0).tolist(), strict=True))
        for share in shares:
            assert [partner[label] for label in share.tolist()] == share.flip(0).tolist()


def test_shard_on_one_device_is_the_batch():
    batch = torch.arange(5)
    assert shard(batch, 0, 1) is batch


@pytest.mark.parametrize("number", [3, 500, 501, 1000, 1999])
@pytest.mark.parametrize("world_size", [1, 2])
def test_evaluation_sees_everything_once_in_even_batches(number, world_size):
    source = InMemory(torch.zeros(number, 1, 1, 1, dtype=torch.uint8), torch.arange(number))
    loaders = [EvaluationLoader(source, rank, world_size) for rank in range(world_size)]
    batches = [[labels for _, labels in loader] for loader in loaders]
    assert len({len(part) for part in batches} | {len(loader) for loader in loaders}) == 1
    sizes = [len(labels) for part in batches for labels in part]
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= 500
    assert sorted(torch.cat([labels for part in batches for labels in part]).tolist()) == list(range(number))


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, "many"])
def test_bad_batch_sizes(batch_size):
    with pytest.raises(ConfigError, match=r"`data\.batch_size`"):
        Digits(batch_size=batch_size)


def test_a_batch_larger_than_the_split():
    with pytest.raises(ConfigError, match=r"`data.batch_size` \(=2000\) must be ≤ 1257"):
        Digits(batch_size=2000).setup()


def test_an_unknown_fallback():
    with pytest.raises(ConfigError, match=r"`data.fallback` \(='cifar'\) must be one of: digits, or null"):
        MNIST(batch_size=64, fallback="cifar")


# Data sets that are too large for memory


class Slow(Dataset):
    """The same images one by one, as from a disk."""

    def __init__(self, source: InMemory) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.source.images[index], self.source.labels[index]


class DigitsOnDisk(Digits):
    def load(self) -> tuple[Source, Source, Source]:
        train, val, test = super().load()
        return OnDisk(Slow(train)), OnDisk(Slow(val), workers=0), OnDisk(Slow(test), workers=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_set_on_disk_gives_the_same_batches(numbers, workers):
    disk = OnDisk(Slow(numbers), workers)
    for kind, arguments in ((TrainingLoader, (10, 0, 1, 2)), (EvaluationLoader, (0, 1))):
        for expected, found in zip(kind(numbers, *arguments), kind(disk, *arguments), strict=True):
            assert [part.tolist() for part in expected] == [part.tolist() for part in found]
    assert disk.batch(torch.tensor([3, 5]))[1].tolist() == [3, 5]


def test_a_data_set_says_what_it_is():
    with pytest.raises(ConfigError, match=r"the data set Nameless must have name, image_shape, classes, epochs"):

        class Nameless(ImageData):
            def load(self) -> tuple[Source, Source, Source]:
                raise NotImplementedError


def test_reading_ahead_does_not_count(numbers):
    loader = TrainingLoader(OnDisk(Slow(numbers)), 10, seed=0, rank=0, world_size=1)
    seen = [labels.tolist() for (_, labels), _ in zip(loader, range(3), strict=False)]
    assert loader.state_dict() == {"current_epoch": 0, "next_batch": 4, "over": False}  # zip has asked for a fourth
    resumed = TrainingLoader(OnDisk(Slow(numbers)), 10, seed=0, rank=0, world_size=1)
    resumed.load_state_dict({"current_epoch": 0, "next_batch": 3, "over": False})
    seen += [labels.tolist() for _, labels in resumed]
    assert seen == [labels.tolist() for _, labels in TrainingLoader(numbers, 10, 0, 0, 1)]


def test_a_run_on_a_data_set_on_disk_is_that_in_memory(launch):
    folders = [
        launch("model=ae", "penalty=none", f"data._target_={kind}", folder=name)
        for kind, name in (("interp_lightning.data.digits.Digits", "memory"), ("test_data.DigitsOnDisk", "disk"))
    ]
    memory, disk = (read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in folders)
    assert all(torch.equal(value, disk[name]) for name, value in memory.items())


def test_what_fits_goes_to_the_device(numbers, monkeypatch):
    for free, there in ((2 * numbers.images.nbytes, True), (2 * numbers.images.nbytes - 2, False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _, free=free: (free, free))
        moved: list[torch.device] = []
        monkeypatch.setattr(torch.Tensor, "to", lambda self, device, moved=moved: moved.append(device) or self)
        numbers.to(torch.device("cuda"))
        assert bool(moved) == there
        monkeypatch.undo()
