"""The report of a comparison: paths with sliders, tables that can be sorted, and what a browser makes of them."""

import base64
import hashlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from invented import HOSTILE, UNPRINTABLE, Structure, changed, fid, made, write
from PIL import Image

from interp_lightning.comparison.collect import collect
from interp_lightning.comparison.groups import Comparison, Result
from interp_lightning.comparison.labels import varied
from interp_lightning.comparison.report import html
from interp_lightning.comparison.sortable import sortable_tables
from interp_lightning.comparison.walks import FADED, FRAMES, MOST_BYTES, Walks, lines, sprite
from interp_lightning.system.text import printable
from scripts.chromium import PROGRAM, Browser, chromium

PAIRS = 2
MIDPOINTS = "Interpolation, lerp"
OBJECTIVE = "fid_midpoints_lerp"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory) -> Comparison:
    """Three λ with two seeds each. The first two lead in FID but for their order; the last loses to fading pixels."""
    values = {0.003: (9.0, 9.5), 0.1: (4.0, 4.25), 1.0: (16.0, 17.0)}
    runs = [fid(value, seed, lam) for lam, each in values.items() for seed, value in enumerate(each)]
    return made(tmp_path_factory.mktemp("report"), *runs)


def walks_of(labels: list[str], note: str = "") -> Walks:
    """Random paths by settings, the last of which has no graph."""
    torch.manual_seed(0)
    strips = {
        label: {how: torch.rand(PAIRS, FRAMES, 1, 32, 32) * 2 - 1 for how in ("graph", "lerp")} for label in labels
    }
    del strips[labels[-1]]["graph"]
    facts = dict.fromkeys(labels, "score 50%") | {FADED: "score 8%"}
    return Walks(torch.rand(2 * PAIRS, 1, 32, 32) * 2 - 1, strips, facts, note)


@pytest.fixture(scope="module")
def walks(comparison) -> Walks:
    return walks_of([group.label for group in comparison.groups], "Only the best 3 of 9 settings are shown.")


@pytest.fixture(scope="module")
def page(comparison, walks) -> str:
    return html(comparison, {}, walks, OBJECTIVE)


# The first screen


def test_the_answer_comes_first_then_its_table_then_a_note_then_the_pairs(page):
    body = page.partition("<body>")[2]
    answer, table, note, pairs = map(
        body.index, ("<p class=answer>", "<table class=sortable>", "<p class=note>", "<figure class=walk")
    )
    assert answer < table < note < pairs
    assert (
        "Best by FID of midpoints, lerp: lam=0.1, 4.125 ± 0.18 over 2 seeds, further ahead of all others"
        in body[:table]
    )
    first = body[table:note]
    assert re.findall(r'<tr><td class="text key" data-key="([^"]*)"', first) == ["0.1", "0.003", "1.0"]  # best first
    assert re.findall(r"<tr><th scope=row colspan=1>([^<]*)<td class=number>([^<]*)", first) == [
        ("real images", "0.4"), (FADED, "15")
    ]  # fmt: skip
    assert first.count('data-key="240.5" title="240.5 s">4 min') == 3
    assert "measured with" in body[pairs:]


def test_what_is_not_marked_is_said_once_on_the_first_screen(tmp_path):
    body = html(made(tmp_path, fid(4, lam=1), fid(9, lam=2)), {}, None, OBJECTIVE)
    first = body.partition("<h2>")[0]
    assert (
        "4 over 1 seed; uncertain, because each setting has one seed (train several, such as -m seed=0,1,2).<" in first
    )
    assert "<p class=note>Nothing is marked best on this page.<" in first
    assert first.count("one seed") == 1


def test_without_the_objective_the_report_does_without_an_answer(comparison):
    first = html(comparison, {}).partition("<h2>")[0]
    assert "class=answer>" not in first
    assert "<table" not in first


# Paths


@pytest.mark.parametrize("channels", [1, 3])
def test_a_strip_shows_each_frame_as_it_is(channels):
    frames = torch.rand(1, FRAMES, channels, 6, 8) * 2.2 - 1.1
    walks = Walks(
        torch.stack([-torch.ones(channels, 6, 8), torch.ones(channels, 6, 8)]), {"a": {"lerp": frames}}, {"a": ""}
    )
    ((line, faded),) = lines(walks, {"a": "b"})
    for position in range(FRAMES):
        shown = pixels(line.sprites["lerp"])[:, position * 8 : (position + 1) * 8]
        expected = ((frames[0, position].clamp(-1, 1) + 1) * 127.5).round().movedim(0, 2).squeeze(2)
        assert (shown == expected.numpy()).all()
    assert (line.name, faded.name) == ("b", FADED)
    grey = pixels(faded.sprites["lerp"]).reshape(6, FRAMES, 8, -1)
    assert [len(np.unique(grey[:, position])) for position in range(FRAMES)] == [1] * FRAMES
    assert [grey[0, position, 0, 0] for position in (0, 10, 20)] == [0, 128, 255]


def pixels(url: str) -> np.ndarray:
    assert url.startswith("data:image/png;")
    return np.asarray(picture(url))


def picture(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2], validate=True)))


def test_each_pair_has_a_slider_and_a_row_for_each_setting(page):
    figures = re.findall(r"<figure class=walk.*?</figure>", page, re.S)
    assert len(figures) == PAIRS
    for number, figure in enumerate(figures, 1):
        assert f'step=0.05 value=0.5 aria-label="α of pair {number}"' in figure
        assert re.findall(r"<th scope=row>([^<]*?) ?<", figure) == ["lam=0.003", "lam=0.1", "lam=1", FADED]
        assert figure.count("<img") == 2 * 4 - 1  # one setting has no graph
    assert "Only the best 3 of 9 settings are shown." in page


def test_six_settings_and_four_pairs_stay_small(comparison):
    walks = walks_of([group.label for group in comparison.groups])
    assert len(html(comparison, {}, walks)) * 6 / 3 * 4 / PAIRS < 3e6  # even of noise


@pytest.mark.parametrize("noise", [0.05, 1.0])
def test_a_report_of_large_colour_images_stays_below_ten_megabytes(noise, comparison):
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.randn(FRAMES, 3, 32, 32), size=256, mode="bicubic")
    path = (smooth + noise * torch.randn(FRAMES, 3, 256, 256)).expand(4, -1, -1, -1, -1)
    strips = {group.label: {"graph": path, "lerp": path} for group in comparison.groups}
    assert len(html(comparison, {}, Walks(smooth[:8], strips, {}))) < 8e6
    room = MOST_BYTES // (2 * (16 + 1) * 4)  # of sixteen settings
    url = sprite(path[0], room)
    width, height = picture(url).size
    assert len(url) <= room
    assert width == FRAMES * height
    assert height >= 32


def test_a_reduced_strip_shows_the_same_frames():
    shades = torch.linspace(-1, 1, FRAMES).view(-1, 1, 1, 1).expand(-1, 3, 200, 100)
    shown = np.asarray(picture(sprite(shades, 10**6)).convert("L"))
    assert shown.shape == (128, FRAMES * 64)
    middles = shown[64, 32::64].astype(float)
    assert np.abs(middles - np.linspace(0, 255, FRAMES)).max() < 8


# Tables


def test_swept_settings_have_columns_and_numbers_have_keys(comparison):
    table = next(table for table in sortable_tables(comparison) if table.title == MIDPOINTS)
    assert (table.keys, table.headings[0].title, table.headings[0].hint) == (1, "lam", "penalty.lam")
    assert [row[0].key for row in table.rows] == [0.003, 0.1, 1]
    at = [heading.title for heading in table.headings].index("midpoint FID ↓")
    assert table.headings[at].first == "ascending"
    assert [row[at].key for row in table.rows] == [9.25, 4.125, 16.5]
    assert [row[at].best for row in table.rows] == [False, True, False]
    assert (table.rows[1][at].text, table.rows[1][at].spread) == ("4.125", "± 0.18")
    assert table.rows[1][at].hint == (
        "mean 4.125; standard deviation 0.176777; 2 seeds: 4, 4.25. FID of midpoints, lerp: "
        "Fréchet distance of features to those of test images; lower is better"
    )
    assert [title for title, _ in table.anchors] == ["real images", FADED, "noise"]


def test_numbers_to_compare_with_are_not_among_the_rows_that_are_sorted(page):
    table = next(part for part in page.split("<h2>") if part.startswith(MIDPOINTS)).partition("</table>")[0]
    _, rows, anchors = table.split("<tbody")
    assert FADED in anchors
    assert FADED not in rows
    assert "data-key" not in anchors
    assert rows.count('data-key="4.125"') == 1


def test_what_loses_to_fading_pixels_is_not_marked(tmp_path):
    comparison = made(tmp_path, *(fid(value, seed, value) for value in (16, 30) for seed in (0, 1)))
    assert not re.search(r"<td[^>]* best", html(comparison, {}).partition("Codes")[0])


def test_a_number_that_a_run_lacks_sorts_last(tmp_path):
    comparison = made(tmp_path, fid(4), fid(None, lam=1))
    table = next(table for table in sortable_tables(comparison) if table.title == MIDPOINTS)
    assert [row[2].key for row in table.rows if row[2].text == "–"] == [""]


MMD = {"penalty": "mmd", "config.penalty": {"_target_": "a.MMD", "lam": 7}}


def results(*changes: dict) -> list[Result]:
    return [Result(Path(), changed(*each.items())) for each in changes]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([{"config.penalty.lam": 1}, {"config.penalty.lam": 0.5}], {"penalty.lam": ["1", "0.5"]}),
        ([{}, MMD], {"penalty": ["wasserstein", "mmd"]}),
        ([{}, {"config.network.width": 3, "config.latent_dim": 8}], {"latent_dim": ["32", "8"]}),
        (
            [{}, {"config.choices.network": "acai", "config.network._target_": "a.Paper"}],
            {"network": ["fast", "acai"]},
        ),
        ([{}, {"config.network._target_": "a.Paper"}], {}),  # the columns would not tell them apart
        ([{f"config.x{number}": value for number in range(7)} for value in (1, 2)], {}),  # too many
    ],
)  # fmt: skip
def test_columns_are_the_settings_that_tell_runs_apart(changes, expected):
    assert varied(results(*changes)) == expected


# Safety


def test_names_are_texts_wherever_they_stand(tmp_path):
    def shown(texts: list[str]) -> Structure:
        runs = []
        for number, text in enumerate(texts):
            content = changed(("config.penalty.mean", text), ("metrics.fid_midpoints_lerp", 5.0 + number))
            runs.append(write(tmp_path / f"{len(runs)}", content))
        comparison = collect(runs)
        return Structure(html(comparison, {}, walks_of([group.label for group in comparison.groups], texts[0])))

    texts = [*HOSTILE, *UNPRINTABLE]
    usual, page = shown([f"usual{number}" for number, _ in enumerate(texts)]), shown(texts)
    assert page.tags == usual.tags
    assert not [name for tag in page.tags for name in tag[1:] if name.startswith("on") or name == "style"]
    for text in texts:
        assert len(text) > 30 or printable(text) in page.text


def test_only_the_reports_own_style_and_script_are_allowed(page):
    (policy,) = re.findall(r'Content-Security-Policy content="([^"]*)"', page)
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag, source in (("style", "style-src"), ("script", "script-src")):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{source} 'sha256-{digest}'" in policy


# In a browser


MOVE = """(() => {{
  const slider = document.querySelector("figure.walk input");
  slider.value = {};
  slider.dispatchEvent(new Event("input", {{ bubbles: true }}));
}})()"""
TABLE = f"[...document.querySelectorAll('h2')].find((each) => each.textContent === '{MIDPOINTS}').nextElementSibling"
COLUMN = f"[...{TABLE}.querySelectorAll('tbody tr')].map((row) => row.cells[0].textContent)"
HEAD = "[...{table}.querySelectorAll('th')].find((each) => each.textContent.startsWith('{title}'))"
ANCHORS = ["real images", FADED, "noise"]


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory) -> Iterator[Browser]:
    if PROGRAM is None:
        pytest.skip("no Chromium")
    file = tmp_path_factory.mktemp("browser") / "report.html"
    file.write_text(page, encoding="utf-8")
    with chromium() as browser:
        browser.address = file.as_uri()
        yield browser


def opened(browser: Browser, width: int = 1280) -> None:
    browser.open("about:blank")
    browser.open(browser.address, width)
    browser.wait(f"document.querySelectorAll('figure.walk[data-frame]').length == {PAIRS}")


def press(browser: Browser, key: str, text: str = "") -> None:
    for kind in ("keyDown", "keyUp"):
        code = {"Enter": 13, "ArrowRight": 39, "Escape": 27}[key]
        browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text)


def test_a_slider_shows_another_frame_of_every_row_and_of_its_pair_only(browser):
    opened(browser)
    frames = "[...document.querySelectorAll('.path canvas')].map((each) => each.toDataURL())"
    before = browser.run(frames)
    browser.run(MOVE.format(0))
    after = browser.run(frames)
    moved = len(before) // PAIRS
    assert all(one != other for one, other in zip(before[:moved], after[:moved], strict=True))
    assert before[moved:] == after[moved:]
    browser.run("document.querySelector('figure.walk input').focus()")
    press(browser, "ArrowRight")
    assert browser.run("document.querySelector('figure.walk').dataset.frame") == "1"
    assert browser.run("document.querySelector('figure.walk output').value") == "0.05"
    browser.run(MOVE.format(0.5))
    assert browser.run(frames) == before


def test_the_first_screen_of_a_laptop_has_the_answer_and_the_sanity_rows(browser):
    opened(browser)
    bottom = "[...document.querySelectorAll('{}')].at(-1).getBoundingClientRect().bottom"
    assert browser.run(bottom.format("p.answer")) < 200
    anchors = "table.sortable:not(h2 ~ .box table) .anchors tr"
    assert browser.run(f"document.querySelectorAll('{anchors}').length") == 2
    assert browser.run(bottom.format(anchors)) < 500
    assert browser.run("document.querySelector('figure.walk').getBoundingClientRect().top") < 900


def test_a_click_or_enter_on_a_heading_sorts_the_runs_but_not_what_they_are_compared_with(browser):
    opened(browser)
    head = HEAD.format(table=TABLE, title="midpoint FID")
    assert browser.run(COLUMN) == ["0.003", "0.1", "1", *ANCHORS]
    browser.run(f"{head}.querySelector('button').click()")
    assert browser.run(COLUMN) == ["0.1", "0.003", "1", *ANCHORS]
    assert browser.run(f"{head}.ariaSort") == "ascending"
    browser.run(f"{head}.querySelector('button').focus()")
    press(browser, "Enter", "\r")
    assert browser.run(COLUMN) == ["1", "0.003", "0.1", *ANCHORS]
    assert browser.run(f"{head}.ariaSort") == "descending"
    browser.run(f"{HEAD.format(table=TABLE, title='lam')}.querySelector('button').click()")
    assert browser.run(COLUMN) == ["0.003", "0.1", "1", *ANCHORS]
    assert browser.run(f"{head}.ariaSort") == "none"


def test_a_cell_explains_itself_to_the_keyboard(browser):
    opened(browser)
    cell = f"[...{TABLE}.querySelectorAll('td')].find((each) => each.dataset.key === '4.125')"
    browser.run(f"{cell}.focus()")
    tip = "document.querySelector('#tip')"
    assert browser.run(f"{tip}.checkVisibility()")
    assert browser.run(f"{tip}.textContent").startswith("mean 4.125; standard deviation 0.176777; 2 seeds: 4, 4.25.")
    press(browser, "Escape")
    assert not browser.run(f"{tip}.checkVisibility()")
    press(browser, "ArrowRight")
    assert browser.run("document.activeElement.cellIndex") == browser.run(f"{cell}.cellIndex") + 1


def test_on_a_telephone_only_boxes_scroll_and_show_it(browser):
    opened(browser, 360)
    assert browser.run("document.documentElement.scrollWidth") == 360
    browser.wait(f"{TABLE}.classList.contains('after')")
    browser.run(f"{TABLE}.firstElementChild.scrollLeft = 60")
    browser.wait(f"{TABLE}.classList.contains('before')")
    left = "getBoundingClientRect().left"
    assert browser.run(f"{TABLE}.querySelector('tbody td').{left}") == browser.run(f"{TABLE}.{left}")


def test_paper_shows_whole_strips_and_no_slider(browser):
    opened(browser)
    browser.call("Emulation.setEmulatedMedia", media="print")
    visible = "[...document.querySelectorAll('figure.walk {}')].filter((each) => each.checkVisibility()).length"
    assert browser.run(visible.format("input")) == browser.run(visible.format("canvas")) == 0
    assert browser.run(visible.format("img")) == PAIRS * 7
    browser.call("Emulation.setEmulatedMedia", media="")


def test_a_browser_finds_nothing_to_complain_about_and_loads_nothing(browser):
    opened(browser)
    assert browser.errors == []
    assert [url for url in browser.requests if not url.startswith(("data:", "about:", browser.address))] == []
