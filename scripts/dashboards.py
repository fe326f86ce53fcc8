"""Draw the pictures of the manual's page on TensorBoard: python -m scripts.dashboards SWEEP.

SWEEP is the folder of a sweep with results. It requires Chromium.
"""

import contextlib
import io
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from interp_lightning.system.disk import replace
from scripts.chromium import Browser, chromium

FOLDER = Path(__file__).parents[1] / "docs" / "dashboards"
WIDTH, HEIGHT = 1280, 800
COLOURS = 128  # of a picture: few bytes, and no difference to the eye
PATIENCE = 60  # seconds until TensorBoard answers
SETTLED = 8.0  # seconds until a tab has loaded its data and drawn it
# Tabs by the name of their picture, and what is clicked there: scripts that find an element.
TABS = {
    "curves": ("timeseries", []),
    "players": ("custom_scalars", []),
    "images": ("images", []),
    "hparams": ("hparams", []),
    "parallel": ("hparams", ["PARALLEL COORDINATES VIEW"]),
    "projector": ("projector", []),
    "text": ("text", []),
}
CLICK = """
(() => {
  const roots = [document];
  while (roots.length) {
    for (const element of roots.pop().querySelectorAll("*")) {
      if (element.shadowRoot) roots.push(element.shadowRoot);
      if (element.children.length === 0 && element.textContent.trim().toUpperCase() === "%s") element.click();
    }
  }
})()
"""


@contextlib.contextmanager
def tensorboard(folder: Path) -> Iterator[str]:
    """Serve a folder, and yield the address."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port", str(port)]
    process = subprocess.Popen([*command, "--load_fast=false"], stderr=subprocess.DEVNULL)
    address, end = f"http://localhost:{port}/", time.monotonic() + PATIENCE
    try:
        while time.monotonic() < end:
            with contextlib.suppress(urllib.error.URLError):
                urllib.request.urlopen(address).close()
                break
            time.sleep(0.5)
        time.sleep(SETTLED)
        yield address
    finally:
        process.terminate()
        process.wait()


def draw(browser: Browser, address: str, tab: str, clicks: list[str], file: Path) -> None:
    """Write a picture of a tab."""
    browser.open("about:blank")
    browser.open(f"{address}#{tab}", WIDTH, HEIGHT)
    time.sleep(SETTLED)
    for text in clicks:
        browser.run(CLICK % text)
        time.sleep(SETTLED)
    browser.screenshot(file, whole=False)
    picture = io.BytesIO()
    Image.open(file).convert("RGB").quantize(COLOURS).save(picture, "PNG", optimize=True)
    replace(file, picture.getvalue())
    print(f"{file}: {file.stat().st_size / 1024:.0f} KB")


def main() -> None:
    """Draw all pictures."""
    FOLDER.mkdir(exist_ok=True)
    with tensorboard(Path(sys.argv[1])) as address, chromium() as browser:
        for name, (tab, clicks) in TABS.items():
            draw(browser, address, tab, clicks, FOLDER / f"{name}.png")


if __name__ == "__main__":
    main()
