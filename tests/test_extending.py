"""One file + one yaml: each addition in tests/extending works without a change of any other file."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

REPOSITORY = Path(__file__).parents[1]
ADDITIONS = Path(__file__).parent / "extending"
TINY = ["data.batch_size=64", "latent_dim=4", "trainer=cpu", "trainer.log_every_n_steps=1",
        "trainer.enable_progress_bar=false", "metrics.restarts=2", "metrics.images=100", "metrics.pairs=4",
        "metrics.steps=3"]  # fmt: skip


class Extended(NamedTuple):
    """A copy of the program with all additions, and a run that uses them."""

    folder: Path
    printed: str
    run: Path
    results: dict[str, Any]

    def call(self, *arguments: str) -> str:
        return call(self.folder, *arguments)


def call(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "interp_lightning", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Extended:
    """Copy the program, add the files, and train a run with them."""
    folder = tmp_path_factory.mktemp("extended")
    for name in ("interp_lightning", "conf"):
        shutil.copytree(REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (file for file in ADDITIONS.rglob("*") if file.suffix in (".py", ".yaml")):
        assert not (folder / file.relative_to(ADDITIONS)).exists()
        shutil.copy(file, folder / file.relative_to(ADDITIONS))
    chosen = ["model=small", "penalty=mean", "network=linear", "data=few", "logger=text"]
    printed = call(folder, *chosen, "sweep.objective=brightness_bow", *TINY)
    (run,) = (folder / "outputs" / "small_mean").iterdir()
    return Extended(folder, printed, run, json.loads((run / "results.json").read_text()))


def logged(extended: Extended) -> dict[str, list[float]]:
    """All numbers that logger=text has written."""
    numbers: dict[str, list[float]] = {}
    for line in (extended.run / "numbers.txt").read_text().splitlines():
        _, name, value = line.split()
        numbers.setdefault(name, []).append(float(value))
    return numbers


def test_a_model(extended):
    assert extended.results["model"] == "small"
    assert min(logged(extended)["train/autoencoder/size"]) > 0


def test_a_penalty(extended):
    assert extended.results["penalty"] == "mean"
    assert extended.results["config"]["penalty"] == {"_target_": "interp_lightning.penalties.mean.Mean", "lam": 0.1}
    assert min(logged(extended)["train/autoencoder/penalty"]) > 0


def test_a_network(extended):
    state = torch.load(extended.run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["encoder.1.weight"].shape == (4, 32 * 32)


def test_a_data_set(extended):
    assert extended.results["data"] == "few"
    assert extended.results["budget"]["images"] == 192  # three full batches


def test_a_logger(extended):
    assert "train/autoencoder/reconstruction" in logged(extended)


def test_a_metric(extended):
    assert {"brightness_lerp", "brightness_slerp"} <= extended.results["metrics"].keys()
    assert "brightness_blend" in extended.results["sanity"]
    assert "brightness" in extended.printed


def test_a_path(extended):
    metrics = extended.results["metrics"]
    assert {"fid_midpoints_bow", "evenness_bow", "path_length_bow", "brightness_bow"} <= metrics.keys()
    assert metrics["brightness_bow"] != metrics["brightness_lerp"]
    assert "paths, bow" in extended.printed
    assert (extended.run / "figures" / "interpolation_bow.png").is_file()
    assert "how=" in extended.call("interpolate", "--help")
    extended.call("interpolate", f"run={extended.run}", "a=index:0", "b=index:1", "how=bow")
    assert (extended.run / "figures" / "index0_to_index1_bow.png").is_file()


def test_additions_take_part_in_comparisons(extended):
    extended.call("compare", str(extended.run), "pictures=false", f"out={extended.folder / 'comparison'}")
    report = (extended.folder / "comparison" / "comparison.md").read_text()
    assert "### Interpolation, bow" in report
    assert "brightness ↓" in report
