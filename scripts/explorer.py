"""Draw docs/explore.png and measure how soon the picture follows α: python -m scripts.explorer run=DIR.

Takes the settings of `interp-lightning explore`. It requires Chromium.
"""

import statistics
import sys
from pathlib import Path

from interp_lightning.commands.explore import Settings, load
from interp_lightning.commands.settings import read_settings
from interp_lightning.explorer.page import served
from scripts.chromium import Browser, chromium

PICTURE = Path(__file__).parents[1] / "docs" / "explore.png"
WIDTH, HEIGHT = 1280, 900
SHOWN = "document.querySelectorAll('.path.known[data-frame]').length > 0"
ALPHA = 0.4
# The time from moving the slider until the browser has painted, in milliseconds, and all pixels of the first picture.
DRAG = """
(async () => {
  const slider = document.querySelector("#alpha input[type=range]");
  const canvas = document.querySelector(".path .now");
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const found = [];
  for (let step = 0; step <= 100; step++) {
    await painted();
    const start = performance.now();
    slider.value = step / 100;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    await painted();
    const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.join();
    found.push([performance.now() - start, pixels]);
  }
  return found;
})()
"""


def measure(browser: Browser) -> str:
    """Return a sentence: how long 101 positions of the slider take."""
    times, pictures = zip(*browser.run(DRAG), strict=True)
    middle, most = statistics.median(times), max(times)
    return f"{len(times)} positions, {len({*pictures})} pictures: median {middle:.0f} ms, at most {most:.0f} ms"


def draw(browser: Browser, address: str, file: Path) -> None:
    """Write a picture of the whole page, with α at a position that shows something."""
    browser.open(address, WIDTH, HEIGHT)
    browser.wait(SHOWN)
    height = browser.run("document.querySelector('.gradio-container').scrollHeight")
    browser.open(address, WIDTH, height)
    browser.wait(SHOWN)
    browser.run(f"document.querySelector('.strip [data-frame=\"{ALPHA * 100:.0f}\"]').click()")
    browser.run("new Promise((done) => setTimeout(done, 500))")
    browser.screenshot(file)


def main() -> None:
    """Serve a run, draw its page and measure."""
    settings = read_settings(sys.argv[1:], Settings)
    with served(load(settings), settings.port or None) as address, chromium() as browser:
        draw(browser, address, PICTURE)
        print(measure(browser))
        print(f"{PICTURE}: {PICTURE.stat().st_size / 1024:.0f} KB")
        elsewhere = {url for url in browser.requests if not url.startswith((address, "data:"))}
        print(f"{len(browser.requests)} requests, to other hosts: {elsewhere or 'none'}; errors: {browser.errors}")


if __name__ == "__main__":
    main()
