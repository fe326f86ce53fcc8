"""The README and the manual are true: examples run, commands compose, links and named files exist."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in sorted((REPOSITORY / "docs").glob("*.md"))}
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
OTHERS = ("evaluate", "interpolate", "compare", "explore")
TINY = [
    "trainer=cpu",
    "trainer.enable_progress_bar=false",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "metrics.restarts=1",
    "metrics.images=70",
    "metrics.pairs=4",
    "metrics.steps=4",
]

TOGETHER = ["model=consistent", "penalty=norm", "network=mlp", "network.depth=64", "logger=jsonl", "name=together",
            "trainer.log_every_n_steps=1", "sweep.objective=code_norm", "--config-dir", "my_conf"]  # fmt: skip
COMMANDS = """
import json, os, runpy, sys
import interp_lightning.training.run  # torch, once for all commands
from matplotlib.figure import Figure
Figure.draw = lambda *_: None  # which takes longer than training
for command in json.loads(sys.argv[1]):
    if not (child := os.fork()):
        sys.argv = ["interp_lightning", *command]
        runpy.run_module("interp_lightning", run_name="__main__", alter_sys=True)
        sys.exit()
    if os.waitpid(child, 0)[1]:
        sys.exit(f"{command} has failed")
"""


@dataclass(frozen=True)
class Example:
    """A section of the page on extending: its files by name, and its commands."""

    files: dict[str, str]
    commands: list[list[str]]


def examples() -> dict[str, Example]:
    """Return the sections that have commands, by heading."""
    found = {}
    for section in re.split(r"^##+ ", PAGES["extending.md"], flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        blocks = BLOCK.findall(text)
        files = {title: content for _, title, content in blocks if title}
        commands = [shlex.split(line) for kind, _, code in blocks if kind == "bash" for line in code.splitlines()]
        if commands:
            found[heading] = Example(files, commands)
    return found


EXAMPLES = examples()


def commands() -> list[str]:
    """Return every command line of this program in the README and the manual, comments removed."""
    lines = []
    for text in (README, *(page for name, page in PAGES.items() if name != "extending.md")):
        for kind, _, code in BLOCK.findall(text):
            if kind == "bash":
                lines += [line.split("  #")[0].strip() for line in code.replace("\\\n", "").splitlines()]
    return [line for line in lines if "interp-lightning" in line or "-m interp_lightning" in line]


def test_every_kind_of_extension_has_an_example():
    kinds = {"penalty", "model", "network", "data", "path", "metric", "logger"}
    assert kinds == {Path(name).parent.name for each in EXAMPLES.values() for name in each.files if "yaml" in name}


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the program with the files of all examples, in which all their commands have been run, and more."""
    folder = tmp_path_factory.mktemp("extended")
    for part in ("interp_lightning", "conf"):
        shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name, content in (file for each in EXAMPLES.values() for file in each.files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists(), "an example adds files, and changes none"
        path.write_text(content)
    for number in range(40):
        picture = folder / "my_pictures" / f"class{number % 2}" / f"{number}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 36), 50).save(picture)
    commands = [command[3:] for each in EXAMPLES.values() for command in each.commands]
    commands = [
        each if each[:1] == ["interpolate"] else [*TINY, "data=digits", *each] for each in [*commands, TOGETHER]
    ]
    commands.append(["compare", "outputs/together", "out=comparison", "pictures=false"])
    environment = os.environ | {"PYTHONPATH": str(folder)}
    call = [sys.executable, "-c", COMMANDS, json.dumps(commands)]
    done = subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_the_examples_of_the_manual_run(extended):
    found = [json.loads(path.read_text()) for path in extended.glob("outputs/*/*/results.json")]
    trainings = [command for each in EXAMPLES.values() for command in each.commands if "interpolate" not in command]
    assert len(found) == len(trainings) + 1
    for group, choice in (("penalty", "norm"), ("model", "consistent"), ("data", "discs"), ("data", "pictures")):
        assert choice in {results[group] for results in found}
    assert len(list(extended.glob("outputs/*/*/figures/3_to_8_quarter.gif"))) == 1


def test_additions_of_every_kind_work_together(extended):
    (run,) = extended.glob("outputs/together/*")
    metrics = json.loads((run / "results.json").read_text())["metrics"]
    assert {"code_norm", "fid_midpoints_quarter", "evenness_quarter", "path_length_quarter"} <= metrics.keys()
    assert metrics["path_length_quarter"] != metrics["path_length_lerp"]
    assert (run / "figures" / "interpolation_quarter.png").is_file()
    assert torch.load(run / "checkpoints" / "last.ckpt")["state_dict"]["encoder.1.weight"].shape == (64, 32 * 32)
    logged: dict[str, float] = {}
    for line in (run / "metrics.jsonl").read_text().splitlines():
        logged |= json.loads(line)
    assert min(logged["train/autoencoder/consistency"], logged["train/autoencoder/penalty"]) > 0
    assert logged["test/code_norm"] == metrics["code_norm"]
    report = (extended / "comparison" / "comparison.md").read_text()
    assert "### Interpolation, quarter" in report
    assert "‖z‖" in report


def test_the_readme_shows_the_manuals_penalty():
    (code,) = [code for kind, _, code in BLOCK.findall(README) if kind == "python"]
    assert code == EXAMPLES["Penalty"].files["mine.py"]


@pytest.mark.parametrize("line", [line for line in commands() if not {*OTHERS} & {*line.split()}])
def test_a_training_command_composes(line, configure):
    words = shlex.split(re.split(r"interp.lightning(?: |$)", line)[-1])
    settings = [word for word in words if "=" in word and not word.startswith(("hydra", "-"))]
    # Of a sweep, the first job.
    configure(*[re.sub(r"=(.*?),.*", r"=\1", word) for word in settings if "(" not in word])


def test_the_examples_in_python_run(tmp_path, monkeypatch):
    blocks = BLOCK.findall(PAGES["python.md"])
    assert {kind for kind, _, _ in blocks} == {"python"}
    code = "\n".join(code for _, _, code in blocks).replace('"trainer.max_epochs=1"', ", ".join(map(repr, TINY)))
    code += "assert path.shape == (1, 11, 1, 32, 32)\nassert evenness(features) == torch.tensor([2.0])\n"
    monkeypatch.chdir(tmp_path)
    exec(code, {})


def test_links_of_the_readme_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (REPOSITORY / target).exists(), target


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 150


def test_files_that_pages_name_exist():
    known = {path.name for folder in ("tests", "scripts", "conf") for path in (REPOSITORY / folder).rglob("*.*")}
    for text in (README, *PAGES.values()):
        for name in re.findall(r"`(?:tests/)?(test_\w+\.py)`", text):
            assert name in known, name
        for name in re.findall(r"`((?:scripts|tests|interp_lightning|conf)/[\w/]+\.\w+)`", text):
            assert "NAME" in name or (REPOSITORY / name).exists(), name


def test_no_absolute_path_of_a_machine_is_tracked():
    files = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout
    for name in files.splitlines():
        if name.endswith((".py", ".yaml", ".yml", ".toml", ".md", ".txt", ".cff")):
            assert not re.search(r"/(home|root|Users)/\w", (REPOSITORY / name).read_text()), name
