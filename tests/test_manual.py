"""The README and the manual are true: examples run, commands compose, links and named files exist."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in sorted((REPOSITORY / "docs").glob("*.md"))}
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
OTHERS = ("evaluate", "interpolate", "compare")
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


@pytest.mark.parametrize("heading", EXAMPLES)
def test_an_example_of_the_manual_runs(heading, tmp_path):
    for part in ("interp_lightning", "conf"):
        shutil.copytree(REPOSITORY / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for name, content in EXAMPLES[heading].files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists(), "an example adds files, and changes none"
        path.write_text(content)
    for number in range(40):
        picture = tmp_path / "my_pictures" / f"class{number % 2}" / f"{number}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((40, 36), 50).save(picture)
    for command in EXAMPLES[heading].commands:
        training = command[3:4] != ["interpolate"]
        data = [] if any(each.startswith("data=") for each in command) else ["data=digits"]
        done = subprocess.run(
            [sys.executable, *command[1:], *(TINY + data if training else [])],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
    (results,) = tmp_path.glob("outputs/*/*/results.json")
    for name in ("code_norm", "quarter"):
        assert (name in results.read_text()) == (name in str(EXAMPLES[heading]))
    if heading == "Logger":
        assert "test/" in (results.parent / "metrics.jsonl").read_text()


def test_the_readme_shows_the_manuals_penalty():
    (code,) = [code for kind, _, code in BLOCK.findall(README) if kind == "python"]
    assert code == EXAMPLES["Penalty"].files["mine.py"]


@pytest.mark.parametrize("line", [line for line in commands() if not {*OTHERS} & {*line.split()}])
def test_a_training_command_composes(line, configure):
    words = shlex.split(re.split(r"interp.lightning(?: |$)", line)[-1])
    settings = [word for word in words if "=" in word and not word.startswith(("hydra", "-"))]
    # Of a sweep, the first job.
    configure(*[re.sub(r"=(.*?),.*", r"=\1", word) for word in settings if "(" not in word])


def test_the_examples_in_python_run(tmp_path):
    blocks = BLOCK.findall(PAGES["python.md"])
    assert {kind for kind, _, _ in blocks} == {"python"}
    code = "\n".join(code for _, _, code in blocks).replace('"trainer.max_epochs=1"', ", ".join(map(repr, TINY)))
    code += "assert path.shape == (1, 11, 1, 32, 32)\nassert evenness(features) == torch.tensor([2.0])\n"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


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
