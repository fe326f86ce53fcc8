"""The commands beside training: evaluate, interpolate, explore, compare, on tiny runs."""

import csv
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import QUICK, call
from matplotlib.figure import Figure
from PIL import Image, ImageSequence
from torchvision.transforms.v2.functional import to_pil_image

import interp_lightning
from interp_lightning.commands import compare, evaluate, explore, interpolate
from interp_lightning.commands.settings import Common, find_last, help_text, read_settings, setting
from interp_lightning.comparison.collect import collect
from interp_lightning.data.digits import Digits
from interp_lightning.data.files import read_image
from interp_lightning.data.lines import Lines
from interp_lightning.data.mnist import MNIST
from interp_lightning.display import animation, figures
from interp_lightning.errors import ConfigError, DataError, ResultsError
from interp_lightning.runs.find import find_runs
from interp_lightning.runs.load import load_run

Call = Callable[..., None]
COMMANDS = {"compare": compare, "evaluate": evaluate, "explore": explore, "interpolate": interpolate}


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


# Settings


@dataclass
class Example(Common):
    """Do something.

      example run=DIR      with a run

    It is quick.
    """

    run: list[str] = setting([], "a run", "DIR")
    metrics: list[str] = setting([], "how thoroughly", "fast", group=True)
    out: str = setting("", "where to write", "DIR")
    steps: int = setting(11, "points on the path")


def test_settings_of_every_kind():
    given = ["run=a", "b", "run=c=$d", "metrics=full", "metrics.pairs=3", "steps=4", "trust=True", "data.root=x=007"]
    assert read_settings(given, Example) == Example(
        run=["a", "b", "c=$d"], metrics=["metrics=full", "metrics.pairs=3"], steps=4, trust=True, data_root="x=007"
    )
    assert read_settings([], Example).run == []


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "step=4",
            r"`step` is no setting of this command; did you mean `steps`\? It has: run, metrics, out, steps, data",
        ),
        ("nothing=4", r"`nothing` is no setting of this command; it has: run, metrics"),
        ("run.a=4", r"`run\.a` is no setting"),
        ("--steps=4", r"`--steps` is no setting"),
        ("--verbose", r"`--verbose` is no setting; settings are given as key=value, see --help"),
        ("steps=many", r"`steps` \(=many\) must be an integer, such as 11"),
        ("trust=maybe", r"`trust` \(=maybe\) must be true or false"),
        ("run=", r"`run` has no value; give one as run=…, or remove it"),
        ("run=???", r"`run` has no value; give one as run=…, or remove it"),
        ("out=???", r"`out` has no value; give one as out=…, or remove it"),
        (
            "steps=${oc.env:X}",
            r"`steps` \(=\$\{oc\.env:X\}\) is a reference, which this command does not resolve; give",
        ),
        ("out=a/${oc.env:X}", r"`out` \(=a/\$\{oc\.env:X\}\) is a reference, which this command does not resolve"),
    ],
)
def test_wrong_settings(argument, message):
    with pytest.raises(ConfigError, match=message):
        read_settings([argument], Example)


@pytest.mark.parametrize("path", ["${oc.env:NOWHERE}", r"\${x}", "${", "a\\", "{a: 1}", "null"])
def test_a_path_that_exists_is_taken_literally(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(path).mkdir()
    assert read_settings([f"out={path}", f"run={path}"], Example).out == path


def test_a_single_value_given_twice():
    with pytest.raises(ConfigError, match=r"`steps` is given twice; give one value"):
        read_settings(["steps=3", "steps=3"], Example)


def test_help_comes_from_the_fields():
    text = help_text(Example)
    assert text.startswith("Do something.\n\n  example run=DIR      with a run\n\nIt is quick.\n\n  run=DIR ")
    for line in (
        "  metrics=fast   how thoroughly",
        "  steps=11       points on the path",
        "  trust=false    true lets",
    ):
        assert line in text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_every_setting_and_does_not_import_torch(name):
    code = (
        f"import sys\nfrom interp_lightning.__main__ import main\nsys.argv[1:] = ['{name}', '--help']\n"
        "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for field in fields(COMMANDS[name].Settings):
        assert f"  {field.metadata['key'] or field.name}=" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["evaluate", "run=nowhere"], "nowhere is not a folder; name a run's"),
        (["evaluate", "run=last"], "`run` (=last) finds no run below "),
        (
            ["interpolate", "a=1", "b=2", "how=line", "run=x"],
            "`how` (='line') must be one of: flow, geodesic, graph, lerp",
        ),
        (["explore", "port=99999", "run=x"], "`port` (=99999) must be ≥ 0 and ≤ 65535"),
        (["compare", "nowhere"], "nowhere is not a folder"),
        (["compare", "last"], "`run` (=last) finds no run below "),
        (["evaluate", "metrics=slow", "run=."], "`metrics` (=slow) must be one of: fast, full"),
        (["evalute", "run=last"], "`evalute` is no command; did you mean evaluate?"),
        (["help"], "`help` is no command; the commands are: train, evaluate, interpolate, compare, explore."),
    ],
)
def test_errors_are_a_sentence(arguments, expected, invoke):
    status, output = invoke(*arguments)
    assert status == 1
    assert expected in output
    assert "Traceback" not in output


def test_last_is_the_newest_run_below_outputs(trained, tmp_path, monkeypatch):
    for age, name in enumerate(("ae", "acai")):
        run = Path(shutil.copytree(trained[name], tmp_path / "outputs" / name / "run"))
        for file in run.glob("checkpoints/*"):
            os.utime(file, (1e9 - age, 1e9 - age))
    monkeypatch.chdir(tmp_path)
    assert find_last(["last", "other"]) == ["outputs/ae/run", "other"]
    call(interpolate, "run=last", "a=3", "b=8")
    assert (tmp_path / "outputs" / "ae" / "run" / "figures" / "3_to_8_graph.gif").exists()


# evaluate


def test_evaluating_a_run_again_gives_its_own_numbers(trained, tmp_path, capsys):
    run = Path(shutil.copytree(trained["acai"], tmp_path / "run"))
    before = results(run)
    shutil.rmtree(run / "figures")
    call(evaluate, f"run={run}", *QUICK)
    assert results(run) == before
    drawn = {path.stem for path in (run / "figures").iterdir()}
    assert {"interpolation_lerp", "path_profile", "latent_scatter", "prior_samples"} <= drawn
    assert "max/mean" in capsys.readouterr().out


def test_numbers_that_are_not_measured_again_are_not_lost(trained, tmp_path, caplog):
    run = Path(shutil.copytree(trained["acai"], tmp_path / "run"))
    before = results(run)
    call(evaluate, f"run={run}", *QUICK, "metrics.paths=[lerp]")
    assert not any("slerp" in name for name in results(run)["metrics"])
    assert json.loads((run / "results.before.json").read_text()) == before
    assert "the earlier results are in" in caplog.text
    fewer = results(run)
    call(evaluate, f"run={run}", *QUICK, "metrics.paths=[lerp]", "metrics.features=null")
    assert json.loads((run / "results.before.json").read_text()) == before
    assert json.loads((run / "results.before.2.json").read_text()) == fewer


def test_evaluating_elsewhere_leaves_the_run_alone(trained, tmp_path):
    run, before = trained["acai"], {path: path.stat().st_mtime for path in trained["acai"].rglob("*")}
    call(evaluate, f"run={run}", f"out={tmp_path}/out", *QUICK, "metrics.images=150")
    assert results(tmp_path / "out")["protocol"]["images"] == 150
    assert {path: path.stat().st_mtime for path in run.rglob("*")} == before


def test_evaluating_a_file_and_an_interrupted_run(trained, tmp_path):
    run = Path(shutil.copytree(trained["acai"], tmp_path / "run"))
    finished = results(run)
    (run / "results.json").unlink()
    call(evaluate, f"run={run}", *QUICK)
    assert results(run)["metrics"] == finished["metrics"]
    assert results(run)["budget"] == finished["budget"]
    assert results(run)["config_hash"] == finished["config_hash"]

    best = run / "checkpoints" / "best.ckpt"
    call(evaluate, f"ckpt={best}", *QUICK)
    assert results(run / "checkpoints" / "best")["metrics"].keys() == finished["metrics"].keys()
    assert find_runs([str(tmp_path)]) == [run]


def test_one_bad_run_does_not_stop_the_others(trained, tmp_path, caplog):
    for name in ("acai", "ae"):
        shutil.copytree(trained[name], tmp_path / "sweep" / name)
    (tmp_path / "sweep" / "acai" / "checkpoints" / "last.ckpt").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"1 of 2 could not be evaluated"):
        call(evaluate, f"run={tmp_path}/sweep", f"out={tmp_path}/out", *QUICK)
    assert "is not a readable checkpoint" in caplog.text
    (written,) = (tmp_path / "out").iterdir()
    assert results(written)["model"] == "ae"
    with pytest.raises(ConfigError, match=r"nothing to evaluate"):
        call(evaluate, "metrics=fast")


def test_evaluating_from_python_gives_the_same_numbers_and_writes_only_where_asked(trained, tmp_path):
    run, before = load_run(trained["acai"]), {path: path.stat().st_mtime for path in trained["acai"].rglob("*")}
    assert interp_lightning.evaluate(run, QUICK) == results(trained["acai"])
    assert {path: path.stat().st_mtime for path in trained["acai"].rglob("*")} == before
    again = interp_lightning.evaluate(str(trained["acai"]), [*QUICK, "metrics.images=150"], out=tmp_path / "out")
    assert again == results(tmp_path / "out")
    assert again["protocol"]["images"] == 150
    assert (tmp_path / "out" / "figures" / "reconstructions.png").exists()
    with pytest.raises(ConfigError, match=r"`metrics` \(=slow\) must be one of"):
        interp_lightning.evaluate(run, ["metrics=slow"])


# interpolate


@pytest.mark.parametrize(
    ("a", "b", "names"),
    [
        ("3", "8", ("label 3", "label 8")),
        ("3", "3", ("label 3", "label 3")),
        ("index:0", "17", ("test image 0 ", "test image 17 ")),
        ("label:1", "index:3", ("label 1", "test image 3 ")),
    ],
)
def test_between_test_images(a, b, names, trained, tmp_path, caplog):
    caplog.set_level("INFO")
    call(interpolate, f"run={trained['acai']}", f"a={a}", f"b={b}", f"out={tmp_path}", "steps=5", "how=slerp")
    stem = f"{a}_to_{b}_slerp".replace(":", "")
    ((drawn,), (animated,)) = (tmp_path.glob(f"{stem}-????????.{kind}") for kind in ("png", "gif"))
    with Image.open(drawn) as strip:
        assert strip.width > 4 * strip.height / 3
    with Image.open(animated) as opened:
        frames = [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(opened)]
    assert len(frames) >= 60  # there and back
    assert np.array_equal(frames[1], frames[-1])
    first, second = re.findall(r"test image \d+ \(label \d\)", caplog.text)
    assert names[0] in first
    assert names[1] in second
    assert first != second


@pytest.mark.parametrize(
    ("a", "message"),
    [
        ("12345", r"`a` \(=12345\) must be an index below 360"),
        ("label:11", r"`a` \(=label:11\) must be a label of data=digits, 0 to 9"),
        ("index:x", r"`a` \(=index:x\) must be a label \(0 … 9\), index:N below 360, or an image file"),
        ("-1", r"`a` \(=-1\) must be a label \(0 … 9\), index:N below 360, or an image file"),
        ("nowhere.png", r"nowhere\.png is no file; name a PNG"),
    ],
)
def test_ends_that_are_none(a, message, trained):
    with pytest.raises(ConfigError, match=message):
        call(interpolate, f"run={trained['acai']}", f"a={a}", "b=1")


def test_a_label_is_its_most_typical_image(trained):
    data = Digits(64)
    images, labels = data.test.batch(data.test.all())
    of_three = images[labels == 3].float()
    apart = (of_three - of_three.mean(0)).square().sum((1, 2, 3)).argsort()
    for earlier in (0, 1):
        name, x = interpolate.find_image("3", "a", earlier, data)
        assert "(label 3)" in name
        assert torch.equal(((x[0] + 1) * 127.5).round(), of_three[apart[earlier]])


def test_frames_of_an_earlier_path_do_not_stay(trained, tmp_path):
    for steps in (5, 3):
        call(interpolate, f"run={trained['ae']}", f"out={tmp_path}", "a=3", "b=8", f"steps={steps}", "frames=true")
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert sorted(path.name for path in folder.iterdir()) == ["000.png", "001.png", "002.png"]


def test_a_label_written_otherwise_is_the_same_label(trained, tmp_path, caplog):
    with caplog.at_level("INFO"):
        call(interpolate, f"run={trained['ae']}", f"out={tmp_path}", "a=3", "b=label:03", "how=lerp")
    first, second = re.findall(r"test image (\d+) \(label 3\)", caplog.messages[-1])
    assert first != second


def test_names_of_many_long_files_make_a_name_that_the_disk_takes(trained, tmp_path):
    ends = []
    for end in "abcd":
        ends.append(f"{end}={tmp_path / (120 * end)}.png")
        Image.radial_gradient("L").save(ends[-1].partition("=")[2])
    call(interpolate, f"run={trained['ae']}", f"out={tmp_path / 'out'}", *ends, "how=lerp")
    assert {path.suffix for path in (tmp_path / "out").iterdir()} >= {".png", ".gif"}


def test_a_place_that_cannot_be_written_to_is_refused_at_once(trained, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file` cannot be written to \(.*\); name a folder of yours by out=…"):
        call(interpolate, f"run={trained['ae']}", f"out={tmp_path}/file", "a=3", "b=8")


def test_a_chain_has_a_row_for_each_leg_and_one_animation(trained, tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO")
    monkeypatch.setattr(animation, "encoder", lambda: None)
    call(interpolate, f"run={trained['acai']}", "a=3", "b=8", "c=3", f"out={tmp_path}", "steps=4", "frames=true")
    (strip,) = tmp_path.glob("3_to_8_to_3_graph-????????.png")
    assert len(list(strip.with_suffix("").glob("*.png"))) == 7  # the middle end belongs to both legs
    with Image.open(strip.with_suffix("").with_name(strip.stem + ".gif")) as animated:
        assert animated.n_frames == 2 * (2 * 40 + 1) - 2  # there and back
        assert animated.height > animated.width + 30  # lines of a caption
    stem = re.escape(str(strip.with_suffix("")))
    assert re.search(rf"{stem}\.png, \.gif \(MP4 requires ffmpeg or .*\), and 7 frames in {stem}$", caplog.text, re.M)


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that a command has drawn."""
    found: list[Figure] = []
    monkeypatch.setattr(figures, "save", lambda pictures, folder: found.extend(pictures.values()))
    return found


def test_a_strip_names_its_speed_and_has_a_straight_line_and_fading_pixels_to_compare_with(drawn, trained, tmp_path):
    for arguments, speed, kinds in (
        ([], "constant speed", ["graph", "lerp", "pixels fade"]),
        (["how=lerp", "speed=own"], "own speed", ["lerp", "pixels fade"]),
    ):
        call(interpolate, f"run={trained['acai']}", "a=3", "b=8", "c=3", f"out={tmp_path}", "steps=4", *arguments)
        axes = drawn.pop().axes[0]
        assert speed in axes.get_title()
        assert [label.get_text() for label in axes.get_yticklabels()] == 2 * kinds


def test_a_grid_between_four_images(trained, tmp_path, caplog):
    caplog.set_level("INFO")
    ends = ["a=0", "b=1", "c=2", "d=3"]
    call(interpolate, f"run={trained['acai']}", *ends, "corners=true", f"out={tmp_path}", "steps=3", "frames=true")
    (grid,) = tmp_path.glob("0_to_1_to_2_to_3_corners-????????.png")
    frames = sorted(grid.with_suffix("").glob("*.png"))
    assert len(frames) == 9
    assert re.search(r"Grid between test image \d+ \(label 0\), .*2\) and test image \d+ \(label 3\): ", caplog.text)
    run = load_run(trained["acai"])
    _, x = interpolate.find_image("0", "a", 0, run.datamodule)
    with torch.no_grad():
        first = to_pil_image((run.model.decode(run.model.encode(x))[0].clamp(-1, 1) + 1) / 2)
    with Image.open(frames[0]) as corner:
        assert np.array_equal(np.asarray(corner), np.asarray(first))


def test_what_interpolate_needs(trained):
    for arguments, message in (
        (["run=x", "b=1"], r"`a` is missing: name a label"),
        (["a=1", "b=1"], r"`run` names no run; name one"),
        (
            [f"run={trained['acai']}", f"run={trained['ae']}", "a=1", "b=1"],
            r"`run` names 2 runs, the first .*; name one",
        ),
        (["run=x", "ckpt=y", "a=1", "b=1"], r"`run` and `ckpt` both name a model; remove one of them"),
        (["run=x", "a=1", "b=1", "a=2"], r"`a` is given twice; give one value"),
        (["run=x", "a=1", "b=1", "d=1"], r"`c` is missing: name a label"),
        (["run=x", "a=1", "b=1", "c=1", "corners=true"], r"`corners` \(=true\) requires four ends, but there are 3"),
        (["run=x", "a=1", "b=1", "c=1", "d=1", "corners=true", "steps=51"], r"`steps` \(=51\) must be ≥ 2 and ≤ 50"),
        (
            ["run=x", "a=1", "b=1", "c=1", "d=1", "corners=true", "how=graph"],
            r"`corners` \(=true\) draws a grid of codes in straight lines, .*; remove how=$",
        ),
        (["run=x", "a=1", "b=1", "c=1", "d=1", "corners=true", "how=lerp", "speed=own"], r"; remove how= and speed=$"),
        (["run=x", "a=1", "b=1", "speed=fast"], r"`speed` \(='fast'\) must be one of: constant, own"),
        (["run=x", "a=1", "b=1", "steps=1"], r"`steps` \(=1\) must be ≥ 2 and ≤ 1000"),
    ):
        with pytest.raises(ConfigError, match=message):
            call(interpolate, *arguments)


def test_between_ones_own_images(trained, tmp_path, caplog):
    caplog.set_level("INFO")
    digit = Digits(64).test.images[3, 0].numpy()
    Image.fromarray(255 - digit).resize((300, 300)).convert("RGB").save(tmp_path / "mine.jpg")
    call(interpolate, f"run={trained['acai']}", f"a={tmp_path}/mine.jpg", "b=1", f"out={tmp_path}")
    assert "dark on light where digits is light on dark" in caplog.text
    assert len(list(tmp_path.glob("mine-????????_to_1_graph-????????.png"))) == 1
    assert len(list(tmp_path.glob("mine-????????_to_1_graph-????????.gif"))) == 1


def as_saved(image: np.ndarray, how: str, path: Path) -> Path:
    grey = Image.fromarray(image)
    transparent = Image.merge("LA", (Image.new("L", grey.size, 0), grey))  # black ink on nothing
    kinds = {
        "as it is": grey,
        "large": grey.resize((320, 320), Image.Resampling.BICUBIC),
        "colour": Image.merge("RGB", (grey, grey, grey)),
        "inverted": Image.fromarray(255 - image),
        "transparent": transparent,
        "16 bits": Image.fromarray(image.astype(np.uint16) * 257),
        "palette": grey.convert("P"),
        "off centre, on a wide page": Image.new("L", (90, 45), 0),
    }
    kinds["off centre, on a wide page"].paste(grey, (50, 9))
    kinds[how].save(path)
    return path


class LikeMNIST(Digits):
    """Digits that lie in their images as MNIST's do."""

    drawing = MNIST.drawing


@pytest.mark.parametrize(
    "how",
    ["as it is", "large", "colour", "inverted", "transparent", "16 bits", "palette", "off centre, on a wide page"],
)
def test_a_picture_that_lies_right_stays_as_it_is(how, tmp_path):
    data = LikeMNIST(64)
    for item in range(5):
        digit = as_saved(data.test.images[item, 0].numpy(), "as it is", tmp_path / "digit.png")
        right, _ = read_image(digit, data)
        pixels = ((right[0, 0] + 1) * 127.5).round().to(torch.uint8).numpy()
        seen, inverted = read_image(as_saved(pixels, how, tmp_path / "saved.png"), data)
        assert seen.shape == (1, 1, 32, 32)
        assert inverted == (how in ("inverted", "transparent"))
        assert (seen - right).square().mean() < (0.05 if how == "large" else 0.005)


def test_a_photograph_of_ink_on_paper_is_cut_out_scaled_and_centred(tmp_path):
    page = np.full((400, 700, 3), (220, 215, 190), dtype=np.float32)
    page[80:330, 500:540] = (40, 40, 90)  # a one, far from the middle
    page += np.random.default_rng(0).normal(0, 5, page.shape)
    Image.fromarray(page.clip(0, 255).astype(np.uint8)).save(tmp_path / "photo.jpg")
    seen, inverted = read_image(tmp_path / "photo.jpg", LikeMNIST(64))
    ink = (seen[0, 0] > 0).nonzero()
    assert inverted
    assert ink[:, 0].max() - ink[:, 0].min() + 1 == 20
    assert ink[:, 1].float().mean() == pytest.approx(16, abs=1)
    assert seen[0, 0][:, :10].max() < -0.8  # no paper


def page(height: int = 300, width: int = 300) -> np.ndarray:
    """A four on white paper, (height, width) from 0 to 1."""
    paper = np.ones((height, width), dtype=np.float32)
    paper[60:150, 90:110] = paper[140:160, 90:210] = paper[60:250, 170:190] = 0.1
    return paper


def shaded(paper: np.ndarray) -> np.ndarray:
    return paper * np.linspace(0.35, 1, paper.shape[1], dtype=np.float32)


def speckled(paper: np.ndarray) -> np.ndarray:
    paper = paper.copy()
    for row, column in np.random.default_rng(0).integers(5, 290, (25, 2)):
        paper[row : row + 3, column : column + 3] = 0
    return paper


def framed(paper: np.ndarray) -> np.ndarray:
    paper = paper.copy()
    paper[:9] = paper[-9:] = 0
    paper[:, :9] = paper[:, -9:] = 0
    return paper


def dithered(paper: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray((paper * 230).astype(np.uint8)).convert("1"), dtype=np.float32)


@pytest.mark.parametrize("spoil", [shaded, speckled, framed, dithered])
def test_shadows_specks_frames_and_dithering_are_not_part_of_a_digit(spoil, tmp_path):
    def seen(paper: np.ndarray, name: str) -> torch.Tensor:
        Image.fromarray((255 * paper).clip(0, 255).astype(np.uint8)).save(tmp_path / name)
        return read_image(tmp_path / name, LikeMNIST(64))[0]

    clean, spoilt = seen(page(), "clean.png"), seen(spoil(page()), "spoilt.png")
    assert (clean > 0).sum() > 50
    assert (spoilt - clean).square().mean() < 0.05


def test_noise_has_no_ink_worth_an_error(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 100), dtype=np.uint8)).save(tmp_path / "noise.png")
    assert read_image(tmp_path / "noise.png", LikeMNIST(64))[0].shape == (1, 1, 32, 32)


def test_light_ink_on_nothing_is_seen_too(tmp_path):
    image = Digits(64).test.images[0, 0].numpy()
    ink = Image.fromarray(image)
    Image.merge("LA", (Image.new("L", ink.size, 255), ink)).save(tmp_path / "light.png")
    as_saved(image, "transparent", tmp_path / "dark.png")
    light, dark = (read_image(tmp_path / name, LikeMNIST(64)) for name in ("light.png", "dark.png"))
    assert (light[1], dark[1]) == (False, True)
    assert (light[0] - dark[0]).square().mean() < 0.01


def test_images_that_are_no_drawings_are_taken_whole(tmp_path):
    Image.fromarray(np.tile(np.arange(0, 240, 2, dtype=np.uint8), (60, 1))).save(tmp_path / "wide.png")
    seen, _ = read_image(tmp_path / "wide.png", Lines(64))
    assert seen.shape == (1, 1, 32, 32)
    assert seen[0, 0, 16, 2] != seen[0, 0, 16, 29]


def write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.touch(), r"is empty; name a PNG"),
        (lambda path: path.write_text("no image"), r"is no image of a known format \(.*\); name a PNG"),
        (lambda path: path.mkdir(), r"is no file; name a PNG"),
        (
            lambda path: Image.new("L", (1, 1)).save(path),
            r"is 1 × 1 pixels, but must have 8 to 10,000 to a side; resize",
        ),
        (lambda path: Image.new("L", (20_000, 30)).save(path), r"is 20,000 × 30 pixels, but must have 8 to 10,000"),
        (
            lambda path: Image.new("1", (30_000, 30_000)).save(path),
            r"is too large: it must have 8 to 10,000 pixels to a",
        ),
        (lambda path: Image.new("L", (50, 50), 77).save(path), r"is blank: all its pixels are alike"),
    ],
)
def test_files_that_are_no_use(make, message, tmp_path):
    make(tmp_path / "image.png")
    with pytest.raises(DataError, match=message):
        read_image(tmp_path / "image.png", Digits(64))


def test_a_truncated_image(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"image\.png cannot be read \(.*\); name a PNG"):
        read_image(path, Digits(64))


# compare


@pytest.fixture
def sweep(trained, tmp_path) -> Path:
    """Five runs: an autoencoder, and ACAI with two λ and two seeds, whose numbers are made up where they matter."""
    for name, source, lam, seed, fid in (
        ("0", "ae", None, 0, 9.0),
        ("1", "acai", 0.003, 0, 4.0),
        ("2", "seed", 0.003, 1, 6.0),
        ("3", "acai", 0.1, 0, 1.0),
        ("10", "seed", 0.1, 1, 3.0),
    ):
        run = Path(shutil.copytree(trained[source], tmp_path / "sweep" / name))
        content = results(run)
        content["metrics"]["fid_midpoints_lerp"] = fid
        assert content["seed"] == seed
        if lam is not None:
            content["config"]["penalty"]["lam"] = lam
        (run / "results.json").write_text(json.dumps(content))
    return tmp_path / "sweep"


def test_what_a_comparison_leaves(sweep, capsys):
    call(compare, str(sweep))
    folder = sweep / "comparison"
    printed = capsys.readouterr().out
    assert "Interpolation" in printed
    assert "2 ± 1.4" in printed
    written = {path.name for path in folder.iterdir()}
    assert written == {"comparison.csv", "comparison.md", "report.html", "trade_off.png", "against_penalty_lam.png",
                       *(f"pair_{number}.png" for number in range(1, 5))}  # fmt: skip

    with (folder / "comparison.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [Path(row["run"]).name for row in rows] == ["0", "1", "2", "3", "10"]
    assert [row["penalty.lam"] for row in rows] == ["0", "0.003", "0.003", "0.1", "0.1"]
    assert {"seed", "reconstruction_mse", "fid_midpoints_lerp", "images_seen", "config_hash"} <= rows[0].keys()

    table = (folder / "comparison.md").read_text()
    assert re.search(r"^\| acai × wasserstein, penalty.lam=0.1 \| 2 \|.* \*\*2 ± 1.4\*\* \|", table, re.M)
    assert re.search(r"^\| acai × wasserstein, penalty.lam=0.003 \| 2 \|.* 5 ± 1.4 \|", table, re.M)
    assert re.search(r"^\| ae × none \| 1 \|.* 9 \|", table, re.M)

    page = (folder / "report.html").read_text()
    assert page.count("<figure class=walk") == 4
    assert page.count("data:image/png;base64,") == 2 + 4 * 4 * 2  # curves; three settings and fading, graph and lerp
    assert not re.search(r"""(src|href)\s*=\s*(?!["']?data:)""", page)
    assert re.findall(r"<script[^>]*>", page) == ["<script>"]
    assert not re.search(r"@import|url\(", page)
    assert "acai × wasserstein, penalty.lam=0.1" in page


def test_comparing_from_python_gives_a_row_for_each_run(sweep, trained):
    rows = interp_lightning.compare([sweep / "0", str(sweep / "3"), load_run(sweep / "10")])
    assert [Path(row["run"]).name for row in rows] == ["0", "3", "10"]
    assert [row["fid_midpoints_lerp"] for row in rows] == [9.0, 1.0, 3.0]
    assert [row["group"] for row in rows] == ["ae × none", *["acai × wasserstein"] * 2]
    assert rows[0].keys() == rows[1].keys()
    with pytest.raises(ConfigError, match=r"different data sets cannot be ranked together"):
        interp_lightning.compare([trained["ae"], trained["lines"]])
    with pytest.raises(ConfigError, match=r"nothing to compare: name runs"):
        interp_lightning.compare([])


def test_groups_are_runs_that_differ_by_their_seed_only(sweep):
    groups = collect(sorted(sweep.iterdir())).groups
    assert sorted(len(group.results) for group in groups) == [1, 2, 2]
    (best,) = collect(sorted(sweep.iterdir())).leading("fid_midpoints_lerp")
    assert best.mean("fid_midpoints_lerp") == 2
    assert best.deviation("fid_midpoints_lerp") == statistics.stdev([1, 3])


def test_how_a_run_came_to_its_end_makes_no_other_group(sweep):
    content = results(sweep / "1")
    content["config"] |= {
        "sweep": {"resume": True},
        "debug": True,
        "checkpoint": {"every_minutes": 1},
        "ckpt_path": "last",
    }
    (sweep / "1" / "results.json").write_text(json.dumps(content))
    assert sorted(len(group.results) for group in collect(sorted(sweep.iterdir())).groups) == [1, 2, 2]


def test_groups_within_a_deviation_of_the_best_lead_with_it_and_numbers_that_are_none_do_not(sweep):
    for name, value in (("1", 1.5), ("2", 3.5), ("0", float("nan"))):
        content = results(sweep / name)
        content["metrics"]["fid_midpoints_lerp"] = value
        (sweep / name / "results.json").write_text(json.dumps(content))
    comparison = collect(sorted(sweep.iterdir()))
    assert comparison.leading("fid_midpoints_lerp") == []  # of two with numbers, both
    content["metrics"]["fid_midpoints_lerp"] = 9.0
    (sweep / "0" / "results.json").write_text(json.dumps(content | {"penalty": "none", "model": "ae"}))
    leading = collect(sorted(sweep.iterdir())).leading("fid_midpoints_lerp")
    assert [group.mean("fid_midpoints_lerp") for group in leading] == [2.5, 2]


def test_a_comparison_of_different_data_is_refused_unless_asked_for(trained, tmp_path):
    runs = [trained["ae"], trained["lines"]]
    with pytest.raises(ResultsError, match=r"cannot be ranked together \(1 on digits, 1 on lines\)"):
        call(compare, *map(str, runs), f"out={tmp_path}/a")
    assert not (tmp_path / "a").exists()
    call(compare, *map(str, runs), f"out={tmp_path}/b", "data=lines")
    assert "lines" in (tmp_path / "b" / "report.html").read_text()
    assert "distance to lines" in (tmp_path / "b" / "comparison.md").read_text()
    call(compare, *map(str, runs), f"out={tmp_path}/c", "across_data=true")
    table = (tmp_path / "c" / "comparison.md").read_text()
    assert "ae × none on digits" in table
    assert "ae × none on lines" in table
    with pytest.raises(ResultsError, match=r"no results to compare in 2 runs on data=mnist, only on digits, lines"):
        call(compare, *map(str, runs), f"out={tmp_path}/d", "data=mnist")


def test_runs_without_results_or_models_and_unlike_protocols_are_named(sweep, caplog):
    (sweep / "0" / "results.json").unlink()
    shutil.rmtree(sweep / "3" / "checkpoints")
    content = results(sweep / "2")
    content["protocol"]["restarts"] = 1000
    (sweep / "2" / "results.json").write_text(json.dumps(content))
    call(compare, str(sweep))
    assert re.search(r"Skipped: .*0 has no results\.json; python -m interp_lightning evaluate run=", caplog.text)
    assert "because the runs were measured by different protocols" in caplog.text
    assert "No pictures of acai × wasserstein, penalty.lam=0.1: " in caplog.text
    assert "the runs were measured by different protocols" in (sweep / "comparison" / "report.html").read_text()
    with pytest.raises(ConfigError, match=r"nothing to compare: name runs"):
        call(compare, "pictures=false")


def test_figures_elsewhere_are_not_written_to(trained, tmp_path):
    run = Path(shutil.copytree(trained["acai"], tmp_path / "run"))
    (run / "figures").rename(tmp_path / "elsewhere")
    (run / "figures").symlink_to(tmp_path / "elsewhere")
    for module, arguments in ((evaluate, QUICK), (interpolate, ["a=0", "b=1"])):
        before = {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "elsewhere").iterdir())}
        with pytest.raises(ConfigError, match=r"leads out of the run's folder|could not be evaluated"):
            call(module, f"run={run}", *arguments)
        assert before == {path: path.stat().st_mtime_ns for path in sorted((tmp_path / "elsewhere").iterdir())}
