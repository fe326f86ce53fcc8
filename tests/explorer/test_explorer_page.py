"""The explorer's page, in headless Chromium."""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

pytest.importorskip("gradio")

from interp_lightning.commands import explore
from interp_lightning.commands.interpolate import find_image
from interp_lightning.data.digits import Digits
from interp_lightning.explorer.ends import EXAMPLES
from interp_lightning.explorer.page import served
from interp_lightning.explorer.state import Explorer
from interp_lightning.runs.load import load_run
from scripts.chromium import PROGRAM, Browser, chromium

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no Chromium")

ROWS = "document.querySelectorAll('.path.known[data-frame]').length == {}"
PICTURE = "document.querySelector('.path .now').toDataURL()"
MOVE = """(() => {{
  const slider = document.querySelector("#alpha input[type=range]");
  slider.value = {};
  slider.dispatchEvent(new Event("input", {{ bubbles: true }}));
}})()"""
NUMBER = """(() => {{
  const number = document.querySelector("#end-A .number input");
  number.value = {};
  number.dispatchEvent(new Event("input", {{ bubbles: true }}));
}})()"""


@pytest.fixture(scope="module")
def page(trained, tmp_path_factory) -> Iterator[tuple[Browser, str]]:
    run = Path(shutil.copytree(trained["acai"], tmp_path_factory.mktemp("page") / "run"))
    with served(Explorer([load_run(run)], torch.device("cpu"))) as address, chromium() as browser:
        browser.open(address)
        browser.wait(ROWS.format(2))
        yield browser, address


def test_the_picture_follows_alpha_and_asks_nothing(page):
    browser, _ = page
    browser.run(MOVE.format(0))
    first, before = browser.run(PICTURE), len(browser.requests)
    browser.run(MOVE.format(1))
    assert browser.run(PICTURE) != first
    assert browser.run("document.querySelector('.path .current').dataset.frame") == "100"
    assert browser.run("document.querySelector('.path').dataset.frame") == "100"
    browser.run(MOVE.format(0))
    assert browser.run(PICTURE) == first
    assert [url for url in browser.requests[before:] if not url.startswith("data:")] == []


@pytest.mark.parametrize(("width", "height", "pictures"), [(1280, 900, 2), (1280, 720, 2), (360, 740, 1)])
def test_the_slider_and_pictures_are_seen_at_once_and_the_slider_stays(width, height, pictures, page):
    browser, address = page
    browser.open(address, width, height)
    browser.wait(ROWS.format(2))
    seen = browser.run(
        f"[...document.querySelectorAll('#alpha, .path .now')].every((each, at) => at > {pictures} || "
        "(({top, bottom}) => top >= 0 && bottom <= innerHeight)(each.getBoundingClientRect()))"
    )
    browser.run("document.querySelectorAll('.path')[1].scrollIntoView({behavior: 'instant', block: 'end'})")
    slider = browser.run("document.querySelector('#alpha').getBoundingClientRect().top")
    wide = browser.run("document.documentElement.scrollWidth")
    browser.open(address)
    browser.wait(ROWS.format(2))
    assert seen
    assert slider >= 0
    assert wide <= width


def test_the_first_ends_are_typical_images_of_their_labels(page):
    browser, _ = page
    data = Digits(64)
    for name, label in (("A", 0), ("B", 2)):
        expected, _ = find_image(str(label), name, 0, data)
        assert browser.run(f"document.querySelector('#end-{name} .end figcaption').textContent") == expected


def test_a_click_on_a_frame_moves_alpha(page):
    browser, _ = page
    browser.run("document.querySelectorAll('.path .strip button')[7].click()")
    assert browser.run("document.querySelector('#alpha input[type=range]').value") == "0.7"
    assert browser.run("document.querySelector('.path').dataset.frame") == "70"


def test_another_end_or_a_sentence(page):
    browser, _ = page
    content = "document.querySelector('.path').dataset.content"
    before = browser.run(content)
    chosen = int(browser.run("document.querySelector('#end-A .number input').value"))
    browser.run(f"document.querySelectorAll('#end-A .gallery button')[{(chosen + 1) % EXAMPLES}].click()")
    browser.wait(f"{content} != {before!r}")
    browser.run(NUMBER.format(999))
    said = browser.wait("document.querySelector('#end-A .problem')?.textContent")
    assert said.startswith("number (=999) must be an integer from 0 to ")
    kept = browser.run("document.querySelector('#end-A .end figcaption').textContent")
    assert said.endswith(f"; {kept} is kept")
    browser.run(NUMBER.format(1))
    browser.wait("!document.querySelector('#end-A .problem')")


def test_an_upload_that_is_no_image_is_a_sentence(page, tmp_path):
    browser, _ = page
    (tmp_path / "mine.png").write_text("text")
    browser.run(
        "[...document.querySelectorAll('#end-B button')].find((each) => /Upload or/.test(each.textContent)).click()"
    )
    browser.wait("!!document.querySelector('#end-B input[type=file]')")
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    field = browser.call("DOM.querySelector", nodeId=root, selector="#end-B input[type=file]")["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=field, files=[str(tmp_path / "mine.png")])
    said = browser.wait("document.querySelector('#end-B .problem')?.textContent")
    assert said.startswith("mine.png is no image of a known format")


def test_a_grid_between_four_images(page):
    browser, _ = page
    browser.run("[...document.querySelectorAll('[role=tab]')].find((each) => /Four/.test(each.textContent)).click()")
    browser.wait("!!document.querySelector('.grid.known[data-frame]')")
    # In one script, as the page may still move.
    browser.run(
        "(({x, y, width}, map) => map.dispatchEvent(new PointerEvent('pointermove', {bubbles: true, "
        "clientX: x + 0.99 * width, clientY: y + 0.01 * width})))"
        "(document.querySelector('.map').getBoundingClientRect(), document.querySelector('.map'))"
    )
    browser.wait("document.querySelector('.grid').dataset.frame === '10'")


def test_the_page_asks_nothing_of_other_hosts(page):
    browser, address = page
    assert address.startswith("http://127.0.0.1:")
    assert [url for url in browser.requests if not url.startswith((address, "data:"))] == []
    assert browser.errors == []


def test_a_page_that_is_terminated_is_closed_in_order(monkeypatch):
    closed = []

    @contextmanager
    def page(*_: object) -> Iterator[str]:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
        yield "an address"
        closed.append("uploads are deleted")

    monkeypatch.setattr(explore, "load", lambda settings: None)
    monkeypatch.setattr("interp_lightning.explorer.page.served", page)
    before = signal.getsignal(signal.SIGTERM)
    try:
        explore.work(explore.Settings())
    finally:
        signal.signal(signal.SIGTERM, before)
    assert closed
