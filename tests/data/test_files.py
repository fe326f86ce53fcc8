"""Users' own picture files: photographed digits are read back, damaged and foreign files get a sentence."""

import io
import os
import subprocess
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter

from interp_lightning.data.digits import Digits
from interp_lightning.data.files import read_image
from interp_lightning.data.lines import Lines
from interp_lightning.errors import DataError
from interp_lightning.metrics.features import digit_network

PAPER, PEN = 235, 40
ITEMS = (0, 3, 8, 14, 21)  # test digits
Pixels = np.ndarray


@cache
def digits() -> Digits:
    return Digits(64)


def mask(item: int, size: int) -> Image.Image:
    image = Image.fromarray(digits().test.images[item, 0].numpy())
    return image.resize((size, size), Image.Resampling.BICUBIC)


def page(item: int, pen: int = PEN, paper: int = PAPER, size: int = 150, side: int = 500) -> Pixels:
    sheet = Image.new("L", (side, side), paper)
    sheet.paste(Image.new("L", (size, size), pen), (3 * side // 8, side // 3), mask(item, size))
    return np.asarray(sheet).astype(np.float32)


def falling(pixels: Pixels, darkest: float) -> Pixels:
    y, x = np.mgrid[0 : 1 : pixels.shape[0] * 1j, 0 : 1 : pixels.shape[1] * 1j]
    return pixels * (darkest + (1 - darkest) * (x + y) / 2)


def vignette(pixels: Pixels) -> Pixels:
    y, x = np.mgrid[-1 : 1 : pixels.shape[0] * 1j, -1 : 1 : pixels.shape[1] * 1j]
    return pixels * (1 - 0.25 * (x**2 + y**2))


def table(item: int, share: float, turn: float = 0) -> Pixels:
    sheet = Image.fromarray(page(item, side=int(600 * share**0.5)).astype(np.uint8))
    outline = Image.new("L", sheet.size, 255).rotate(turn, expand=True)
    sheet, whole = sheet.rotate(turn, expand=True), Image.new("L", (600, 600), 60)
    whole.paste(sheet, ((600 - sheet.width) // 2, (600 - sheet.height) // 2), outline)
    return np.asarray(whole).astype(np.float32)


def ruled(pixels: Pixels, turn: float = 0, down: bool = True) -> Pixels:
    lines = Image.new("L", (1200, 1200), 255)
    draw = ImageDraw.Draw(lines)
    for at in range(7, 1200, 30):
        draw.line([(0, at), (1200, at)], fill=185, width=2)
        if down:
            draw.line([(at, 0), (at, 1200)], fill=185, width=2)
    lines = lines.rotate(turn, Image.Resampling.BICUBIC, fillcolor=255).crop((300, 300, 800, 800))
    return np.minimum(pixels, np.asarray(lines, dtype=np.float32) * PAPER / 255)


def noisy(pixels: Pixels, deviation: float = 6) -> Pixels:
    return pixels + np.random.default_rng(0).normal(0, deviation, pixels.shape)


def blurred(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels.astype(np.uint8)).filter(ImageFilter.GaussianBlur(2))).astype(np.float32)


PHOTOGRAPHS: dict[str, Callable[[int], Pixels]] = {
    "plain": page,
    "light falls to 0.5": lambda item: falling(page(item), 0.5),
    "light falls on pencil": lambda item: noisy(falling(page(item, pen=160), 0.6), 3),
    "vignette": lambda item: vignette(page(item)),
    "dark table, 90 %": lambda item: table(item, 0.9),
    "dark table, 50 %": lambda item: table(item, 0.5),
    "dark table, turned": lambda item: table(item, 0.4, turn=10),
    "squared": lambda item: ruled(page(item)),
    "squared, turned": lambda item: ruled(page(item), turn=4),
    "ruled": lambda item: ruled(page(item), down=False),
    "small": lambda item: page(item, size=100, side=2000),
    "noise and blur": lambda item: noisy(blurred(page(item))),
    "chalk": lambda item: falling(page(item, pen=230, paper=50), 0.6),
    "pencil": lambda item: page(item, pen=195),
}


def label_of(image: torch.Tensor) -> int:
    with torch.inference_mode():
        return int(digit_network()(image)[1].argmax())


@pytest.mark.parametrize("kind", PHOTOGRAPHS)
def test_photographed_digits_are_read_back(kind, tmp_path):
    right = 0
    for item in ITEMS:
        Image.fromarray(PHOTOGRAPHS[kind](item).clip(0, 255).astype(np.uint8)).save(tmp_path / "photo.png")
        image, inverted = read_image(tmp_path / "photo.png", digits())
        assert inverted == (kind != "chalk")
        right += label_of(image) == int(digits().test.labels[item])
    assert right >= len(ITEMS) - 1


@pytest.mark.parametrize(
    ("scale", "kind"),
    [(1, np.float32), (255, np.float32), (0.01, np.float32), (1_000_000, np.int32)]
    + [(2**bits - 1, np.uint16) for bits in (8, 10, 12, 14, 16)]
    + [(1, np.uint8), (16, np.uint8)],
)
def test_pixels_of_no_fixed_range_are_read_by_their_own(scale, kind, tmp_path):
    for item in ITEMS[:3]:
        plain = 255 - np.asarray(mask(item, 200)).astype(np.float32)
        Image.fromarray(plain.astype(np.uint8)).save(tmp_path / "plain.png")
        values = plain / 255 * scale
        Image.fromarray((values if kind == np.float32 else values.round()).astype(kind)).save(tmp_path / "own.tif")
        own, expected = (read_image(tmp_path / name, digits())[0] for name in ("own.tif", "plain.png"))
        assert label_of(own) == int(digits().test.labels[item])
        if scale > 16 or kind == np.float32:
            torch.testing.assert_close(own, expected, atol=0.05, rtol=0)


@given(
    st.integers(0, 2**32 - 1), st.floats(0.0, 1.0, allow_subnormal=False), st.floats(0.1, 1.0, allow_subnormal=False)
)
@settings(max_examples=20)
def test_images_that_are_no_drawings_are_never_inverted(tmp_path_factory, seed, brightness, contrast):
    scene = np.random.default_rng(seed).random((40, 40)) * contrast
    scene = (255 * (scene + brightness * (1 - contrast))).astype(np.uint8).repeat(2, 0).repeat(2, 1)
    path = tmp_path_factory.getbasetemp() / "scene.png"
    Image.fromarray(scene).save(path)
    image, inverted = read_image(path, Lines(64))
    assert not inverted
    expected = torch.from_numpy(scene / 127.5 - 1).mean()
    assert image.mean() == pytest.approx(float(expected), abs=0.02)


@cache
def written() -> dict[str, bytes]:
    """A digit in each format that Pillow writes here."""
    grey, files = Image.fromarray(page(0, size=40, side=64).astype(np.uint8)), {}
    Image.init()
    for name in sorted(Image.SAVE):
        for image in (grey, grey.convert("RGB"), grey.convert("P"), grey.convert("1"), grey.convert("F")):
            content = io.BytesIO()
            try:
                image.save(content, name)
            except Exception:
                continue
            files[f"{name} {image.mode}"] = content.getvalue()
    return files


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file of any format: cut off, or with bytes changed, added or removed."""
    name = draw(st.sampled_from(sorted(written())))
    content = bytearray(written()[name])
    for _ in range(draw(st.integers(1, 4))):
        # Headers are where decoders believe numbers.
        at = draw(st.integers(0, min(len(content), 64)) | st.integers(0, len(content)))
        match draw(st.sampled_from(["cut", "flip", "insert", "remove"])):
            case "cut":
                del content[at:]
            case "flip" if at < len(content):
                content[at] ^= draw(st.integers(1, 255))
            case "insert":
                content[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "remove":
                del content[at : at + draw(st.integers(1, 8))]
    return name, bytes(content)


@given(damaged())
@settings(max_examples=300)
def test_damaged_files_are_an_image_or_a_sentence(tmp_path_factory, file):
    _, content = file
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            image, _ = read_image(path, digits())
        except DataError:
            return
    assert image.shape == (1, 1, 32, 32)
    assert image.isfinite().all()
    assert image.abs().max() <= 1


@pytest.mark.parametrize(
    "error", [AssertionError(), KeyError("x"), MemoryError(), RecursionError("a\nb"), OverflowError(), EOFError()]
)
def test_whatever_a_decoder_raises_is_a_sentence(error, tmp_path, monkeypatch):
    def fail(image: Image.Image) -> None:
        raise error

    Image.fromarray(page(0).astype(np.uint8)).save(tmp_path / "image.png")
    monkeypatch.setattr("PIL.ImageOps.exif_transpose", fail)
    with pytest.raises(DataError, match=rf"image\.png cannot be read \({type(error).__name__}.*\); name a PNG"):
        read_image(tmp_path / "image.png", digits())


@pytest.mark.parametrize("name", ["image.eps", "image.png"])
def test_no_other_program_is_started(name, tmp_path, monkeypatch):
    started: list[object] = []
    for function in ("run", "call", "check_call", "check_output", "Popen"):
        monkeypatch.setattr(subprocess, function, lambda *arguments, **_: started.append(arguments))
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *arguments: started.append(arguments))
    Image.fromarray(page(0).astype(np.uint8)).save(tmp_path / name, "EPS")
    with pytest.raises(DataError, match=r"is PostScript, which cannot be read; convert it to JPEG or PNG"):
        read_image(tmp_path / name, digits())
    assert not started


def test_heic_is_named(tmp_path):
    (tmp_path / "phone.jpg").write_bytes(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(100))
    with pytest.raises(DataError, match=r"phone\.jpg is HEIC \(or a film\), which cannot be read; convert it to JPEG"):
        read_image(tmp_path / "phone.jpg", digits())


def test_a_pipe_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png is no file"):
        read_image(tmp_path / "pipe.png", digits())
    with pytest.raises(DataError, match=r"/dev/zero is no file"):
        read_image(Path("/dev/zero"), digits())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -9999.0])
def test_values_that_are_no_brightness(bad, tmp_path):
    values = page(0) / 255
    values[0, 0] = bad
    Image.fromarray(values).save(tmp_path / "values.tif")
    with pytest.raises(DataError, match=r"values\.tif has pixels from .* which must be finite and ≥ 0; save it as PNG"):
        read_image(tmp_path / "values.tif", digits())


BLANK = {
    "light falling off": lambda: falling(np.full((500, 400), PAPER, dtype=np.float32), 0.5),
    "vignette": lambda: vignette(np.full((500, 400), PAPER, dtype=np.float32)),
    "noise": lambda: noisy(np.full((500, 400), PAPER, dtype=np.float32), 10),
    "ruled": lambda: ruled(np.full((500, 500), PAPER, dtype=np.float32), down=False),
    "black": lambda: np.zeros((50, 50), dtype=np.float32),
}


@pytest.mark.parametrize("kind", BLANK)
def test_a_page_without_a_drawing_is_blank(kind, tmp_path):
    Image.fromarray(BLANK[kind]().clip(0, 255).astype(np.uint8)).save(tmp_path / "page.png")
    with pytest.raises(DataError, match=r"page.png is blank: "):
        read_image(tmp_path / "page.png", digits())
