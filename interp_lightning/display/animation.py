"""Write images as animations: GIF, and MP4 if there is an encoder."""

import importlib
import importlib.util
import io
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision.transforms.v2.functional import InterpolationMode, resize, to_pil_image

from interp_lightning.errors import ConfigError

MP4_REQUIRES = "MP4 requires ffmpeg or imageio-ffmpeg"
FRAME, WIDEST = 256, 512  # pixels of the height, and of the width of a GIF
MILLISECONDS, PAUSE = 60, 800  # duration of a frame, and of the two ends


def gif(frames: Float[Tensor, "T C H W"]) -> bytes:
    """Return images in [−1, 1] as an endless GIF that plays forwards and backwards."""
    height, width = frames.shape[2:]
    tall = min(FRAME, round(WIDEST * height / width))
    size = [tall, round(tall * width / height)]
    large = resize((frames.float().clamp(-1, 1) + 1) / 2, size, antialias=True).clamp(0, 1)
    there = [to_pil_image(frame) for frame in large]
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


def mp4(frames: Float[Tensor, "T C H W"]) -> bytes:
    """Return images in [−1, 1] as a film that plays forwards and backwards, once.

    Raises:
        ConfigError: there is no encoder, or it fails.
    """
    program = encoder()
    if program is None:
        raise ConfigError("an MP4 requires an encoder: install ffmpeg, or pip install imageio-ffmpeg; or save a GIF")
    film = _pixels(torch.cat([frames, frames.flip(0)[1:]]))
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


def _pixels(frames: Float[Tensor, "T C H W"]) -> UInt8[Tensor, "T h w 3"]:
    """Enlarge images without smoothing, to even sides, which films must have."""
    scale = 2 * max(1, FRAME // frames.shape[2] // 2)
    size = [side * scale for side in frames.shape[2:]]
    large = resize(frames.float(), size, InterpolationMode.NEAREST).clamp(-1, 1).expand(-1, 3, -1, -1)
    return ((large + 1) * 127.5).round().byte().movedim(1, 3).contiguous()
