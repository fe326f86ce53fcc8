"""The end of a sweep: what is printed and written, whatever happens to the pictures."""

import errno
import json
import logging
import re
import shutil
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from interp_lightning.commands import compare, train
from interp_lightning.commands import conclude as conclude_module
from interp_lightning.commands.conclude import conclude
from interp_lightning.comparison import figures, writing
from interp_lightning.comparison.groups import Comparison
from interp_lightning.comparison.walks import FADED
from interp_lightning.errors import ConfigError
from interp_lightning.runs.jobs import FAILED, FINISHED, UNFINISHED
from interp_lightning.runs.load import Run

CURVES = {"trade_off.png", "against_penalty_lam.png"}
PICTURES = {"sheet.png", *CURVES, *(f"pair_{pair}.png" for pair in range(1, 5))}


@pytest.fixture
def sweep(trained, tmp_path) -> Path:
    """Two λ with two seeds each, whose numbers are made up where they matter, and a job that failed."""
    folder = tmp_path / "sweep"
    for number, (source, lam, seed, score) in enumerate(
        [("acai", 0.1, 0, 0.5), ("seed", 0.1, 1, 0.6), ("acai", 0.003, 0, 0.1), ("seed", 0.003, 1, 0.2)]
    ):
        run = Path(shutil.copytree(trained[source], folder / str(number)))
        content = json.loads((run / "results.json").read_text())
        content["metrics"]["score_graph_constant"] = score
        content["sanity"] |= {f"{name}_blend_constant": 0.0 for name in ("score", "realism", "membership")}
        content["config"]["penalty"]["lam"] = lam
        (run / "results.json").write_text(json.dumps(content))
        job(run, FINISHED, lam, seed)
    (folder / "4").mkdir()
    job(folder / "4", FAILED, -1, 0, "`penalty.lam` (=-1) must be ≥ 0")
    return folder


@pytest.fixture
def _without_models(monkeypatch):
    """Draw only what requires no model, which takes a moment."""
    monkeypatch.setattr(compare, "load_models", lambda *_, **__: [])


def job(folder: Path, status: str, lam: float, seed: int, error: str | None = None) -> None:
    overrides = [f"penalty.lam={lam}", f"seed={seed}"]
    (folder / "job.json").write_text(json.dumps({"overrides": overrides, "status": status, "error": error}))


def test_what_a_sweep_leaves(sweep, capsys):
    assert not conclude(sweep, pictures=True)  # a job has failed
    *_, summary, numbers, curves, last = printed = capsys.readouterr().out.splitlines()
    assert (summary, numbers) == (f"Summary:  {sweep / 'summary.md'}", f"Numbers:  {sweep / 'summary.csv'}")
    assert curves == f"Curves:   tensorboard --logdir {sweep}"
    assert last == f"Report:   {sweep / 'comparison' / 'report.html'}"
    assert (
        "Best by score of graph paths at constant speed (*): lam=0.1 (jobs 0, 1), 55.0% ± 7.1% over 2 seeds"
        in " ".join(printed)
    )
    assert "Job 4: `penalty.lam` (=-1) must be ≥ 0" in printed

    text = (sweep / "summary.md").read_text()
    assert "| 0.1 | 2 finished | **55.0% ± 7.1% &#42;** |" in text
    assert "| 4 | penalty.lam=-1 seed=0 | failed | `penalty.lam` (=-1) must be ≥ 0 |" in text
    assert (sweep / "summary.csv").read_text().startswith("lam,jobs,status,seeds,best,score_graph_constant,")
    written = {path.name for path in (sweep / "comparison").iterdir()}
    assert written == {"comparison.csv", "comparison.md", "report.html", *PICTURES}
    page = (sweep / "comparison" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2 + 4 * 3 * 2  # curves; two settings and fading, graph and lerp
    assert re.findall(r"<th scope=row>(lam=\S+) <small>([^<]*)", page) == 4 * [
        ("lam=0.003", "score of graph paths at constant speed 15.0% ± 7.1%"),
        ("lam=0.1", "score of graph paths at constant speed 55.0% ± 7.1%"),
    ]
    assert page.count(f"<th scope=row>{FADED} <small>score 0.0%</small>") == 4


def test_the_sheet_has_a_row_for_each_setting_in_order_with_graph_and_lerp(sweep, monkeypatch):
    drawn = []
    draw = figures.sheet
    monkeypatch.setattr(figures, "sheet", lambda strips, *names: drawn.append(strips) or draw(strips, *names))
    conclude(sweep, pictures=True)
    (strips,) = drawn
    assert [*strips] == ["lam=0.003: score 15.0% ± 7.1%", "lam=0.1: score 55.0% ± 7.1%"]
    for each in strips.values():
        assert [*each] == ["graph", "lerp"]
        assert {strip.shape[:2] for strip in each.values()} == {(2, 8)}
        ends = [strip[:, [0, -1]] for strip in each.values()]
        assert (ends[0] == ends[1]).all()
    first, second = strips.values()
    assert (first["lerp"][:, [0, -1]] == second["lerp"][:, [0, -1]]).all()  # the same pairs


def test_a_graph_that_was_not_kept_is_not_fitted_for_the_sheet(sweep, monkeypatch):
    shutil.rmtree(sweep / "0" / "paths")
    drawn = []
    draw = figures.sheet
    monkeypatch.setattr(figures, "sheet", lambda strips, *names: drawn.append(strips) or draw(strips, *names))
    conclude(sweep, pictures=True)
    assert [[*each] for each in drawn[0].values()] == [["graph", "lerp"], ["lerp"]]
    page = (sweep / "comparison" / "report.html").read_text()
    assert "The graph of lam=0.1 is not shown, as it was not kept for these weights and settings" in page
    assert f"python -m interp_lightning evaluate run={sweep / '0'} makes it again" in page


def test_a_graph_that_was_never_measured_is_not_missed(sweep):
    shutil.rmtree(sweep / "0" / "paths")
    file = sweep / "0" / "results.json"
    content = json.loads(file.read_text())
    content["metrics"] = {key: value for key, value in content["metrics"].items() if "graph" not in key}
    file.write_text(json.dumps(content))
    conclude(sweep, pictures=True)
    page = (sweep / "comparison" / "report.html").read_text()
    assert "data:image/png" in page
    assert "is not shown" not in page


def test_a_job_whose_model_is_lost_costs_only_its_row(sweep, capsys, caplog):
    (sweep / "0" / "checkpoints" / "last.ckpt").write_bytes(b"")
    conclude(sweep, pictures=True)
    assert "No pictures of lam=0.1: " in caplog.text
    assert capsys.readouterr().out.splitlines()[-1].startswith("Report:")
    assert {path.name for path in (sweep / "comparison").glob("*.png")} == PICTURES


def test_paths_that_fail_cost_only_their_row_of_the_report(sweep, monkeypatch, caplog):
    strips = compare.strips

    def fail(run: Run, *args: object) -> dict[str, torch.Tensor]:
        if run.folder == sweep / "0":
            raise RuntimeError("no way")
        return strips(run, *args)

    monkeypatch.setattr(compare, "strips", fail)
    conclude(sweep, pictures=True)
    assert "The paths of lam=0.1 could not be drawn (RuntimeError: no way)" in caplog.text
    page = (sweep / "comparison" / "report.html").read_text()
    assert {*re.findall(r"<th scope=row>(lam=\S+)", page)} == {"lam=0.003"}


@pytest.mark.parametrize("lost", ["sheet", "side_by_side", "trade_off", "against_lambda"])
def test_pictures_that_fail_change_nothing_else(lost, sweep, monkeypatch, capsys, caplog):
    def fail(*_: object) -> None:
        raise RuntimeError("no paper")

    prefixes = {"side_by_side": "pair_", "against_lambda": "against_"}
    left = {picture for picture in PICTURES if not picture.startswith(prefixes.get(lost, lost))}

    for number in "4":
        shutil.rmtree(sweep / number)
    monkeypatch.setattr(figures, lost, fail)
    assert conclude(sweep, pictures=True)
    assert "no paper" in caplog.text
    out = capsys.readouterr().out
    assert "Best by score of graph paths" in out
    assert out.splitlines()[-1].startswith("Report:")
    written = {path.name for path in (sweep / "comparison").iterdir()}
    assert written == {"comparison.csv", "comparison.md", "report.html", *left}
    assert logging.getLogger("interp_lightning").level == logging.NOTSET


@pytest.mark.usefixtures("_without_models")
def test_a_figure_that_cannot_be_saved_costs_only_itself(sweep, monkeypatch, capsys, caplog):
    class Broken(Figure):
        def draw(self, *_: object, **__: object) -> None:
            raise ValueError("no ink")

    def broken(comparison: Comparison) -> dict[str, Figure]:
        return {"trade_off": Broken()}

    monkeypatch.setattr(figures, "trade_off", broken)
    conclude(sweep, pictures=True)
    assert caplog.text.count("trade_off could not be drawn") == 1
    assert {path.name for path in (sweep / "comparison").glob("*.png")} == CURVES - {"trade_off.png"}
    assert capsys.readouterr().out.splitlines()[-1].startswith("Report:")


@pytest.mark.parametrize("file", ["comparison.csv", "report.html", "trade_off.png"])
def test_a_folder_in_place_of_a_file_costs_only_that_file(file, sweep, capsys, caplog):
    (sweep / "comparison" / file).mkdir(parents=True)
    with pytest.raises(ConfigError, match=f"^{file} could not be made, for the reasons above; all else is in "):
        compare.work(compare.Settings(run=[str(sweep)], pictures=False))
    for name in {"comparison.csv", "comparison.md", "report.html", "trade_off.png"} - {file}:
        assert (sweep / "comparison" / name).is_file()
    assert f"{file} could not be written (Is a directory); continuing without this file" in caplog.text


@pytest.mark.usefixtures("_without_models")
@pytest.mark.parametrize(("lost", "kept"), [("summary.csv", "summary.md"), ("summary.md", "summary.csv")])
def test_a_ranking_that_cannot_be_written_costs_only_that_file(lost, kept, sweep, capsys, caplog):
    shutil.rmtree(sweep / "4")
    (sweep / lost).mkdir()
    assert not conclude(sweep, pictures=True)
    out = capsys.readouterr().out
    assert "Best by score of graph paths" in out
    assert f": {sweep / kept}" in " ".join(out.split())
    assert str(sweep / lost) not in out
    assert out.splitlines()[-1].startswith("Report:")
    assert (sweep / kept).is_file()
    assert f"`{sweep / lost}` cannot be written (Is a directory)" in caplog.text
    assert f"by python -m interp_lightning compare {sweep}" in caplog.text
    assert "resume" not in caplog.text


@pytest.mark.usefixtures("_without_models")
def test_a_full_disk_leaves_what_is_printed(sweep, monkeypatch, capsys, caplog):
    def full(path: Path, content: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    for module in (conclude_module, writing):
        monkeypatch.setattr(module, "replace", full)
    assert not conclude(sweep, pictures=True)
    assert caplog.text.count("No space left on device") == 2 + 2 + 1 + len(CURVES)  # each by itself
    out = capsys.readouterr().out
    assert "Best by score of graph paths" in out
    assert out.splitlines()[-1] == f"Compare:  python -m interp_lightning compare {sweep}"


def test_ctrl_c_ends_the_pictures_only(sweep, monkeypatch, capsys, caplog):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(figures, "sheet", interrupt)
    assert not conclude(sweep, pictures=True)
    assert "Interrupted: the pictures of this sweep are not complete" in caplog.text
    assert capsys.readouterr().out.splitlines()[-1] == f"Compare:  python -m interp_lightning compare {sweep}"


def test_a_sheet_of_too_many_settings_shows_the_best(sweep, monkeypatch):
    drawn = []
    draw = figures.sheet
    monkeypatch.setattr(figures, "sheet", lambda *args: drawn.append(args) or draw(*args))
    monkeypatch.setattr(compare, "MOST_SETTINGS", 1)
    conclude(sweep, pictures=True)
    ((strips, title, below),) = drawn
    assert [*strips] == ["lam=0.1: score 55.0% ± 7.1%"]
    assert title == "The same pairs by each setting, the best 1 of 2: left graph, right lerp, at constant speed"
    assert below == "pixels faded over: score 0.0%"
    page = (sweep / "comparison" / "report.html").read_text()
    assert "Only the best 1 of 2 settings are shown." in page
    assert {*re.findall(r"<th scope=row>(lam=\S+)", page)} == {"lam=0.1"}


def test_an_interrupted_sweep_does_not_wait_for_pictures(sweep, capsys):
    job(sweep / "3", UNFINISHED, 0.003, 1)
    assert not conclude(sweep, pictures=False)
    out = capsys.readouterr().out
    assert "3 of 5 jobs finished, 1 failed" in out
    assert out.splitlines()[-1] == f"Compare:  python -m interp_lightning compare {sweep}"
    assert not (sweep / "comparison").exists()


def test_one_run_is_nothing_to_compare(sweep, capsys):
    for number in "123":
        shutil.rmtree(sweep / number)
    conclude(sweep, pictures=True)
    assert "ompare" not in capsys.readouterr().out
    assert not (sweep / "comparison").exists()


def test_a_command_compares_a_sweep_that_has_ended(sweep):
    conclude(sweep, pictures=False)
    before = (sweep / "summary.md").read_text()
    compare.work(compare.Settings(run=[str(sweep)], pictures=False))
    assert (sweep / "comparison" / "report.html").is_file()
    assert (sweep / "summary.md").read_text() == before


def test_a_reader_that_is_gone_is_no_bug(monkeypatch, tmp_path):
    def gone(*_: object) -> bool:
        raise BrokenPipeError

    monkeypatch.setattr(train, "conclude", gone)
    with pytest.raises(BrokenPipeError):  # the command then ends quietly
        train.concluded(tmp_path, pictures=False)


def test_ctrl_c_that_a_librarys_cleaning_up_hides_is_heard():
    try:
        try:
            raise KeyboardInterrupt
        finally:
            [].index(0)
    except ValueError as error:
        with pytest.raises(KeyboardInterrupt):
            train.complain(error)
