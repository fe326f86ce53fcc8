"""What the README says is true."""

import re
import subprocess
from pathlib import Path

from conftest import MODELS, PENALTIES, choices

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text()


def test_links_and_figures_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (REPOSITORY / target).exists(), target


def test_the_tables_name_every_choice():
    for group in ("model", "penalty", "data", "network", "trainer", "experiment", "schedule", "metrics"):
        for choice in choices(group):
            assert f"`{choice}`" in README, f"{group}={choice}"


def test_every_cell_of_the_grid_is_there():
    assert len(MODELS) >= 2
    assert len(PENALTIES) >= 4


def test_no_absolute_path_of_a_machine_is_tracked():
    files = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout
    for name in files.splitlines():
        if name.endswith((".py", ".yaml", ".toml", ".md", ".txt")):
            assert not re.search(r"/(home|root|Users)/\w", (REPOSITORY / name).read_text()), name
