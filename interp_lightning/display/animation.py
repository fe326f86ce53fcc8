"""Write images as animations: GIF, and MP4 if there is an encoder."""

import importlib
import importlib.util
import io
import shutil
import subprocess
import tempfile
import textwrap
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize, to_image, to_pil_image

from interp_lightning.errors import ConfigError
from interp_lightning.system.text import printable

MP4_REQUIRES = "MP4 requires ffmpeg or imageio-ffmpeg"
FRAME, WIDEST = 256, 512  # pixels of the height, and of the width of a GIF
TEXT, LINE, LETTER = 12, 16, 7  # of a caption: pixels of its letters' height, of a line's, and of a letter's mean width
MILLISECONDS, PAUSE = 60, 800  # duration of a frame, and of the two ends


def gif(frames: Float[Tensor, "T C H W"], caption: str = "") -> bytes:
    """Return images in [−1, 1] as an endless GIF that plays forwards and backwards.

    Args:
        frames: the images.
        caption: lines of text below each.
    """
    height, width = frames.shape[2:]
    tall = min(FRAME, round(WIDEST * height / width))
    size = [tall, round(tall * width / height)]
    large = resize((frames.float().clamp(-1, 1) + 1) / 2, size, antialias=True).clamp(0, 1)
    there = [to_pil_image(frame) for frame in _captioned(large, caption)]
    turn = [PAUSE] + [MILLISECONDS] * (len(there) - 2)
    file = io.BytesIO()
    back = [*there[1:], *there[-2:0:-1]]
    there[0].save(file, "GIF", save_all=True, append_images=back, duration=[*turn, *turn], loop=0)
    return file.getvalue()


def encoder() -> str | None:
    """Return the ffmpeg to call, the system's or imageio-ffmpeg's; None if there is neither."""
    if found := shutil.which("ffmpeg"):
        return found
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        return None
    found = importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()
    return str(found)


def mp4(frames: Float[Tensor, "T C H W"], caption: str = "") -> bytes:
    """Return images in [−1, 1] as a film that plays forwards and backwards, once.

    Args:
        frames: the images.
        caption: lines of text below each.

    Raises:
        ConfigError: there is no encoder, or it fails.
    """
    program = encoder()
    if program is None:
        raise ConfigError("an MP4 requires an encoder: install ffmpeg, or pip install imageio-ffmpeg; or save a GIF")
    film = _pixels(torch.cat([frames, frames.flip(0)[1:]]), caption)
    height, width = film.shape[1:3]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "film.mp4"
        options = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {1000 / MILLISECONDS:.3f} -i - -pix_fmt yuv420p"
        command = [program, "-y", "-loglevel", "error", *options.split(), str(file)]
        done = subprocess.run(command, input=film.numpy().tobytes(), capture_output=True, check=False)
        if done.returncode or not file.is_file():
            reason = " ".join(done.stderr.decode(errors="replace").split())[:200]
            raise ConfigError(f"{program} could not make the MP4 ({reason}); save a GIF")
        return file.read_bytes()


def _captioned(images: Float[Tensor, "T C H W"], caption: str) -> Float[Tensor, "T C h W"]:
    """Write a caption below images in [0, 1], in lines that fit their width; the height stays even."""
    width = images.shape[3]
    lines = [part for line in caption.split("\n") for part in textwrap.wrap(printable(line), max(8, width // LETTER))]
    if not lines:
        return images
    strip = Image.new("L", (width, 2 * (LINE * len(lines) // 2 + 2)))
    font = ImageFont.truetype(findfont(FontProperties()), TEXT)
    for number, line in enumerate(lines):
        ImageDraw.Draw(strip).text((width / 2, 2 + LINE * number), line, 255, font, "ma")
    below = to_image(strip).to(images) / 255
    return torch.cat([images, below.expand(*images.shape[:2], -1, -1)], dim=2)


def _pixels(frames: Float[Tensor, "T C H W"], caption: str) -> UInt8[Tensor, "T h w 3"]:
    """Enlarge images without smoothing, to even sides, which films must have."""
    scale = 2 * max(1, FRAME // frames.shape[2] // 2)
    size = [side * scale for side in frames.shape[2:]]
    large = resize(frames.float(), size, InterpolationMode.NEAREST).clamp(-1, 1).expand(-1, 3, -1, -1)
    return (_captioned((large + 1) / 2, caption) * 255).round().byte().movedim(1, 3).contiguous()
