"""Sweeps: one folder, a summary whatever happens, and nothing done twice."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from conftest import TINY, at_batch

from interp_lightning.runs.checkpoints import read_checkpoint

SWEEP = ["-m", *TINY, "trainer.limit_train_batches=4"]


def jobs(tmp_path: Path) -> dict[str, dict]:
    """What became of each job of the only sweep, by its number."""
    (sweep,) = (path.parent for path in tmp_path.glob("outputs/*/*/summary.md"))
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(sweep.glob("*/job.json"))}


def test_one_failing_job_is_named_and_the_others_finish(invoke, tmp_path):
    status, output = invoke(*SWEEP, "penalty=gan,mmd", "penalty.lam=0.1,-1")
    assert status == 1
    assert "Traceback" not in output
    found = jobs(tmp_path)
    assert [job["status"] for job in found.values()] == ["finished", "failed", "finished", "failed"]
    assert found["1"]["overrides"][-2:] == ["penalty=gan", "penalty.lam=-1"]
    assert found["1"]["error"].startswith("`penalty.lam` (=-1) must be ≥ 0")
    (sweep,) = tmp_path.glob("outputs/*/*")
    assert "`penalty.lam` (=-1)" in (sweep / "1" / "run.log").read_text()
    assert len(list(sweep.glob("*/results.json"))) == 2
    assert "| 1 | penalty=gan penalty.lam=-1 | failed | `penalty.lam` (=-1)" in (sweep / "summary.md").read_text()
    assert "2 of 4 jobs finished, 2 failed" in output
    assert re.search(r"INFO 1 of 4 finished, \d+ s left: penalty=gan lam=0.1: \d+ s$", output, re.MULTILINE)
    assert re.search(r"INFO 1 of 4 finished, 1 failed, .* left: penalty=gan lam=-1: failed, 0 s$", output, re.MULTILINE)
    assert "samples of the prior" not in output  # of a job's own tables
    assert "Jobs 1, 3: `penalty.lam` (=-1) must be ≥ 0" in " ".join(output.split())
    assert output.splitlines()[-1].endswith("comparison/report.html")


def block(monkeypatch, tmp_path: Path, name: str) -> None:
    """Put a folder in place of a file of the sweep while its first job trains."""

    def be_in_the_way(_: object) -> None:
        for path in tmp_path.glob(f"outputs/*/*/{name}"):
            if path.is_file():
                path.unlink()
                path.mkdir()

    at_batch(monkeypatch, 2, be_in_the_way)


def test_a_summary_that_cannot_be_written_costs_no_job(invoke, monkeypatch, tmp_path):
    block(monkeypatch, tmp_path, "summary.md")
    _, output = invoke(*SWEEP, "penalty.lam=0.1,1")
    assert "Traceback" not in output
    assert "summary.md` cannot be written" in output
    assert [job["status"] for job in jobs(tmp_path).values()] == ["finished", "finished"]


def test_a_job_whose_end_cannot_be_recorded_does_not_end_the_sweep(invoke, monkeypatch, tmp_path):
    block(monkeypatch, tmp_path, "0/job.json")
    _, output = invoke(*SWEEP, "penalty.lam=0.1,1")
    assert "Traceback" not in output
    assert "sweep.resume=true would do this job again" in " ".join(output.split())
    (second,) = tmp_path.glob("outputs/*/*/1/job.json")
    assert json.loads(second.read_text())["status"] == "finished"


def test_an_error_of_the_programs_own_is_kept_whole(invoke, tmp_path):
    def before() -> None:
        torch.save = None

    status, output = invoke(*SWEEP, "penalty.lam=0.1,1", before=before)
    assert status == 1
    assert "'NoneType' object is not callable" in jobs(tmp_path)["0"]["error"]
    assert "Traceback" in jobs(tmp_path)["1"]["error"]
    assert "0 of 2 jobs finished" in output
    said = "Jobs 0, 1: TypeError: 'NoneType' object is not callable (its run.log has the traceback)"
    assert said in " ".join(output.split())  # a terminal may be narrow


@pytest.mark.parametrize("batch", [2, 4])
def test_a_killed_sweep_goes_on_where_it_stopped(batch, invoke, monkeypatch, tmp_path):
    options = [*SWEEP, "penalty.lam=0.1,1,2", "checkpoint.every_minutes=0", "trainer.max_epochs=2"]
    with monkeypatch.context() as patch:
        at_batch(patch, 4 + batch, lambda _: os.kill(os.getpid(), signal.SIGKILL), job="1")
        status, _ = invoke(*options)
    assert status == -signal.SIGKILL
    assert [job["status"] for job in jobs(tmp_path).values()] == ["finished", "unfinished"]
    (sweep,) = tmp_path.glob("outputs/*/*")
    first = (sweep / "0" / "results.json").stat()

    status, output = invoke(*options, "sweep.resume=true")
    assert status == 0, output
    assert [job["status"] for job in jobs(tmp_path).values()] == ["finished"] * 3
    assert (sweep / "0" / "results.json").stat().st_mtime_ns == first.st_mtime_ns
    assert f"Resuming after {3 + batch} batches" in output
    assert "3 of 3 jobs finished" in output

    straight = json.loads((sweep / "2" / "results.json").read_text())
    assert json.loads((sweep / "1" / "results.json").read_text())["budget"]["images"] == straight["budget"]["images"]
    assert read_checkpoint(sweep / "1" / "checkpoints" / "last.ckpt")["batches_seen"] == 8

    status, output = invoke(*options, "sweep.resume=true")
    assert status == 0
    assert output.count("Finished before: ") == 3


def test_a_damaged_job_file_means_that_its_job_has_not_finished(invoke, tmp_path):
    contents = ["", "x", "[]", '{"status": "finished"}', "[" * 100_000]
    options = [*SWEEP, f"seed={','.join(map(str, range(len(contents) + 1)))}"]
    invoke(*options)
    (sweep,) = tmp_path.glob("outputs/*/*")
    for number, content in enumerate(contents):
        (sweep / str(number) / "job.json").write_text(content)
    status, output = invoke(*options, "sweep.resume=true")
    assert status == 0, output
    assert output.count("Finished before: ") == 1
    assert [job["status"] for job in jobs(tmp_path).values()] == ["finished"] * 6


def test_a_sweep_with_other_settings_does_not_go_on(invoke, tmp_path):
    invoke(*SWEEP, "penalty.lam=0.1")
    before = jobs(tmp_path)
    status, output = invoke(*SWEEP, "penalty.lam=0.2,0.3", "sweep.resume=true")
    assert status == 1
    assert "`sweep.resume` (=true) has other settings for " in output
    assert "than it was started with: penalty.lam=0.2 (was 0.1); set them back, or start another sweep" in output
    assert jobs(tmp_path)["0"] == before["0"]
    assert jobs(tmp_path)["1"]["status"] == "finished"  # a point more
