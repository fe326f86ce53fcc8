"""One run, one folder; nothing of the user's is removed or overwritten."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from conftest import QUICK as MEASURED_QUICKLY
from conftest import TINY, at_batch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from interp_lightning.commands import evaluate, interpolate
from interp_lightning.commands import train as program
from interp_lightning.commands.settings import read_settings
from interp_lightning.errors import ConfigError
from interp_lightning.runs.find import newest_run

QUICK = [*TINY, "model=ae", "penalty=none", "trainer.limit_train_batches=2"]


def runs(tmp_path: Path) -> list[Path]:
    return sorted(path.parent for path in tmp_path.glob("outputs/*/*/results.json"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def twice() -> None:
    """Run the program in this process before it is run once more, as a notebook does."""
    program.main()


def test_two_runs_in_one_process_have_two_folders(invoke, tmp_path):
    status, output = invoke(*QUICK, before=twice)
    assert status == 0, output
    first, second = runs(tmp_path)
    assert first != second


def test_two_sweeps_in_one_process_have_two_folders(invoke, tmp_path):
    status, output = invoke("-m", *QUICK, "seed=0,1", before=twice)
    assert status == 0, output
    assert len(list(tmp_path.glob("outputs/*/*/summary.md"))) == 2
    assert len(list(tmp_path.glob("outputs/*/*/*/results.json"))) == 4
    assert output.count("2 of 2 jobs finished") == 2


@pytest.mark.parametrize("how", [["hydra.run.dir=mine"], ["-m", "hydra.sweep.dir=.", "hydra.sweep.subdir=mine"]])
@pytest.mark.parametrize("removed", [None, "results.json", "checkpoints"])
def test_a_run_is_not_overwritten(how, removed, invoke, trained, tmp_path):
    run = Path(shutil.copytree(trained["ae"], tmp_path / "mine"))
    if removed:
        (shutil.rmtree if removed == "checkpoints" else os.unlink)(run / removed)
    before = contents(run)
    status, output = invoke(*QUICK, *how)
    assert status == 1
    assert "mine holds another run, which this one would overwrite; name another folder" in output
    after = contents(run)
    assert {name: after.get(name) for name in before} == before


def test_a_folder_of_ones_own_that_holds_no_run_is_used(invoke, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    status, output = invoke(*QUICK, "hydra.run.dir=mine")
    assert status == 0, output
    assert (tmp_path / "mine" / "notes.txt").read_text() == "precious"
    assert (tmp_path / "mine" / "results.json").is_file()


@pytest.mark.parametrize("copy", ["backup", "{run}_copy", "2099-01-01_00-00-00", "old/{run}"])
def test_last_is_never_a_copy(copy, invoke, tmp_path):
    invoke(*QUICK)
    (run,) = runs(tmp_path)
    before = contents(shutil.copytree(run, run.parent / copy.format(run=run.name), copy_function=shutil.copy))
    status, output = invoke(*QUICK, "trainer.max_epochs=2", "ckpt_path=last")
    assert status == 0, output
    assert json.loads((run / "results.json").read_text())["budget"]["batches"] == 4
    assert contents(run.parent / copy.format(run=run.name)) == before


def test_last_is_a_run_that_was_renamed_or_whose_project_was_copied(invoke, tmp_path):
    invoke(*QUICK)
    (run,) = runs(tmp_path)
    renamed = run.rename(run.with_name("renamed"))
    assert newest_run(Path(tmp_path / "outputs/ae_none")) == renamed
    other = Path(shutil.copytree(tmp_path / "outputs", tmp_path / "project" / "outputs"))
    assert newest_run(other / "ae_none") == other / "ae_none" / "renamed"


@pytest.mark.parametrize(
    "stray",
    [
        {"RANK": "3"},
        {"SLURM_PROCID": "3"},
        {"LOCAL_RANK": "2"},
        {"RANK": "1", "WORLD_SIZE": "1"},
        {"RANK": "nine", "SLURM_PROCID": "-1"},
        {"SLURM_NTASKS": "2", "SLURM_PROCID": "1"},
        {"RANK": "3", "LOCAL_RANK": "3", "SLURM_PROCID": "7", "JSM_NAMESPACE_RANK": "4"},
    ],
    ids=str,
)
def test_a_rank_that_no_launcher_has_given_is_ignored(stray, invoke, tmp_path):
    status, output = invoke(*QUICK, before=lambda: os.environ.update(stray))
    assert status == 0, output
    assert "Ignored: " in output
    (run,) = runs(tmp_path)
    assert {"results.json", "checkpoints", "figures", "tensorboard"} <= {path.name for path in run.iterdir()}
    assert list(run.glob("tensorboard/events*"))


@pytest.mark.parametrize("inside", [".", "a", "a/b"])
@pytest.mark.parametrize("wrong", ["penalty.lam=-1", "ckpt_path=last"])
def test_a_refused_run_removes_only_what_it_has_made(inside, wrong, invoke, tmp_path):
    outputs = tmp_path / "empty" / inside
    outputs.mkdir(parents=True)
    for other in ("neighbour", "ae_none"):
        (tmp_path / "empty" / other).mkdir(exist_ok=True)
    before = sorted(tmp_path.rglob("*"))
    status, _ = invoke(*QUICK, wrong, f"outputs={outputs}", before=lambda: os.chdir(outputs))
    assert status == 1
    assert [path for path in sorted(tmp_path.rglob("*")) if path.name != "output"] == before


def test_an_interrupted_sweep_knows_the_jobs_that_never_started(invoke, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        at_batch(patch, 1, lambda _: os.kill(os.getpid(), signal.SIGINT))
        status, output = invoke("-m", *QUICK, "penalty=none,mmd", "seed=0,1")
    assert status == 130
    assert "0 of 4 jobs finished" in output
    for state in ("1 unfinished", "1 not started", "2 not started"):  # of penalty=none, none and mmd
        assert state in output
    (sweep,) = tmp_path.glob("outputs/*/*")
    summary = (sweep / "summary.md").read_text()
    for number, settings_ in enumerate(["none seed=0", "none seed=1", "mmd seed=0", "mmd seed=1"]):
        state = "unfinished" if number == 0 else "not started"
        assert f"| {number} | penalty={settings_} | {state} |" in summary
    status, output = invoke("-m", *QUICK, "penalty=none,mmd", "seed=0,1", "sweep.resume=true")
    assert status == 0, output
    assert "4 of 4 jobs finished" in output


# Commands beside training.


def evaluated(*arguments: str) -> None:
    evaluate.work(read_settings(arguments, evaluate.Settings))


NAMES = st.lists(
    st.from_regex(r"[ab._=01]{1,4}", fullmatch=True).filter(lambda name: set(name) != {"."}), min_size=1, max_size=3
).map("/".join)


@settings(max_examples=200)
@given(names=st.lists(NAMES, min_size=1, max_size=5, unique=True), files=st.booleans())
def test_results_of_several_runs_never_share_a_folder(names, files, tmp_path_factory):
    top = tmp_path_factory.mktemp("runs")
    sources = []
    for name in names:
        path = top / "in" / name
        try:
            if files and len(sources) % 2:
                path.parent.mkdir(parents=True, exist_ok=True)
                path = path.with_name(path.name + ".ckpt")
                path.touch(exist_ok=False)
            else:
                path.mkdir(parents=True)
        except OSError:
            continue
        sources.append(path)
    if any(source.with_name(f"{source.name}.ckpt") in sources for source in sources):
        with pytest.raises(ConfigError, match="would both go to"):
            evaluate._targets(sources, top / "out")
        return
    targets = evaluate._targets(sources, top / "out")
    places = [target.resolve() for target in targets.values()]
    assert len(set(places)) == len(sources)
    assert all(place.is_relative_to(top / "out") for place in places)


def test_evaluating_runs_whose_names_are_alike(trained, tmp_path):
    for name in ("lam=0.1", "lam=0.2", "a_b", "a/b"):
        shutil.copytree(trained["ae"], tmp_path / "runs" / name)
    quick = [*MEASURED_QUICKLY, "metrics.features=null"]
    evaluated(f"run={tmp_path}/runs", f"out={tmp_path}/out", *quick)
    assert {str(path.parent.relative_to(tmp_path / "out")) for path in tmp_path.glob("out/**/results.json")} == {
        "lam=0.1", "lam=0.2", "a_b", "a/b"
    }  # fmt: skip
    evaluated(f"run={tmp_path}/runs", f"out={tmp_path}/out", *quick)  # again
    checkpoint = Path(shutil.copy(trained["ae"] / "checkpoints" / "last.ckpt", tmp_path / "runs" / "a_b.ckpt"))
    with pytest.raises(ConfigError, match=r"a_b.ckpt would go to .*a_b, which is another run; name a new folder"):
        evaluated(f"ckpt={checkpoint}", *quick)
    with pytest.raises(ConfigError, match=r"would go to .*a_b, which is another run"):
        evaluated(f"run={tmp_path}/runs/lam=0.1", f"out={tmp_path}/runs/a_b", *quick)


def test_pictures_of_other_images_and_checkpoints_are_other_files(trained, tmp_path):
    for number, name in enumerate(("x", "y")):
        (tmp_path / name).mkdir()
        picture = Image.new("L", (28, 28))
        picture.paste(255, (12, 4, 14 + number, 24))
        picture.save(tmp_path / name / "1.png")
    run = Path(shutil.copytree(trained["ae"], tmp_path / "run"))
    shutil.rmtree(run / "figures")
    best = run / "checkpoints" / "best.ckpt"
    for source in (f"run={run}", f"ckpt={best}"):
        for end in ("x/1.png", "y/1.png", "1"):
            interpolate.work(
                read_settings([source, f"a={tmp_path / end if '/' in end else end}", "b=3"], interpolate.Settings)
            )
    assert len(list((run / "figures").glob("*.png"))) == len(list((run / "figures").glob("*.gif"))) == 6
    for source in (run, trained["acai"]):
        interpolate.work(read_settings([f"run={source}", "a=0", "b=1", f"out={tmp_path}/out"], interpolate.Settings))
    assert len(list((tmp_path / "out").glob("*.png"))) == 2
