"""What the explorer shows, without a browser: ends, paths, grids, facts, files, and what it refuses."""

import base64
import io
import json
import shutil
import socket
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import call
from PIL import Image, ImageSequence

from interp_lightning.commands import explore
from interp_lightning.data.digits import Digits
from interp_lightning.data.sources import InMemory
from interp_lightning.display import animation
from interp_lightning.display.animation import gif, mp4
from interp_lightning.errors import ConfigError, DataError
from interp_lightning.evaluation.kept import Kept
from interp_lightning.evaluation.protocol import Evaluation
from interp_lightning.explorer.ends import EXAMPLES, Ends
from interp_lightning.explorer.saving import formats, saved, saved_grid
from interp_lightning.explorer.state import POSITIONS, SIDE, Explorer, Strip
from interp_lightning.explorer.view import end_html, gallery_html, grid_html, notes_html, path_html, png, said
from interp_lightning.explorer.witness import Facts, Witness
from interp_lightning.metrics.catalogue import HOW
from interp_lightning.metrics.neighbours import within
from interp_lightning.paths.base import named
from interp_lightning.runs.load import load_run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def copies(trained, tmp_path_factory) -> dict[str, Path]:
    """Runs that may be written into, as fitted paths are kept in them."""
    folder = tmp_path_factory.mktemp("explored")
    return {name: Path(shutil.copytree(run, folder / name)) for name, run in trained.items()}


@pytest.fixture(scope="module")
def explorer(copies) -> Explorer:
    return Explorer([load_run(copies["acai"]), load_run(copies["ae"])], CPU)


@pytest.fixture(scope="module")
def ends() -> Ends:
    return Ends(Digits(64))


# Ends


def test_test_images_by_label_and_number(ends):
    test = ends.data.test
    third = (test.labels == 3).nonzero().flatten()[2]
    end = ends.test_image(3, 2)
    assert end.name == f"test image {third} (label 3)"
    assert torch.equal(end.x[0], test.images[third].float() / 127.5 - 1)
    assert ends.test_image(3, 2) is end
    assert ends.test_image(None, 17).name.startswith("test image 17 ")
    assert ends.gallery(3)[2] is end
    assert len(ends.gallery(None)) == EXAMPLES


@pytest.mark.parametrize(
    ("label", "number", "message"),
    [
        (None, 360, r"`number` \(=360\) must be an integer from 0 to 359: there are 360 test images$"),
        (3, 37, r"`number` \(=37\) must be an integer from 0 to 36: there are 37 test images with label 3"),
        (3, -1, r"`number` \(=-1\) must be an integer from 0"),
        (3, 1.5, r"`number` \(=1\.5\) must be an integer from 0"),
        (3, None, r"`number` is missing; it must be an integer from 0 to 36"),
        (None, 1e300, r"`number` \(=1e\+300\) must be"),
    ],
)
def test_numbers_that_no_image_has(label, number, message, ends):
    with pytest.raises(ConfigError, match=message):
        ends.test_image(label, number)


class Unlabelled(Digits):
    classes = 0

    def load(self):
        return tuple(InMemory(split.images) for split in super().load())


def test_images_without_labels_are_chosen_by_number():
    ends = Ends(Unlabelled(64))
    assert ends.labels == []
    assert ends.test_image(None, 3).name == "test image 3"


def test_a_picture_is_fitted_to_the_data(ends, tmp_path):
    digit = ends.data.test.images[3, 0].numpy()
    Image.fromarray(255 - digit).resize((300, 300)).convert("RGB").save(tmp_path / "mine.jpg")
    end = ends.picture(tmp_path / "mine.jpg", "mine.jpg")
    assert end.name == "mine.jpg, inverted"
    assert end.x.shape == (1, 1, 32, 32)
    seen, real = end.x.flatten(), ends.test_image(None, 3).x.flatten()
    assert torch.corrcoef(torch.stack([seen, real]))[0, 1] > 0.8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text", r"^mine\.png is no image of a known format"),
        (b"", r"^mine\.png is empty"),
        (b"%PDF-1.7", r"^mine\.png is PDF, which cannot be read"),
    ],
)
def test_a_file_that_is_no_image_is_a_sentence_with_its_own_name(content, message, ends, tmp_path):
    (tmp_path / "upload").write_bytes(content)
    with pytest.raises(DataError, match=message) as refused:
        ends.picture(tmp_path / "upload", "mine.png")
    assert str(tmp_path) not in str(refused.value)


def test_a_drawing(ends):
    strokes = torch.full((1, 1, 280, 280), -1.0)
    strokes[..., 40:240, 130:155] = 1
    end = ends.drawing(png(strokes))
    assert end.name == "the drawing"
    assert end.x[0, 0, 16, 16] > 0.9 > -0.9 > end.x[0, 0, 16, 2]
    for url, message in (
        (png(torch.full((1, 1, 280, 280), -1.0)), r"^the drawing is blank"),
        ("", r"^the drawing is empty"),
        ("data:image/png;base64,x", r"^the drawing is damaged"),
        ("data:image/png;base64,eHg=", r"^the drawing is no image"),
    ):
        with pytest.raises(DataError, match=message):
            ends.drawing(url)


# Paths


@pytest.mark.parametrize("speed", ["constant", "own"])
@pytest.mark.parametrize("how", ["lerp", "slerp", "graph"])
def test_frames_are_the_models(how, speed, explorer, copies):
    a, b = explorer.ends.test_image(3, 0), explorer.ends.test_image(8, 1)
    strip = explorer.strip("acai × wasserstein", how, speed, a, b)
    run, evaluation = load_run(copies["acai"]), Evaluation()
    path = evaluation.path(how, run.model, run.datamodule)
    look = evaluation.look(run.model, run.datamodule) if speed == "constant" else None
    with torch.no_grad():
        expected = run.model.interpolate(a.x, b.x, POSITIONS, path, look)[0]
    torch.testing.assert_close(strip.images, expected)
    assert explorer.strip("acai × wasserstein", how, speed, a, b) is strip


def test_facts_are_those_of_judge_and_critic(explorer):
    a, b = explorer.ends.test_image(3, 0), explorer.ends.test_image(8, 1)
    strip = explorer.strip("acai × wasserstein", "lerp", "own", a, b)
    model, judge = explorer.models["acai × wasserstein"], explorer.witness.judge
    with torch.no_grad():
        features, logits = judge(strip.images)
        alpha = model.critic(strip.images).clamp(0, 0.5)
        real = judge(torch.cat([end.x for end in map(explorer.ends._test_image, range(360))]))[0]
    facts = strip.facts
    assert facts.classes == tuple(str(each) for each in logits.argmax(1).tolist())
    torch.testing.assert_close(facts.probability, logits.softmax(1).amax(1))
    torch.testing.assert_close(facts.alpha, alpha)
    assert torch.equal(facts.member, within(real, features))
    assert facts.distance[0] == 0
    torch.testing.assert_close(facts.distance.diff(), features.diff(dim=0).norm(dim=1), rtol=1e-3, atol=1e-4)
    assert explorer.strip("ae × none", "lerp", "own", a, b).facts.alpha is None


def test_constant_speed_takes_equal_steps(explorer):
    a, b = explorer.ends.test_image(3, 0), explorer.ends.test_image(8, 1)
    strip = explorer.strip("acai × wasserstein", "lerp", "constant", a, b)
    share = strip.facts.distance / strip.facts.distance[-1]
    torch.testing.assert_close(share, torch.linspace(0, 1, POSITIONS), rtol=0, atol=0.02)


def test_a_grid_is_bilinear_between_its_corners(explorer):
    corners = [explorer.ends.test_image(label, 0) for label in range(4)]
    images = explorer.grid("ae × none", *corners).images.unflatten(0, (SIDE, SIDE))
    model = explorer.models["ae × none"]
    with torch.no_grad():
        z = model.encode(torch.cat([end.x for end in corners]))
        at = {
            (0, 0): z[0],
            (0, -1): z[1],
            (-1, 0): z[2],
            (-1, -1): z[3],
            (5, 5): z.mean(0),
            (0, 3): z[0].lerp(z[1], 0.3),
        }
        for (row, column), code in at.items():
            torch.testing.assert_close(images[row, column], model.decode(code[None])[0], rtol=1e-4, atol=1e-4)


def test_kinds_of_path_that_take_minutes_are_offered_once_they_are_kept(explorer, copies):
    assert set(explorer.offered()) == set(HOW) - {"flow"}
    run = load_run(copies["seed"])
    store = Kept(run.folder, run.model, Evaluation().judge(run.datamodule))
    flow = named("flow")
    store.save(flow, {"step": torch.tensor(3)})
    assert not flow.at_hand(store)
    store.save(flow, {"mean": torch.zeros(3)})
    assert flow.at_hand(store)
    assert "flow" in Explorer([run], CPU).offered()


def test_a_row_for_each_run_and_kind(explorer):
    a, b = explorer.ends.test_image(3, 0), explorer.ends.test_image(8, 1)
    strips = explorer.strips(list(explorer.models), ["lerp", "slerp"], "own", a, b)
    assert [(strip.run, strip.how) for strip in strips] == [
        (run, how) for run in ("acai × wasserstein", "ae × none") for how in ("lerp", "slerp")
    ]
    for runs, kinds in (([], ["lerp"]), (["ae × none"], []), (["ae × none"], ["flow"])):
        with pytest.raises(ConfigError, match=r"^nothing is chosen: choose a"):
            explorer.strips(runs, kinds, "own", a, b)


def test_a_run_that_lacks_a_kind_of_path_is_named_with_the_way_out(copies, explorer, monkeypatch):
    monkeypatch.setitem(explorer.kinds, "acai × wasserstein", [*explorer.kinds["acai × wasserstein"], "flow"])
    assert "flow" in explorer.offered()
    names = list(explorer.models)
    assert explorer.missing(names, ["lerp", "flow"]) == [
        f"ae × none has no flow; `evaluate run={copies['ae']} metrics.paths=all` trains it."
    ]
    assert explorer.missing(names[:1], ["flow"]) == []
    assert "<code>evaluate run=" in notes_html(explorer.missing(names, ["flow"]))


def test_runs_that_are_alike_are_named_by_their_folders(copies):
    one, other = Explorer([load_run(copies["acai"]), load_run(copies["seed"])], CPU).models
    assert one.startswith("acai × wasserstein (")
    assert one.endswith("/acai)")
    assert other.endswith("/seed)")
    with pytest.raises(ConfigError, match=r"`run` names acai × wasserstein \(.*/acai\) twice; name each run once"):
        Explorer([load_run(copies["acai"])] * 2, CPU)


def test_lines_have_no_judge(copies):
    explorer = Explorer([load_run(copies["lines"])], CPU)
    a, b = explorer.ends.test_image(None, 0), explorer.ends.test_image(None, 1)
    strip = explorer.strip("ae × none", "lerp", "constant", a, b)
    assert [*said(strip.facts, "pixels")] == ["distance", "length"]


def test_without_a_judge_distances_are_in_pixels(explorer):
    model, images = explorer.models["ae × none"], explorer.ends.test_image(3, 0).x.repeat(2, 1, 1, 1)
    images[1, 0, 3, 4] += 0.5
    facts = Witness(explorer.data, None).facts(model, images)
    assert (facts.classes, facts.probability, facts.member, facts.alpha) == (None,) * 4
    assert facts.distance.tolist() == [0, 0.5]


# HTML and files


class Sections(HTMLParser):
    """The contents of all sections, and the number of every kind of element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.contents: list[dict[str, Any]] = []
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "section":
            self.contents.append(json.loads(dict(attributes)["data-content"]))


def pixels(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def test_a_section_holds_every_frame_and_its_facts(explorer):
    a, b = explorer.ends.test_image(3, 0), explorer.ends.test_image(8, 1)
    strips = explorer.strips(list(explorer.models), ["lerp"], "own", a, b)
    html = Sections(path_html(strips, "features"))
    for strip, content in zip(strips, html.contents, strict=True):
        frames = pixels(content["sprite"]).reshape(POSITIONS, 32, 32)
        torch.testing.assert_close(torch.from_numpy(frames / 127.5 - 1).float(), strip.images[:, 0], rtol=0, atol=0.01)
        assert {len(texts) for texts in content["facts"].values()} == {POSITIONS}
    assert "critic's α" in html.contents[0]["facts"]
    assert "critic's α" not in html.contents[1]["facts"]
    assert html.tags.count("button") == 2 * 11
    grid = Sections(grid_html([explorer.grid("ae × none", a, b, b, a)], "features"))
    assert pixels(grid.contents[0]["sprite"]).shape == (SIDE * SIDE * 32, 32)
    assert "distance" not in grid.contents[0]["facts"]


def test_names_and_sentences_are_text(explorer):
    evil = '<img src=x onerror="1">'
    end = explorer.ends.test_image(3, 0)
    strip = Strip(evil, evil, end.x.expand(POSITIONS, -1, -1, -1), Facts())
    for html in (end_html(end, evil), path_html([strip], evil), gallery_html([type(end)(evil, end.x)])):
        assert "<img src=x" not in html


def test_facts_of_a_path_that_never_moves():
    assert said(Facts(distance=torch.zeros(2)), "pixels") == {
        "distance": ["0 % · 0.0", "0 % · 0.0"],
        "length": ["0.0 in pixels", "0.0 in pixels"],
    }


def test_paths_are_saved(explorer):
    a, b = explorer.ends.test_image(3, 0), explorer.ends.test_image(8, 1)
    strips = explorer.strips(list(explorer.models), ["lerp", "slerp"], "own", a, b)
    name, url = saved("gif", strips, "own", a, b)
    assert name == f"test_image_{a.name.split()[2]}_label_3_to_test_image_{b.name.split()[2]}_label_8.gif"
    with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as animated:
        assert animated.width > 2.5 * animated.height  # of four images, and the caption
        assert len([*ImageSequence.Iterator(animated)]) > 80
    name, url = saved("png", strips, "own", a, b)
    assert name.endswith(".png")
    assert url.startswith("data:image/png;base64,")
    assert pixels(url).ndim == 3


def test_grids_are_saved(explorer):
    corners = [explorer.ends.test_image(label, 0) for label in range(4)]
    grids = [explorer.grid(run, *corners) for run in explorer.models]
    (name, url), (_, first) = saved_grid(grids, corners), saved_grid(grids[:1], corners)
    assert name.startswith(f"test_image_{corners[0].name.split()[2]}_label_0_to_test_image")
    assert name.endswith("_label_3.png")
    assert pixels(url).shape[0] > 1.6 * pixels(first).shape[0]


def test_a_gif_of_one_image_is_256_pixels_high():
    with Image.open(io.BytesIO(gif(torch.zeros(3, 1, 32, 32)))) as animated:
        assert animated.size == (256, 256)


def test_a_caption_stands_below_and_changes_no_image():
    frames = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    plain, captioned = (animation._pixels(frames, caption) for caption in ("", "3 → 8\ngraph, constant speed"))
    height = plain.shape[1]
    assert torch.equal(captioned[:, :height], plain)
    below = captioned[:, height:]
    assert below.shape[1] % 2 == 0
    assert 0.02 < (below > 127).float().mean() < 0.5
    long = animation._pixels(frames, "word " * 40)
    assert long.shape[1] > captioned.shape[1]
    assert not (long[:, height:, [0, -1]] > 127).any()  # no line is cut


ENCODER = """#!{python}
import sys
size = sys.argv[sys.argv.index("-s") + 1]
open(sys.argv[-1], "w").write(f"{{size}} {{len(sys.stdin.buffer.read())}}")
"""


def test_a_film_needs_an_encoder(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(animation.importlib.util, "find_spec", lambda name: None)
    assert formats() == ["gif", "png"]
    with pytest.raises(ConfigError, match=r"an MP4 requires an encoder: install ffmpeg"):
        mp4(torch.zeros(3, 1, 32, 32))
    program = tmp_path / "ffmpeg"
    program.write_text(ENCODER.format(python=sys.executable))
    program.chmod(0o755)
    assert formats() == ["gif", "png", "mp4"]
    assert mp4(torch.zeros(3, 1, 32, 31)) == f"248x256 {5 * 248 * 256 * 3}".encode()
    program.write_text("#!/bin/sh\necho no such codec >&2\nexit 3\n")
    with pytest.raises(ConfigError, match=r"could not make the MP4 \(no such codec\); save a GIF"):
        mp4(torch.zeros(3, 1, 32, 32))


# The command


def test_what_explore_needs(copies, tmp_path):
    pytest.importorskip("gradio")
    for arguments, message in (
        (["port=70000", "run=x"], r"`port` \(=70000\) must be ≥ 0 and ≤ 65535"),
        (["port=7000"], r"`run` names no run; name 1 to 8, such as run=last"),
        ([f"run={copies['ae']}", f"run={copies['lines']}"], r"ae is on digits .*, but .*/lines is on lines"),
        ([f"run={copies['ae'].parent}"], r"is on digits .*, but .* is on lines .*; name runs on one data set"),
        ([str(tmp_path)], r"holds no run: no results\.json and no checkpoints"),
    ):
        with pytest.raises(ConfigError, match=message):
            call(explore, *arguments)
    damaged = Path(shutil.copytree(copies["ae"], tmp_path / "damaged"))
    (damaged / "checkpoints" / "last.ckpt").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"is not a readable checkpoint"):
        call(explore, f"run={damaged}")
    for number in range(9):
        (tmp_path / "many" / str(number)).mkdir(parents=True)
        (tmp_path / "many" / str(number) / "results.json").touch()
    with pytest.raises(ConfigError, match=r"`run` names 9 runs; name 1 to 8"):
        call(explore, f"run={tmp_path}/many")


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"`port` \(={port}\) cannot be used \(Address already in use\); name"):
            call(explore, f"port={port}", "run=x")


def test_explore_without_gradio_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(explore.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"requires Gradio, which is not installed: pip install 'gradio>=6', or"):
        call(explore, "run=nowhere")
