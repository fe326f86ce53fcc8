"""The ranking of a sweep's settings: rows, marks and sentences, from job and result files that are written here."""

import csv
import io
import json
import math
from copy import deepcopy
from pathlib import Path

import pytest
from rich.console import Console

from interp_lightning.comparison.ranking import conclusions, rank, ranking_numbers, ranking_table
from interp_lightning.comparison.verdicts import verdicts
from interp_lightning.runs.jobs import FAILED, FINISHED, UNFINISHED
from interp_lightning.system.table import as_csv, as_markdown, print_table

RESULTS = {
    "model": "acai", "penalty": "mmd", "data": "mnist", "seed": 0, "config_hash": "0" * 64,
    "budget": {"images": 1000, "seconds": 1.0}, "protocol": {"images": 100}, "sanity": {}, "git_commit": None,
    "config": {"choices": {"model": "acai", "penalty": "mmd", "data": "mnist"}, "data_used": "mnist", "data": {}},
}  # fmt: skip
BLEND = {"realism_blend_constant": 0.1, "membership_blend_constant": 0.1, "score_blend_constant": 0.1}


class Sweep:
    """A sweep's folder, written job by job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.planned: list[list[str]] = []

    def job(self, status: str, *overrides: str, error: str | None = None, **numbers: float | None) -> None:
        """Add a job; a finished one has results, its score among `numbers`."""
        number = len(list(self.folder.iterdir()))
        run = self.folder / str(number)
        run.mkdir()
        self.planned.append([*overrides])
        times = {"started": None, "seconds": None}
        (run / "job.json").write_text(json.dumps({"overrides": overrides, "status": status, "error": error} | times))
        if status == FINISHED:
            content = deepcopy(RESULTS) | {"metrics": {f"{key}_graph_constant": each for key, each in numbers.items()}}
            seed = next((int(each[5:]) for each in overrides if each.startswith("seed=")), 0)
            content |= {"seed": seed, "sanity": BLEND}
            content["config"]["penalty"] = dict(each.split("=") for each in overrides if not each.startswith("seed"))
            (run / "results.json").write_text(json.dumps(content))

    def plan(self, *waiting: list[str], objective: str = "score_graph_constant") -> None:
        content = {"started": 0.0, "objective": objective, "jobs": [*self.planned, *waiting]}
        (self.folder / "plan.json").write_text(json.dumps(content))


@pytest.fixture
def sweep(tmp_path) -> Sweep:
    return Sweep(tmp_path)


def rows(sweep: Sweep) -> list[list[str]]:
    """The cells of each setting: the swept values, the status unless all have finished, numbers, time of training."""
    return [[*row.cells] for row in ranking_table(rank(sweep.folder)).rows if row.kind != "anchor"]


def said(sweep: Sweep) -> str:
    return "\n".join(ranking_table(rank(sweep.folder)).remarks)


def two_seeds(sweep: Sweep, lam: float, *scores: float) -> None:
    for seed, score in enumerate(scores):
        sweep.job(FINISHED, f"penalty.lam={lam}", f"seed={seed}", score=score)


def test_a_row_for_each_setting_with_every_status(sweep):
    two_seeds(sweep, 0.1, 0.5, 0.54)
    sweep.job(FINISHED, "penalty.lam=1", "seed=0", score=0.2)
    sweep.job(FAILED, "penalty.lam=1", "seed=1", error="Traceback (most recent call last):\n  File x\nKeyError: 'x'")
    sweep.job(UNFINISHED, "penalty.lam=2", "seed=0")
    sweep.plan(["penalty.lam=2", "seed=1"])
    table = ranking_table(rank(sweep.folder))
    assert table.title == "3 of 6 jobs finished, 1 failed"
    assert [column.title for column in table.columns] == ["lam", "status", "score ↑", "training"]
    assert rows(sweep) == [
        ["0.1", "2 finished", "52.0% ± 2.8% *", "1 s"],
        ["1", "1 finished, 1 failed", "20.0%", "1 s"],
        ["2", "1 unfinished, 1 not started", "–", "–"],
    ]
    assert [[*row.best] for row in table.rows] == [[2], [], [], []]
    best = "lam=0.1 (jobs 0, 1), 52.0% ± 2.8% over 2 seeds, further ahead of all others"
    assert f"Best by score of graph paths at constant speed (*): {best}" in said(sweep)
    assert "Job 3: KeyError: 'x' (its run.log has the traceback)" in said(sweep)


def test_settings_within_the_spread_are_best_together(sweep):
    for lam, scores in ((0, (0.5, 0.54)), (1, (0.51, 0.55)), (2, (0.2, 0.24))):
        two_seeds(sweep, lam, *scores)
    sweep.plan()
    assert [row[-2].endswith(" *") for row in rows(sweep)] == [True, True, False]
    assert "lam=1 (jobs 2, 3), 53.0% ± 2.8% over 2 seeds; within the spread over seeds of it: lam=0." in said(sweep)


def test_with_one_seed_nothing_is_best_with_certainty(sweep):
    for lam in (0.1, 1):
        sweep.job(FINISHED, f"penalty.lam={lam}", "seed=0", score=lam / 2)
    sweep.plan()
    assert not any(row[-2].endswith("*") for row in rows(sweep))
    assert said(sweep) == (
        "Highest score of graph paths at constant speed: lam=1 (job 1), 50.0% over 1 seed; uncertain, because each "
        "setting has one seed (train several, such as -m seed=0,1,2)."
    )


def test_the_best_does_not_count_unless_it_beats_the_baseline(sweep):
    two_seeds(sweep, 1, 0.05, 0.06)
    two_seeds(sweep, 2, 0.01, 0.02)
    sweep.plan()
    assert said(sweep) == (
        "Highest score of graph paths at constant speed: lam=1 (jobs 0, 1), 5.5% ± 0.7% over 2 seeds; its paths "
        "(graph) do not beat fading pixels over (score 10.0%)."
    )


def test_with_one_seed_the_sentence_says_that_the_best_loses_to_the_baseline(sweep):
    for lam in (0.1, 1):
        sweep.job(FINISHED, f"penalty.lam={lam}", "seed=0", score=lam / 20)
    assert len(ranking_table(rank(sweep.folder)).remarks) == 1
    assert "5.0% over 1 seed; its paths (graph) do not beat fading pixels over (score 10.0%); uncertain" in said(sweep)


def test_settings_within_the_spread_of_one_another_are_none_the_best(sweep):
    for lam, scores in ((0, (0.5, 0.54)), (1, (0.51, 0.55))):
        two_seeds(sweep, lam, *scores)
    assert said(sweep).endswith("lam=1 (jobs 2, 3), 53.0% ± 2.8% over 2 seeds; all are within the spread over seeds.")


def test_sanity_rows_come_last_and_carry_no_setting(sweep):
    two_seeds(sweep, 0.1, 0.5, 0.54)
    two_seeds(sweep, 1, 0.2, 0.24)
    sweep.plan()
    table = ranking_table(rank(sweep.folder))
    assert [column.title for column in table.columns] == ["lam", "score ↑", "training"]  # no status: all have finished
    assert [[*row.cells] for row in table.rows if row.kind == "anchor"] == [["pixels faded over", "10.0%", ""]]
    assert "| *pixels faded over* | 10.0% |  |" in as_markdown(table)
    *settings, faded = csv.DictReader(io.StringIO(as_csv(ranking_numbers(rank(sweep.folder)))))
    assert [float(row["lam"]) for row in settings] == [0.1, 1]
    assert [float(row["seconds"]) for row in settings] == [1, 1]
    assert {key: value for key, value in faded.items() if value} == {
        "status": "pixels faded over", "seeds": "0", "best": "false", "score_graph_constant": "0.1"
    }  # fmt: skip


def test_another_objective_comes_first(sweep):
    for seed in (0, 1):
        for lam, realism in ((0.1, 0.5), (1, 0.9)):
            sweep.job(FINISHED, f"penalty.lam={lam}", f"seed={seed}", score=1 - realism, realism=realism + seed / 100)
    sweep.plan(objective="realism_graph_constant")
    table = ranking_table(rank(sweep.folder))
    assert [column.title for column in table.columns] == ["lam", "realism ↑", "score ↑", "training"]
    assert "Best by realism of graph paths at constant speed (*): lam=1 (jobs 1, 3), 90.5% ± 0.7% over 2 seeds" in said(
        sweep
    )


def test_a_search_has_a_row_for_each_trial_and_one_for_the_rest(sweep):
    for lam in ("0.01567667719550607", "0.005627932047415168"):
        sweep.job(FINISHED, f"penalty.lam={lam}", score=float(lam))
    sweep.planned = [[], []]
    sweep.plan([], [])
    assert rows(sweep) == [
        ["0.01568", "finished", "1.6%", "1 s"],
        ["0.005628", "finished", "0.6%", "1 s"],
        ["–", "2 not started", "–", "–"],
    ]
    assert "Highest score of graph paths at constant speed: lam=0.01568 (job 0), 1.6%" in said(sweep)


def test_long_values_that_would_look_alike_are_shown_whole(sweep):
    for lam in ("0.0156766771", "0.0156766772"):
        sweep.job(FINISHED, f"penalty.lam={lam}", score=0.5)
    assert [setting.label for setting in rank(sweep.folder).settings] == ["lam=0.0156766771", "lam=0.0156766772"]


def test_a_sweep_over_seeds_only_has_one_row(sweep):
    for seed in (0, 1):
        sweep.job(FINISHED, f"seed={seed}", score=0.5 + seed / 10)
    assert rows(sweep) == [["all", "55.0% ± 7.1%", "1 s"]]
    assert said(sweep) == "Score of graph paths at constant speed: all (jobs 0, 1), 55.0% ± 7.1% over 2 seeds."


@pytest.mark.parametrize("status", [FAILED, UNFINISHED])
def test_a_sweep_without_results_has_a_table(status, sweep):
    sweep.job(status, "penalty.lam=1", error="it broke")
    sweep.job(status, "penalty.lam=2", error="it broke")
    assert [row[1:] for row in rows(sweep)] == [[status, "–", "–"]] * 2
    assert said(sweep) == "Jobs 0, 1: it broke"


def test_a_sweep_that_has_not_measured_its_objective_says_so(sweep):
    two_seeds(sweep, 1, None, None)
    two_seeds(sweep, 2, None, None)
    assert "No run has a score (score_graph_constant), so nothing is best; sweep.objective=…" in said(sweep)


def test_different_data_sets_are_not_ranked(sweep):
    two_seeds(sweep, 1, 0.2, 0.21)
    two_seeds(sweep, 2, 0.7, 0.71)
    file = sweep.folder / "0" / "results.json"
    file.write_text(file.read_text().replace("mnist", "lines"))
    assert "uncertain, because numbers of different data sets do not compare." in said(sweep)
    assert not rank(sweep.folder).comparison.leading("score_graph_constant")


def test_a_finished_job_whose_results_are_gone_is_named(sweep):
    two_seeds(sweep, 1, 0.2, 0.21)
    two_seeds(sweep, 2, 0.7, 0.71)
    (sweep.folder / "0" / "results.json").write_text("{")
    assert "results.json cannot be read" in said(sweep)


def test_the_csv_has_unrounded_numbers_and_errors_only_if_there_are_some(sweep):
    two_seeds(sweep, 0.1, 0.5, 0.54)
    sweep.job(UNFINISHED, "penalty.lam=1", "seed=0")
    (first, second, _) = csv.DictReader(io.StringIO(as_csv(ranking_numbers(rank(sweep.folder)))))
    assert (first["lam"], first["jobs"], first["status"], first["seeds"]) == ("0.1", "0 1", "2 finished", "2")
    assert (float(first["score_graph_constant"]), float(first["score_graph_constant_sd"])) == (
        pytest.approx(0.52),
        pytest.approx(0.02828, rel=1e-3),
    )
    assert (second["score_graph_constant"], second["seeds"]) == ("", "0")
    assert "error" not in first
    sweep.job(FAILED, "penalty.lam=1", "seed=1", error="it broke")
    (_, second, _) = csv.DictReader(io.StringIO(as_csv(ranking_numbers(rank(sweep.folder)))))
    assert second["error"] == "it broke"


def test_settings_sort_by_their_values(sweep):
    for lam in ("10", "2", "x", "0.5"):
        sweep.job(FINISHED, f"penalty.lam={lam}", score=0.5)
    ordered = sorted(rank(sweep.folder).settings, key=lambda setting: setting.order)
    assert [setting.label for setting in ordered] == ["lam=0.5", "lam=2", "lam=10", "lam=x"]
    assert [setting.label for setting in rank(sweep.folder).best_first()][:1] == ["lam=10"]


def test_the_table_is_legible_at_80_columns(sweep):
    for penalty in ("none", "wasserstein"):
        for model in ("ae", "acai"):
            for seed in (0, 1):
                numbers = {"score": 0.5 + seed / 10, "realism": 0.5, "membership": 0.9 + seed / 100}
                sweep.job(FINISHED, f"penalty={penalty}", f"model={model}", f"seed={seed}", **numbers)
    table = ranking_table(rank(sweep.folder))
    file = io.StringIO()
    print_table(table, Console(width=80, file=file))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("wasserstein" in line and "acai" in line and "55.0%" in line for line in lines)
    assert any("± 7.1%" in line for line in lines)
    assert any(
        line.split() == ["│", "pixels", "│", "│", "10.0%", "│", "10.0%", "│", "10.0%", "│", "│"] for line in lines
    )
    assert "| none | ae | 55.0% ± 7.1% |" in as_markdown(table)
    assert conclusions(rank(sweep.folder))


def test_only_seeds_that_have_the_objective_count(sweep):
    two_seeds(sweep, 0.1, 0.9, 0.92, math.nan)
    two_seeds(sweep, 1, 0.2, 0.22, 0.21)
    (first, second, _) = csv.DictReader(io.StringIO(as_csv(ranking_numbers(rank(sweep.folder)))))
    assert (first["seeds"], second["seeds"]) == ("2", "3")
    assert (first["best"], second["best"]) == ("false", "false")
    assert said(sweep).startswith(
        "Highest score of graph paths at constant speed: lam=0.1 (jobs 0, 1), 91.0% ± 1.4% over 2 seeds; "
        "1 of 3 seeds of lam=0.1 has failed or has no score."
    )


def test_a_setting_whose_other_seeds_failed_does_not_win(sweep):
    sweep.job(FINISHED, "penalty.lam=0.1", "seed=0", score=0.9)
    for seed in (1, 2):
        sweep.job(FAILED, "penalty.lam=0.1", f"seed={seed}", error="diverged")
    two_seeds(sweep, 1, 0.8, 0.81, 0.82)
    sweep.plan()
    assert not rank(sweep.folder).comparison.leading("score_graph_constant")
    assert not any(row[-2].endswith("*") for row in rows(sweep))
    assert said(sweep).splitlines()[0] == (
        "Highest score of graph paths at constant speed: lam=0.1 (job 0), 90.0% over 1 seed; 2 of 3 seeds of lam=0.1 "
        "have failed or have no score."
    )
    (verdict,) = verdicts(rank(sweep.folder).comparison, ["score_graph_constant"])  # of the report's tables
    assert verdict == "2 of 3 seeds of lam=0.1 have failed or have no number, so nothing is marked best in score."


def test_a_winner_is_marked_although_seeds_of_another_failed(sweep):
    two_seeds(sweep, 1, 0.8, 0.84)
    two_seeds(sweep, 0.1, 0.1, 0.12)
    two_seeds(sweep, 2, 0.81)
    sweep.job(FAILED, "penalty.lam=2", "seed=1", error="diverged")
    level = "lam=2 (1 of 2 seeds of lam=2 has failed or has no score)."
    assert f"(*): lam=1 (jobs 0, 1), 82.0% ± 2.8% over 2 seeds; within the spread over seeds of it: {level}" in said(
        sweep
    )


@pytest.mark.parametrize(
    ("key", "texts", "values"),
    [
        ("penalty.lam", ["0.1", "1e-1", "0.10"], ["0.1"]),
        ("penalty.lam", ["1", "1.0", "2"], ["1", "2"]),
        ("trainer.limit_train_batches", ["1", "1.0", "1.00"], ["1", "1.0"]),  # a batch, and all batches
        ("penalty", ["mmd", "gan"], ["mmd", "gan"]),
        ("penalty.lam", ["nan", "inf"], ["nan", "inf"]),
    ],
)
def test_a_value_that_is_written_in_two_ways_has_one_row(key, texts, values, sweep):
    for seed, text in enumerate(texts):
        sweep.job(FINISHED, f"{key}={text}", f"seed={seed}", score=0.5)
    assert [setting.values for setting in rank(sweep.folder).settings if setting.label != "all"] == [
        (value,) for value in values
    ]


def test_long_values_and_errors_do_not_fill_the_terminal(sweep):
    for seed, value in enumerate(("a" * 5_000, "a" * 2_500 + "b" + "a" * 2_499)):
        sweep.job(FINISHED, f"data.root={value}", f"seed={seed}", score=0.5 + seed / 10)
        sweep.job(FAILED, f"data.root={value}", "seed=2", error=f"{seed} {'no ' * 2_000}")
    sweep.plan()
    assert {setting.label[-4:] for setting in rank(sweep.folder).settings} == {" (1)", " (2)"}
    file = io.StringIO()
    print_table(ranking_table(rank(sweep.folder)), Console(width=80, file=file))
    assert len(file.getvalue().splitlines()) < 50
    assert "a" * 5_000 in as_csv(ranking_numbers(rank(sweep.folder)))


def test_the_first_job_of_a_search_has_the_column_of_its_setting(sweep):
    sweep.job(FINISHED, "penalty.lam=0.5", score=0.5)
    content = {"started": 0.0, "objective": "score_graph_constant", "jobs": [[], []], "swept": ["penalty.lam"]}
    (sweep.folder / "plan.json").write_text(json.dumps(content))
    assert [row[0] for row in rows(sweep)] == ["0.5", "–"]
