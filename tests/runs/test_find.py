"""Finding runs in folders that others have filled."""

import pytest

from interp_lightning.runs.find import find_runs, newest_run


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "²" / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / ".hydra").mkdir()
    return folder


def test_a_name_that_looks_like_a_number(run, tmp_path):
    assert find_runs([str(tmp_path)]) == [run]


@pytest.mark.parametrize("recorded", ["a\0b", "circle", "nowhere", "~"])
def test_an_odd_record_does_not_hide_a_run(recorded, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circle").symlink_to("circle")
    (run / ".hydra" / "hydra.yaml").write_text(f"hydra:\n  runtime:\n    output_dir: {recorded}\n")
    assert newest_run(tmp_path) == run
