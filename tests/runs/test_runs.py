"""Trained runs from their folders: models as they were, and what cannot be one refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import IMAGE_SHAPE

import interp_lightning
from interp_lightning.commands.settings import prepare
from interp_lightning.errors import CheckpointError, ConfigError, DataNotFound, ResultsError
from interp_lightning.runs.find import find_runs
from interp_lightning.runs.load import load_run
from interp_lightning.runs.results import read_results, write_results


@pytest.fixture
def copy(trained, tmp_path) -> Path:
    """A run that a test may damage."""
    return Path(shutil.copytree(trained["acai"], tmp_path / "copy"))


def change(run: Path, **changes: object) -> None:
    """Save the run's last checkpoint again, changed."""
    path = run / "checkpoints" / "last.ckpt"
    state = torch.load(path, weights_only=True)
    for name, value in changes.items():
        part = state
        *parents, key = name.split("__")
        for parent in parents:
            part = part[parent]
        part[key] = value
    torch.save(state, path)


def test_a_session_as_in_a_notebook(trained):
    run = interp_lightning.load_run(trained["acai"])
    assert not run.model.training
    saved = torch.load(trained["acai"] / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in run.model.state_dict().items())
    assert run.config["penalty"]["lam"] == 0.001
    assert run.datamodule.name == "digits"

    assert run.folder == trained["acai"]
    assert run.results["metrics"].keys() >= {"reconstruction_mse", "fid_midpoints_lerp"}
    assert repr(run).startswith(f"<Run acai × wasserstein on digits in {run.folder}: score_graph_constant=")

    images, _ = run.datamodule.test.batch(torch.arange(4))
    x = images / 127.5 - 1
    with torch.no_grad():
        path = run.model.interpolate(x[:2], x[2:], steps=5, how="slerp")
        torch.testing.assert_close(path[:, 0], run.model.decode(run.model.encode(x[:2])), atol=1e-5, rtol=1e-4)
    assert path.shape == (2, 5, *IMAGE_SHAPE)


def test_the_best_checkpoint_or_any_file(trained):
    best = load_run(trained["acai"], checkpoint="best").model
    file = load_run(trained["acai"] / "checkpoints" / "best.ckpt").model
    assert all(torch.equal(value, file.state_dict()[name]) for name, value in best.state_dict().items())
    with pytest.raises(CheckpointError, match=r"holds no checkpoints/first\.ckpt; it has: best, last"):
        load_run(trained["acai"], checkpoint="first")


def test_a_run_on_substituted_data_is_loaded_with_those(launch, tmp_path):
    folder = launch("data=mnist", f"data.root={tmp_path}/nowhere", "trainer.limit_train_batches=2")
    assert load_run(folder).datamodule.name == "digits"


def test_a_data_set_may_be_called_other_than_its_yaml(trained, tmp_path):
    run = Path(shutil.copytree(trained["lines"], tmp_path / "run"))
    change(run, hyper_parameters__data_used="strokes")
    assert load_run(run).datamodule.name == "lines"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), r"holds no checkpoints/last\.ckpt; it has: best"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), r"is not a readable checkpoint .* truncated"),
        (lambda path: path.write_bytes(b""), r"is not a readable checkpoint"),
        (lambda path: path.write_text("weights"), r"is not a readable checkpoint"),
        (lambda path: torch.save({"state_dict": {}}, path), r"not one that interp_lightning .* writes; train again"),
        (lambda path: torch.save([1, 2], path), r"not one that interp_lightning .* writes; train again"),
    ],
)
def test_missing_truncated_and_foreign_checkpoints_are_refused(damage, message, copy):
    damage(copy / "checkpoints" / "last.ckpt")
    with pytest.raises(CheckpointError, match=message):
        load_run(copy)


def test_a_flipped_bit_in_a_weight_is_noticed(copy):
    path = copy / "checkpoints" / "last.ckpt"
    state = torch.load(path, weights_only=True)["state_dict"]
    weight = next(value for value in state.values() if value.ndim == 2)
    content = bytearray(path.read_bytes())
    at = content.find(weight.numpy().tobytes())
    assert at > 0
    content[at] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=r"has been altered since it was written|truncated, altered"):
        load_run(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hyper_parameters__latent_dim": 16}, r"does not fit interp_lightning \S+ \(.*size mismatch.*\); use another"),
        (
            {"hyper_parameters__network__depth": "deep", "interp_lightning": "9.9"},
            r"; evaluate it with interp_lightning 9\.9",
        ),
        ({"hyper_parameters__model__beta": 4}, r"does not fit interp_lightning \S+ \(.*'beta'"),
        ({"hyper_parameters__model__lam": -1}, r"does not fit interp_lightning \S+ \(.*model\.lam"),
        ({"state_dict__encoder.0.weight": torch.zeros(2)}, r"does not fit interp_lightning"),
    ],
)
def test_checkpoints_of_other_versions_are_refused(changes, message, copy):
    change(copy, **changes)
    with pytest.raises(CheckpointError, match=message):
        load_run(copy)


def test_nan_weights_are_refused(copy):
    state = torch.load(copy / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    name, weight = next((n, w) for n, w in state.items() if w.is_floating_point() and w.numel())
    change(copy, **{f"state_dict__{name}": torch.full_like(weight, torch.nan)})
    with pytest.raises(CheckpointError, match=r"holds NaN or infinite weights .*use an earlier checkpoint"):
        load_run(copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"hyper_parameters__penalty___target_": "os.system"},
        {"hyper_parameters__penalty___target_": "torch.hub.load"},
        {"hyper_parameters__penalty___target_": "interp_lightning.training.run.train"},
        {"hyper_parameters__penalty__mean": {"_target_": "pathlib.Path.touch", "self": "trap"}},
        {"hyper_parameters__penalty__mean": [{"_target_": "pathlib.Path", "_args_": ["trap"]}]},
        {"hyper_parameters__optimizer___target_": "builtins.open"},
    ],
)
def test_foreign_code_is_not_run_unless_trusted(changes, copy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    change(copy, **changes)
    with pytest.raises(CheckpointError, match=r"which is not part of this package; use trust=true to run it"):
        load_run(copy)
    assert not (tmp_path / "trap").exists()


def test_references_are_not_followed_unless_trusted(copy):
    change(copy, hyper_parameters__penalty__mean="${data}")
    with pytest.raises(CheckpointError, match=r"a setting is a reference .*; use trust=true to follow it"):
        load_run(copy)


def test_a_trusted_run_may_use_a_class_of_ones_own(copy, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("from interp_lightning.penalties.wasserstein import Wasserstein as Mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    change(copy, hyper_parameters__penalty___target_="mine.Mine")
    with pytest.raises(CheckpointError, match=r"`penalty` would run mine\.Mine"):
        load_run(copy)
    assert load_run(copy, trust=True).model.penalty.lam == 0.001


def test_runs_are_found_at_any_depth_in_the_order_of_their_numbers(tmp_path):
    for name in ("10", "2", "1/deep"):
        (tmp_path / "sweep" / name / "checkpoints").mkdir(parents=True)
        (tmp_path / "sweep" / name / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "sweep" / "other").mkdir()
    sweep = tmp_path / "sweep"
    (sweep / "other" / "circle").symlink_to(sweep)
    assert find_runs([str(sweep)]) == [sweep / "1" / "deep", sweep / "2", sweep / "10"]
    assert find_runs([str(sweep / "2"), str(sweep)]) == [sweep / "2", sweep / "1" / "deep", sweep / "10"]
    (tmp_path / "chosen").mkdir()
    (tmp_path / "chosen" / "one").symlink_to(sweep / "10")
    assert find_runs([str(tmp_path / "chosen")]) == [tmp_path / "chosen" / "one"]
    with pytest.raises(ConfigError, match=r"nowhere is not a folder; name a run's"):
        find_runs(["nowhere"])
    with pytest.raises(ConfigError, match=r"other holds no run: no results\.json and no checkpoints"):
        find_runs([str(sweep / "other")])


def test_results_are_written_whole_and_without_numbers_that_json_lacks(tmp_path):
    write_results(tmp_path, {"metrics": {"a": float("nan"), "b": 1.5}, "list": [float("inf")]})
    assert json.loads((tmp_path / "results.json").read_text()) == {"metrics": {"a": None, "b": 1.5}, "list": [None]}
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"has no results\.json; python -m interp_lightning evaluate run="),
        ("{", r"results\.json cannot be read"),
        ("[" * 100_000, r"results\.json cannot be read"),
        ("[]", r"has no usable model, .*; it was altered or written by another version; python -m"),
        ('{"metrics": {}}', r"has no usable model, .*, sanity; it was altered"),
    ],
)
def test_bad_results_say_how_to_get_good_ones(content, message, tmp_path):
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(ResultsError, match=message):
        read_results(tmp_path)


def test_results_with_words_for_numbers_are_refused(copy):
    content = json.loads((copy / "results.json").read_text())
    for part, name, value in (("metrics", "fid_prior", "low"), ("sanity", "fid_real", [1]), ("budget", "images", None),
                              ("metrics", "fid_prior", True)):  # fmt: skip
        altered = content | {part: content[part] | {name: value}}
        if value is None:
            del altered[part][name]
        (copy / "results.json").write_text(json.dumps(altered))
        with pytest.raises(ResultsError, match=rf"has no usable {name}; it was altered"):
            read_results(copy)


def test_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert prepare("auto", 1) == torch.device("cpu")
    for device, threads, message in (
        ("tpu", 1, r"`device` \(='tpu'\) must be one of: auto, cpu, cuda"),
        ("cuda", 1, r"`device` \(=cuda\) is not available; use device=cpu"),
        ("cpu", 0, r"`threads` \(=0\) must be ≥ 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            prepare(device, threads)


@pytest.mark.parametrize("name", ["checkpoints", "checkpoints/last.ckpt"])
def test_a_link_out_of_the_folder_is_not_followed_unless_trusted(name, copy, tmp_path):
    target = tmp_path / "elsewhere" / name
    target.parent.mkdir(parents=True)
    (copy / name).rename(target)
    (copy / name).symlink_to(target)
    with pytest.raises(CheckpointError, match=r"last\.ckpt leads out of the run's folder, to .*elsewhere.*trust=true"):
        load_run(copy)
    assert load_run(copy, trust=True).model.latent_dim == 32


def test_results_elsewhere_are_not_read(copy, tmp_path):
    (copy / "results.json").rename(tmp_path / "other.json")
    (copy / "results.json").symlink_to(tmp_path / "other.json")
    with pytest.raises(CheckpointError, match=r"results\.json leads out of the run's folder"):
        read_results(copy)


def test_a_run_may_be_a_link_itself(copy, tmp_path):
    (tmp_path / "link").symlink_to(copy)
    assert load_run(tmp_path / "link").model.latent_dim == 32


@pytest.mark.parametrize(("root", "allowed"), [("{}/planted", False), ("../planted", False), ("planted", True)])
def test_nothing_is_downloaded_into_a_folder_that_only_a_run_names(root, allowed, launch, tmp_path, monkeypatch):
    folder = launch("trainer.limit_train_batches=2")
    settings = {"_target_": "interp_lightning.data.mnist.MNIST", "root": root.format(tmp_path), "batch_size": 64}
    change(folder, hyper_parameters__data=settings | {"fallback": None}, hyper_parameters__data_used="mnist")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    data = load_run(folder).datamodule
    with pytest.raises(DataNotFound, match="No such file" if allowed else "named by the run's configuration only"):
        data.setup()
    assert load_run(folder, root="mine").datamodule.may_fetch
    assert not list(tmp_path.glob("**/planted"))


def test_loading_a_run_writes_nothing_into_it(trained):
    run = trained["acai"]
    before = {path: path.stat().st_mtime_ns for path in sorted(run.rglob("*"))}
    load_run(run).datamodule.setup()
    assert before == {path: path.stat().st_mtime_ns for path in sorted(run.rglob("*"))}


class Trap:
    """Creates a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("where", ["state_dict", "hyper_parameters", "trap"])
def test_a_pickled_trap_is_not_sprung(where, copy, launch, tmp_path):
    path, trap = copy / "checkpoints" / "last.ckpt", tmp_path / "sprung"
    state = torch.load(path, weights_only=True)
    torch.save(state | {where: Trap(trap)}, path)
    for load in (lambda: load_run(copy), lambda: load_run(copy, trust=True), lambda: launch(f"ckpt_path={path}")):
        with pytest.raises(CheckpointError, match=r"is not a readable checkpoint of this project"):
            load()
    assert not trap.exists()
    torch.load(path, weights_only=False)
    assert trap.exists()  # it would have been
