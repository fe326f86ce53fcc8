"""What a run prints at its end."""

from pathlib import Path
from typing import Any

import pytest

from interp_lightning.display.tables import print_results
from interp_lightning.metrics.catalogue import CONSTANT, HOW, IMAGES, METRICS, SANITY, WAYS

SCREEN = 25  # lines
HEADLINE = ("realism", "membership", "score")


@pytest.fixture
def results() -> dict[str, Any]:
    """Results with every kind of path, whose numbers tell kinds and speeds apart."""
    ways = [way + speed for speed in ("", CONSTANT) for way in WAYS]
    images = ("fid", "kid", "precision", "recall", "realism")
    numbers = {f"{name}_{kind}": 0.5 for name in images for kind in IMAGES}
    for name in (*HEADLINE, "evenness", "detour"):
        numbers |= {f"{name}_{way}": at / 100 for at, way in enumerate(ways)}
    choices = {"model": "acai", "penalty": "wasserstein", "data": "mnist"}
    return {
        "metrics": {"reconstruction_mse": 0.02} | {k: v for k, v in numbers.items() if not k.endswith(SANITY)},
        "sanity": {"judge_accuracy": 0.99} | {k: v for k, v in numbers.items() if k.endswith(SANITY)},
        "budget": {"images": 275_000, "seconds": 341.0},
        "images_per_second": 805.0,
        "config": {"choices": choices, "data_used": "mnist", "data": {"fallback": "digits"}},
    }


@pytest.fixture
def printed(results, tmp_path, monkeypatch, capsys) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("figures", "tensorboard"):
        (tmp_path / name).mkdir()
    (tmp_path / "results.json").touch()
    print_results(results, tmp_path)
    return capsys.readouterr().out.replace(str(tmp_path), "run").replace(str(Path(tmp_path).parent), "runs")


def test_the_last_screen_of_a_narrow_terminal_shows_the_paths_at_constant_speed(printed, results):
    lines = printed.splitlines()
    assert max(map(len, lines)) <= 80
    last = "\n".join(lines[-SCREEN + 1 :])  # and the prompt
    for way in (*HOW, "blend"):
        name, numbers = WAYS[way], results["metrics"] | results["sanity"]
        cells = [METRICS[each].format(numbers[f"{each}_{way}{CONSTANT}"]) for each in HEADLINE]
        (row,) = (line for line in last.splitlines() if line.startswith(f"│ {name} "))
        assert [cell.strip() for cell in row.split("│")[2:5]] == cells
    assert "paths, constant speed" in last


def test_each_number_is_shown_and_explained_once(printed):
    said = " ".join(printed.split())
    for name in (*HEADLINE, "evenness", "detour", "fid", "recall"):
        assert said.count(f"{METRICS[name].title}: {METRICS[name].meaning}") == 1
    assert printed.count("detour ┃") == 1
    assert "KID" not in printed
    assert "┃ test images ┃ value ┃ meaning" in said
