"""data=folder: own pictures in any format, how they are divided, and what is wrong with them."""

import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from interp_lightning.commands.interpolate import find_image
from interp_lightning.data.folder import ImageFolder
from interp_lightning.data.listing import divide, list_pictures
from interp_lightning.data.pictures import Unreadable, View
from interp_lightning.errors import ConfigError, DataError
from interp_lightning.runs.load import load_run

RED, BLUE = (200, 30, 20), (10, 40, 220)


def picture(path: Path, colour: object = RED, size: tuple[int, int] = (20, 12), mode: str = "RGB") -> Path:
    """Write a picture whose left half is of a colour and whose right half is dark; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new(mode, size)
    image.paste(colour, (0, 0, size[0] // 2, size[1]))
    image.save(path)
    return path


def pictures(root: Path, names: Iterable[str], **how: object) -> str:
    for number, name in enumerate(names):
        picture(root / name, (200, number % 200, 20), **how)
    return str(root)


def folder(root: object, **settings: object) -> ImageFolder:
    data = ImageFolder(**{"batch_size": 4, "root": str(root), "image_size": 8, **settings})
    data.setup()
    return data


def numbered(number: int, start: str = "", end: str = ".png") -> list[str]:
    return [f"{start}{index:03}{end}" for index in range(number)]


def test_pictures_of_every_format_size_and_mode_become_images_of_one_shape(tmp_path):
    names = [*numbered(6), *numbered(3, "x", ".jpg"), *numbered(3, "y", ".webp"), *numbered(3, "z", ".bmp")]
    pictures(tmp_path, names, size=(40, 23))
    for mode, colour in (("L", 200), ("1", 1), ("LA", (200, 255)), ("I;16", 40_000), ("P", 3), ("CMYK", (9, 9, 9, 9))):
        picture(tmp_path / f"{mode[0]}{len(mode)}.{'tif' if mode == 'CMYK' else 'png'}", colour, (9, 31), mode)
    data = folder(tmp_path)
    assert data.image_shape == (3, 8, 8)
    assert len(data.train) + len(data.val) + len(data.test) == len(names) + 6
    images = torch.cat([split.batch(split.all())[0] for split in (data.train, data.val, data.test)])
    assert images.dtype == torch.uint8
    assert images.shape[1:] == (3, 8, 8)


def test_a_picture_is_turned_cropped_and_resized(tmp_path):
    image = Image.new("RGB", (60, 20))
    image.paste(RED, (0, 0, 30, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90°: what is left in the file is at the top
    image.save(tmp_path / "a.png", exif=exif)
    found = View(channels=3, size=10).read(str(tmp_path / "a.png"))
    assert found[:, :4].float().mean((1, 2)).tolist() == pytest.approx(RED, abs=3)
    assert found[:, 6:].float().mean() < 3
    image.save(tmp_path / "b.png")
    found = View(channels=3, size=10).read(str(tmp_path / "b.png"))  # its middle, half red
    assert found[:, :, :4].float().mean((1, 2)).tolist() == pytest.approx(RED, abs=3)


@pytest.mark.parametrize(("background", "brightness"), [("white", 255), ("grey", 128), ("black", 0)])
def test_transparent_pixels_show_the_background(background, brightness, tmp_path):
    names = numbered(8)
    for name in names:
        picture(tmp_path / name, (99, 99, 99, 255), mode="RGBA", size=(8, 8))  # the other half is transparent
    data = folder(tmp_path, background=background, channels=3)
    (image,), _ = data.train.batch(torch.tensor([0]))
    assert (image[:, :, :3] == 99).all()
    assert (image[:, :, 5:] == brightness).all()


@pytest.mark.parametrize(("shades", "channels"), [([(9, 9, 9), (200, 200, 200)], 1), ([(9, 9, 9), RED], 3)])
def test_colour_is_found_where_one_picture_has_it(shades, channels, tmp_path):
    for number, name in enumerate(numbered(12)):
        picture(tmp_path / name, shades[number % 5 == 0])
    assert folder(tmp_path).image_shape[0] == channels
    assert folder(tmp_path, channels=1).image_shape[0] == 1


@given(st.data())
@settings(max_examples=40)
def test_splits_share_nothing_and_cover_all(data):
    classes = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=6))
    names = [f"{chr(97 + kind)}/{index}.png" for kind, size in enumerate(classes) for index in range(size)]
    own = data.draw(st.booleans())
    names = [f"train/{name}" for name in names] + [f"test/{name}" for name in names[:7]] * own
    assume(sum(classes) > 12)
    with tempfile.TemporaryDirectory() as root:
        for name in names:
            Path(root, name).parent.mkdir(parents=True, exist_ok=True)
            Path(root, name).touch()
        listing = list_pictures(root)
        division = divide(listing)
    parts = [division.train, division.val, division.test]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(names)))
    for index in np.concatenate(parts):
        label = division.labels[index]
        if division.classes:
            assert f"/{division.classes[label]}/" in f"/{listing.names[index]}"
        else:
            assert label == -1
    if own:
        assert {listing.names[i].split("/")[0] for i in division.test} <= {"test", "train"}


def test_own_splits_are_kept_and_a_missing_one_is_held_out(tmp_path):
    pictures(tmp_path, [*numbered(20, "train/cat/"), *numbered(20, "train/dog/"), *numbered(5, "test/cat/")])
    data = folder(tmp_path)
    assert [len(split) for split in (data.train, data.val, data.test)] == [36, 4, 5]
    assert data.classes == 2
    assert set(data.test.batch(data.test.all())[1].tolist()) == {0}


def test_the_first_images_of_a_split_are_of_all_classes(tmp_path):
    pictures(tmp_path, [*numbered(40, "a/"), *numbered(40, "b/"), *numbered(40, "c/")])
    data = folder(tmp_path)
    for split in (data.train, data.test):
        assert len(set(split.batch(split.all()[:9])[1].tolist())) > 1


def test_the_split_belongs_to_the_folder_and_not_to_the_seed(tmp_path):
    pictures(tmp_path, numbered(40))
    one, other = folder(tmp_path, seed=0), folder(tmp_path, seed=1)
    assert torch.equal(one.test.batch(one.test.all())[0], other.test.batch(other.test.all())[0])
    assert one.name == other.name
    picture(tmp_path / "more.png")
    assert folder(tmp_path).name != one.name


def test_a_damaged_picture_among_many_is_skipped_and_named(tmp_path, caplog):
    pictures(tmp_path, numbered(60))
    (tmp_path / "broken.png").write_bytes((tmp_path / "000.png").read_bytes()[:40])
    (tmp_path / "notes.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    with caplog.at_level(logging.INFO):
        data = folder(tmp_path)
    assert len(data.train) + len(data.val) + len(data.test) == 60
    assert "Skipped 1 of 61 pictures that cannot be read: broken.png" in caplog.text
    assert "skipped 2 other files (.mp4 and .pdf)" in caplog.text or "(.pdf and .mp4)" in caplog.text


def test_pictures_that_do_not_fit_into_memory_are_read_from_disk(tmp_path):
    pictures(tmp_path, [*numbered(30, "a/"), *numbered(30, "b/")])
    (tmp_path / "a" / "broken.png").write_bytes(b"")
    held, read = folder(tmp_path, memory=2.0), folder(tmp_path, memory=0.0, workers=0)
    images, labels = read.test.batch(read.test.all())
    assert torch.equal(images, held.test.batch(held.test.all())[0])
    assert torch.equal(labels, held.test.batch(held.test.all())[1])


def only(what: Callable[[Path], object]) -> Callable[[Path], str]:
    """Make a folder by one action, and return its path."""

    def make(root: Path) -> str:
        root.mkdir()
        what(root)
        return str(root)

    return make


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda root: str(root), r"`data.root` \(=.*\) does not exist; name the folder"),
        (lambda root: str(picture(root.with_suffix(".png"))), r"is a file, not a folder"),
        (only(lambda root: None), r"holds no pictures; name a folder with files that end in \.png"),
        (only(lambda root: (root / "a.pdf").touch()), r"holds no pictures, only 1 other file \(\.pdf\)"),
        (
            only(
                lambda root: [Image.fromarray(-np.ones((9, 9), np.float32)).save(root / f"{i}.tif") for i in range(9)]
            ),
            r"9 of 9 pictures cannot be read, such as 0.tif \(pixels below 0\)",
        ),
        (only(lambda root: picture(root / "a.png")), r"holds 1 picture, .* but must hold at least 2 and 2; add"),
        (only(lambda root: [(root / name).touch() for name in numbered(9)]), r"9 of 9 pictures cannot be read.*empty"),
        (
            only(lambda root: (pictures(root, numbered(50)), [(root / f"b{i}.png").touch() for i in range(15)])),
            r"of \d+ pictures cannot be read, such as .*but at most 5% may be so; replace them",
        ),
        (
            only(lambda root: pictures(root, [*numbered(9, "val/"), *numbered(9, "train/"), *numbered(9, "valid/")])),
            r"has two folders for one split, val and valid; join or rename them",
        ),
    ],
)
def test_folders_that_cannot_be_used_are_a_sentence(make, sentence, tmp_path):
    with pytest.raises(DataError, match=sentence) as refusal:
        folder(make(tmp_path / "pics"))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"root": None}, r"data=folder requires `data.root`, the folder of your pictures"),
        ({"image_size": 4}, r"`data.image_size` \(=4\) must be ≥ 8"),
        ({"channels": 2}, r"`data.channels` \(=2\) must be one of: 1, 3, auto|`data.channels` \(=2\) must be one of"),
        ({"background": "pink"}, r"`data.background` \(='pink'\) must be one of: white, grey, black"),
    ],
)
def test_settings_are_checked(settings, sentence, tmp_path):
    with pytest.raises(ConfigError, match=sentence):
        ImageFolder(**{"batch_size": 4, "root": str(tmp_path), **settings})


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_permission_is_named(tmp_path):
    pictures(tmp_path, numbered(9, "a/"))
    (tmp_path / "a").chmod(0)
    try:
        with pytest.raises(DataError, match=r"a cannot be read \(Permission denied\)"):
            folder(tmp_path)
    finally:
        (tmp_path / "a").chmod(0o700)


def test_links_in_a_circle_end(tmp_path):
    pictures(tmp_path, numbered(9))
    (tmp_path / "again").symlink_to(tmp_path)
    assert len(list_pictures(str(tmp_path)).names) == 9


def test_what_is_no_file_is_skipped_and_counted(tmp_path):
    pictures(tmp_path, numbered(9))
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "none" / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "linked.png").symlink_to("000.png")
    listing = list_pictures(str(tmp_path))
    assert listing.names == [*numbered(9), "linked.png"]
    assert listing.skipped == "3 other files (links that lead nowhere, pipes and devices)"


@pytest.mark.parametrize("split", ["train", "test"])
def test_in_memory_and_on_disk_as_many_pictures_may_be_damaged(split, tmp_path):
    root = pictures(tmp_path / "pics", numbered(60))
    listing = list_pictures(root)
    for number, index in enumerate(getattr(divide(listing), split)[:4], 1):
        Path(root, listing.names[index]).write_bytes(b"")
        for memory in (2.0, 0.0):
            data = ImageFolder(batch_size=4, root=root, image_size=8, memory=memory, workers=0)
            if number <= 3:  # 5 % of 60
                data.setup()
                data.train.batch(data.train.all())
            else:
                with pytest.raises(DataError, match="4 of 60 pictures cannot be read"):
                    data.setup()


@given(st.binary(max_size=200))
@settings(max_examples=60)
def test_bytes_that_are_no_picture_are_unreadable(content):
    with tempfile.TemporaryDirectory() as root:
        path = Path(root, "a.png")
        path.write_bytes(content)
        with pytest.raises(Unreadable, match=r"^[^\n]+$"):  # a picture of 200 random bytes would be a wonder
            View(channels=3, size=8).read(str(path))


def test_a_run_on_own_pictures_is_trained_loaded_and_shown(launch, tmp_path):
    pictures(tmp_path / "pics", [*numbered(40, "cat/"), *numbered(40, "dog/")])
    run = launch("data=folder", f"data.root={tmp_path / 'pics'}", "data.image_size=16", "data.batch_size=8")
    results = json.loads((run / "results.json").read_text())
    assert results["data"].startswith("pics-")
    assert results["config"]["data"]["channels"] == 3
    assert (run / "figures" / "data.png").is_file()
    loaded = load_run(run)
    assert loaded.datamodule.class_names == ("cat", "dog")
    title, image = find_image("dog", "a", 0, loaded.datamodule)
    assert title.endswith(" (label dog)")
    assert image.shape == (1, 3, 16, 16)
    with pytest.raises(ConfigError, match=r"`a` \(=cow\) must be a label \(cat … dog\), index:N below 8, or an image"):
        find_image("cow", "a", 0, loaded.datamodule)
    assert loaded.model.encode(torch.zeros(2, 3, 16, 16)).shape == (2, 32)
    moved = (tmp_path / "pics").rename(tmp_path / "moved")
    assert load_run(run).model.decode(torch.zeros(1, 32)).shape == (1, 3, 16, 16)
    assert len(load_run(run, root=str(moved)).datamodule.test) == 8


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "cat" / "003.png").unlink(),
        lambda root: picture(root / "cat" / "new.png"),
        lambda root: picture(root / "cat" / "003.png", size=(50, 50)),
    ],
)
def test_a_run_is_not_measured_on_pictures_that_have_changed(change, launch, tmp_path, caplog):
    root = tmp_path / "pics"
    pictures(root, [*numbered(40, "cat/"), *numbered(40, "dog/")])
    run = launch("data=folder", f"data.root={root}", "data.image_size=16", "data.batch_size=8")
    before = load_run(run).datamodule.name
    change(root)
    with pytest.raises(DataError, match=f"^this run was trained on data={before}, but that is now .*name a folder by "):
        load_run(run).datamodule.setup()
    caplog.clear()
    load_run(run, root=str(root)).datamodule.setup()
    assert f"This run was trained on data={before}, but that is now" in caplog.text
