"""Finding runs in folders that others have filled."""

import pytest

from interp_lightning.commands.settings import find_last
from interp_lightning.errors import CheckpointError, ConfigError
from interp_lightning.runs.find import find_runs, newest_run
from interp_lightning.runs.folders import check_links


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "²" / "run"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / ".hydra").mkdir()
    return folder


def test_a_name_that_looks_like_a_number(run, tmp_path):
    assert find_runs([str(tmp_path)]) == [run]


def test_a_link_to_a_run_counts_as_that_run(run, tmp_path):
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "link").symlink_to(run)
    assert find_runs([str(outputs)]) == [outputs / "link"] == [newest_run(outputs)]
    assert find_runs([str(tmp_path)]) == [run] == [newest_run(tmp_path)]
    with pytest.raises(CheckpointError, match="link is a link, so the run would write elsewhere"):
        check_links(outputs / "link")


def test_the_last_run_is_not_a_link(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "link").symlink_to(run)
    with pytest.raises(ConfigError, match=rf"`run` \(=last\) finds outputs/link, a link to {run}; name the run by"):
        find_last(["last"])


@pytest.mark.parametrize("recorded", ["a\0b", "circle", "nowhere", "~"])
def test_an_odd_record_does_not_hide_a_run(recorded, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "circle").symlink_to("circle")
    (run / ".hydra" / "hydra.yaml").write_text(f"hydra:\n  runtime:\n    output_dir: {recorded}\n")
    assert newest_run(tmp_path) == run
