"""The jobs of a sweep on disk, without a run: their records, short names, the line after each job, the time left."""

import json
import time
from pathlib import Path

import pytest

from interp_lightning.runs import jobs
from interp_lightning.runs.jobs import FAILED, FINISHED, NOT_STARTED, UNFINISHED

NOW = 1_000_000.0


@pytest.fixture(autouse=True)
def _at_one_time(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: NOW)


def write(sweep: Path, number: int, status: str, started: float, seconds: int | None, *overrides: str) -> None:
    """Write a job that started some seconds ago."""
    (sweep / str(number)).mkdir()
    taken = None if seconds is None else float(seconds)
    content = {"overrides": overrides, "status": status, "error": None, "started": NOW - started, "seconds": taken}
    (sweep / str(number) / "job.json").write_text(json.dumps(content))


def plan(sweep: Path, *planned: list[str], started: float = 1000) -> None:
    content = {"started": NOW - started, "objective": "reconstruction_mse", "jobs": planned}
    (sweep / "plan.json").write_text(json.dumps(content))


def settings(number: int) -> list[str]:
    return ["data=digits", f"penalty.lam={number}"]


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        ([["penalty.lam=1", "seed=0"], ["penalty.lam=2", "seed=0"]], {"penalty.lam": "lam"}),
        (
            [["penalty.lam=1", "model.lam=1"], ["penalty.lam=2", "model.lam=2"]],
            {"penalty.lam": "penalty.lam", "model.lam": "model.lam"},
        ),
        ([["penalty=mmd", "+a.b=1"], ["penalty=gan", "+a.b=2"]], {"penalty": "penalty", "a.b": "b"}),
        ([["lam=a=b"], ["lam=a=c"], []], {"lam": "lam"}),
        ([["lam=1"]], {}),
    ],
)
def test_swept_settings_have_short_names_where_these_are_unique(overrides, names):
    assert jobs.swept({str(at): {"overrides": each} for at, each in enumerate(overrides)}) == names


def test_the_time_left_goes_by_the_finished_jobs(tmp_path):
    plan(tmp_path, *map(settings, range(5)))
    assert jobs.standing(tmp_path) == "0 of 5 jobs finished"
    write(tmp_path, 0, FINISHED, 700, 300, *settings(0))
    write(tmp_path, 1, FAILED, 400, 1, *settings(1))
    assert jobs.standing(tmp_path) == "1 of 5 jobs finished, 1 failed, 15 min left"
    write(tmp_path, 2, FINISHED, 399, 399, *settings(2))
    assert jobs.standing(tmp_path) == "2 of 5 jobs finished, 1 failed, 12 min left"


def test_the_time_left_is_divided_by_the_jobs_that_run_at_once(tmp_path):
    plan(tmp_path, *map(settings, range(4)))
    write(tmp_path, 0, FINISHED, 600, 600, *settings(0))
    write(tmp_path, 1, UNFINISHED, 600, None, *settings(1))
    assert jobs.standing(tmp_path) == "1 of 4 jobs finished, 10 min left"


def test_a_running_job_takes_what_is_left_of_its_own_time(tmp_path):
    plan(tmp_path, *map(settings, range(2)))
    write(tmp_path, 0, FINISHED, 600, 600, *settings(0))
    write(tmp_path, 1, UNFINISHED, 240, None, *settings(1))
    assert jobs.standing(tmp_path) == "1 of 2 jobs finished, 6 min left"


def test_a_job_that_an_earlier_sweep_left_unfinished_waits(tmp_path):
    plan(tmp_path, *map(settings, range(2)), started=700)
    write(tmp_path, 0, FINISHED, 600, 600, *settings(0))
    write(tmp_path, 1, UNFINISHED, 90_000, None, *settings(1))
    assert jobs.standing(tmp_path) == "1 of 2 jobs finished, 10 min left"


def test_the_line_after_a_job(tmp_path):
    plan(tmp_path, *map(settings, range(3)))
    for number in (0, 1):
        (tmp_path / str(number)).mkdir()
        jobs.record_job(tmp_path / str(number), settings(number), UNFINISHED)
        assert jobs.read_job(tmp_path / str(number))["started"] == NOW
        file = tmp_path / str(number) / "job.json"
        file.write_text(file.read_text().replace(str(NOW), str(NOW - 480)))
    jobs.record_job(tmp_path / "0", settings(0), FINISHED)
    line = jobs.ending(tmp_path / "0", 0.5542, "score_graph_constant")
    assert line == "1 of 3 finished, 8 min left: lam=0: score 55.4%, 8 min"
    jobs.record_job(tmp_path / "1", settings(1), FAILED, "it broke")
    assert jobs.ending(tmp_path / "1") == "1 of 3 finished, 1 failed, 8 min left: lam=1: failed, 8 min"
    assert "1 of 3 jobs finished, 1 failed, 8 min left" in (tmp_path / "summary.md").read_text()


def test_the_first_job_of_a_search_has_its_settings_in_the_line_after_it(tmp_path):
    content = {"started": NOW, "objective": "reconstruction_mse", "swept": ["penalty.lam", "model"], "jobs": [[], []]}
    (tmp_path / "plan.json").write_text(json.dumps(content))
    write(tmp_path, 0, FAILED, 12, 12, *settings(3))
    assert jobs.ending(tmp_path / "0") == "0 of 2 finished, 1 failed: lam=3: failed, 12 s"


def test_settings_in_which_jobs_differ_are_swept_without_a_plan(tmp_path):
    found = {"0": {"overrides": ["a.x=1", "b.y=1", "c=0"]}, "1": {"overrides": ["a.x=2", "b.y=1", "c=0"]}}
    assert jobs.swept(found, ["b.y", "gone"]) == {"a.x": "x", "b.y": "y"}


def test_long_values_are_shortened_for_readers(tmp_path):
    assert jobs.shown("x" * 60) == "x" * 60
    assert len(jobs.shown("x" * 5_000)) == 60


@pytest.mark.parametrize("times", [{"started": "x", "seconds": []}, {"started": float("nan"), "seconds": True}, {}])
def test_odd_times_are_unknown(times, tmp_path):
    content = {"overrides": [], "status": FINISHED, "error": None} | times
    (tmp_path / "job.json").write_text(json.dumps(content))
    job = jobs.read_job(tmp_path)
    assert (job["status"], job["started"], job["seconds"]) == (FINISHED, None, None)


@pytest.mark.parametrize("content", ["", "[]", "[[]]", '{"jobs": 5}', '{"jobs": [], "objective": 1}', "[" * 100_000])
def test_a_damaged_plan_is_no_plan(content, tmp_path):
    (tmp_path / "plan.json").write_text(content)
    assert jobs.read_plan(tmp_path) == jobs.Planned()


def test_only_a_table_with_errors_has_a_column_for_them(tmp_path):
    plan(tmp_path, *map(settings, range(2)))
    write(tmp_path, 0, FINISHED, 10, 10, *settings(0))
    table = jobs.jobs_table(tmp_path, "Jobs")
    assert [column.title for column in table.columns] == ["job", "settings", "status"]
    assert [[*row.cells] for row in table.rows] == [
        ["0", "penalty.lam=0", FINISHED],
        ["1", "penalty.lam=1", NOT_STARTED],
    ]
    (tmp_path / "1").mkdir()
    jobs.record_job(tmp_path / "1", settings(1), FAILED, "it\nbroke")
    table = jobs.jobs_table(tmp_path, "Jobs")
    assert table.columns[-1].title == "error"
    assert table.rows[1].cells[-1] == "it broke"
