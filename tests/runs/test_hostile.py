"""Someone else's run is data: nothing in it is called, followed or believed, and one bad run costs no other."""

import copy as copies
import json
import os
import shutil
import tempfile
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from conftest import QUICK, call
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from interp_lightning.commands import compare, evaluate, interpolate
from interp_lightning.config.resolvers import run_dir
from interp_lightning.errors import CheckpointError, ConfigError
from interp_lightning.evaluation.protocol import Evaluation
from interp_lightning.runs import jobs, sweeps
from interp_lightning.runs.checkpoints import read_checkpoint
from interp_lightning.runs.folders import check_links
from interp_lightning.runs.load import load_run
from interp_lightning.system.disk import write_whole
from interp_lightning.system.plain import entries, plain_copy
from interp_lightning.training.checkpoints import Best

# Configurations

SPRUNG = Path(tempfile.gettempdir()) / f"interp_lightning_sprung_{os.getpid()}"  # what a payload makes if it is run
TARGETS = (
    "torch.utils.collect_env.run",
    "os.system",
    "builtins.exec",
    "interp_lightning.runs.foreign.re.sys.modules",
    "interp_lightning.runs.load.torch.utils.collect_env.run",
    "interp_lightning.runs.load.instantiate",
    "interp_lightning.training.run.train",
    "torch.optim.lr_scheduler.LambdaLR",
)
TRAPS = st.sampled_from(TARGETS).flatmap(
    lambda target: st.sampled_from(
        [
            {"_target_": target, "_args_": [f"touch {SPRUNG}"]},
            {"_target_": target, "command": f"touch {SPRUNG}"},
            {"_target_": [target]},
            {"_partial_": True, "_target_": target},
            OrderedDict(_target_=target, _args_=[f"touch {SPRUNG}"]),
        ]
    )
)
ODD = st.sampled_from(
    [
        *({"_recursive_": True}, {"_convert_": "all"}, {"_args_": []}, {"__class__": "x"}),
        *({1, 2}, b"x", bytearray(b"x"), 1j, torch.zeros(2), torch.Size([1]), torch.float32, Counter("a")),
        *({("a",): 1}, {1: 2, "a": 3}, {None: 1}, {1.5: 1}, {True: 1}),
        *("${oc.env:HOME}", "${run_dir:x,y,null}", "???", "a\x1b[2Jb", "\ud800", "x" * 10_000, 10**400, -(2**64)),
    ]
)
PAYLOADS = st.recursive(
    TRAPS | ODD,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=2)
        | inner.map(lambda each: (each,))
        | inner.map(lambda each: (1, [each]))
        | st.dictionaries(st.sampled_from(["x", "lam", "${x}"]), inner, min_size=1, max_size=2)
    ),
    max_leaves=3,
)


@pytest.fixture(scope="session")
def state(trained) -> dict[str, Any]:
    """A small run's last checkpoint, without what only training needs."""
    content = torch.load(trained["acai"] / "checkpoints" / "last.ckpt", weights_only=True)
    return content | {"optimizer_states": [], "callbacks": {}}


@pytest.fixture(scope="session")
def places(state) -> list[tuple[str | int, ...]]:
    """Every path in a configuration, and a new key in each part of it."""
    found = list(entries(state["hyper_parameters"]))
    return [path for path, _ in found if path] + [(*path, "new") for path, value in found if isinstance(value, dict)]


@pytest.fixture(scope="session")
def target(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hostile") / "last.ckpt"


@given(st.data())
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
def test_whatever_lies_in_a_configuration_is_refused_and_not_called(state, places, target, data):
    place, payload = data.draw(st.sampled_from(places)), data.draw(PAYLOADS)
    config = copies.deepcopy(state["hyper_parameters"])
    part = config
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = payload
    torch.save(state | {"hyper_parameters": config}, target)
    with pytest.raises(CheckpointError) as refused:
        load_run(target)
    assert not SPRUNG.exists(), place
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1_000


def test_an_ordinary_configuration_is_not_refused(state, target):
    config = copies.deepcopy(state["hyper_parameters"])
    config["schedule"] = {
        "_target_": "interp_lightning.steps.schedules.PiecewiseConstant",
        "factors": {30: 0.5, 50: 0.2},
    }
    config["optimizer"] = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1, "momentum": 0.9}
    config["penalty"] |= {"mean": (0.5,) * 32}
    config["threads"] = 1_000  # another machine's
    torch.save(state | {"hyper_parameters": config}, target)
    model = load_run(target).model
    assert model.schedule.factors == {30: 0.5, 50: 0.2}
    assert model.optimizer([torch.nn.Parameter(torch.zeros(1))]).defaults["momentum"] == 0.9
    assert model.penalty.mean.tolist() == [0.5] * 32


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("penalty", "interp_lightning.penalties.base.Penalty"),  # abstract
        ("penalty", "interp_lightning.penalties.Penalty"),
        ("penalty", "interp_lightning.models.base.Penalty"),  # another module's
        ("network", "interp_lightning.penalties.none.NoPenalty"),  # of another base
        ("data", "interp_lightning.runs.load.Digits"),
        ("data", "interp_lightning.runs.load.torch.hub.load"),
        ("optimizer", "torch.optim.Optimizer"),
        ("optimizer", "torch.optim.lr_scheduler.LambdaLR"),
        ("optimizer", "torch.optim.adam.torch.hub.load"),
        ("optimizer", "torch.optim._multi_tensor.Adam"),
        ("schedule", "interp_lightning..schedules.Cosine"),
        ("schedule", "interp_lightning.steps.schedules.Cosine.__init__"),
        ("schedule", "interp_lightning.steps.schedules"),
        ("model", "interp_lightning.models.acai.ACAI "),
        ("model", None),
    ],
)
def test_a_target_is_a_public_class_by_its_own_name(part, named, state, target):
    config = copies.deepcopy(state["hyper_parameters"])
    config[part]["_target_"] = named
    torch.save(state | {"hyper_parameters": config}, target)
    with pytest.raises(
        CheckpointError, match=rf"`{part}` would run .*which is not part of this package; use trust=true"
    ):
        load_run(target)


def test_an_optimizer_is_a_recipe(state, target):
    config = copies.deepcopy(state["hyper_parameters"])
    config["optimizer"]["_partial_"] = False
    torch.save(state | {"hyper_parameters": config}, target)
    with pytest.raises(CheckpointError, match=r"`optimizer` would run optimizer\._partial_"):
        load_run(target)


def test_what_contains_itself_is_too_deep():
    circle: list[Any] = []
    circle.append(circle)
    tower: list[Any] = [0]
    for _ in range(12):
        tower = [tower] * 10  # a few bytes, 10¹² values
    for settings_ in (circle, {"x": tower}):
        with pytest.raises(ConfigError, match=r"is larger or deeper than settings can be"):
            plain_copy(settings_)


# Checkpoint files


def _packed(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {name: value}
            for name in ("batches_seen", "images_seen", "epoch")
            for value in (-1, 1.5, 10**400, None, "1")
        ),
        *({"guard": value} for value in (None, {}, {"skipped": -1, "rollbacks": 0})),
        *({"state_dict": value} for value in ([], {"x": torch.zeros(1).expand(10**12)})),
        {"state_dict": {"x": torch.empty(10**12, device="meta")}},
        {"state_dict": {"x": torch.sparse_coo_tensor([[0]], [1.0], (10**9,))}},
        *({"callbacks": value} for value in (None, {"Recorder": 5}, {"Recorder": {"seconds": "x"}}, {"Recorder": {}})),
        *({"hyper_parameters": value} for value in (None, [], {"choices": {}}, "x")),
    ],
    ids=lambda changes: " ".join(f"{key}={str(value)[:20]}" for key, value in changes.items()),
)
def test_a_state_of_another_shape_is_refused(changes, state, target):
    torch.save(state | changes, target)
    with pytest.raises(CheckpointError, match=r"is a checkpoint, but not one that interp_lightning \S+ writes"):
        read_checkpoint(target)


def test_a_file_that_unpacks_to_more_than_it_is_is_refused(state, target):
    torch.save(state | {"more": torch.zeros(10**6)}, target)
    read_checkpoint(target)
    _packed(target)
    with pytest.raises(CheckpointError, match=r"is not a readable checkpoint"):
        read_checkpoint(target)


@pytest.mark.parametrize(("part", "key", "value"), [("network", "depth", 2_000), (None, "latent_dim", 1_000_000)])
def test_a_model_far_larger_than_its_weights_is_not_made(part, key, value, state, target):
    config = copies.deepcopy(state["hyper_parameters"])
    (config[part] if part else config)[key] = value
    torch.save(state | {"hyper_parameters": config}, target)
    with pytest.raises(CheckpointError, match=r"its settings describe a far larger model than its weights"):
        load_run(target)


def test_a_state_does_not_say_which_file_is_deleted(tmp_path):
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "best.ckpt").touch()
    victim = str(folder / ".." / "victim")
    for best in (victim, ""):
        generation = Best(folder, "loss")
        generation.load_state_dict(
            {"dirpath": str(folder), "best_model_path": best, "best_model_score": torch.tensor(1.0)}
            | {"kth_best_model_path": victim, "best_k_models": {victim: torch.tensor(1.0)}, "last_model_path": victim}
        )
        kept = {generation.best_model_path, generation.kth_best_model_path, generation.last_model_path}
        assert kept | {*generation.best_k_models} <= {"", str(folder / "best.ckpt")}


# Links

COMMANDS: list[tuple[Any, Callable[[Path], list[str]]]] = [
    (evaluate, lambda run: [f"run={run}", *QUICK, "metrics.features=null"]),
    (evaluate, lambda run: [f"ckpt={run}/checkpoints/best.ckpt", *QUICK, "metrics.features=null"]),
    (interpolate, lambda run: [f"run={run}", "a=0", "b=1", "steps=3"]),
    (interpolate, lambda run: [f"ckpt={run}/checkpoints/last.ckpt", "a=1", "b=0", "steps=3"]),
    (compare, lambda run: [str(run)]),
]


def all_commands(run: Path) -> None:
    for module, arguments in COMMANDS:
        call(module, *arguments(run))


@pytest.fixture(scope="session")
def written(trained, tmp_path_factory) -> list[Path]:
    """All files that the commands write, found by running them; relative to the folder around a run."""
    folder = tmp_path_factory.mktemp("written")
    shutil.copytree(trained["ae"], folder / "run")
    for path in folder.rglob("*"):
        os.utime(path, (0, 0))
    all_commands(folder / "run")
    return [path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.stat().st_mtime > 0]


@pytest.mark.parametrize("how", [os.symlink, os.link], ids=["symbolic", "hard"])
def test_no_file_is_written_through_a_link(how, written, trained, tmp_path):
    shutil.copytree(trained["ae"], tmp_path / "run")
    victims = tmp_path / "victims"
    victims.mkdir()
    names = {str(path): path.name for path in written}
    assert {"results.json", "reconstructions.png", "report.html", "comparison.csv", "comparison.md"} <= {
        *names.values()
    }
    for number, path in enumerate(written):
        if path.name == "results.json" and how is os.symlink:
            continue  # is read first, see test_results_elsewhere_are_not_read
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).unlink(missing_ok=True)
        content = (trained["ae"] / "results.json").read_bytes() if path.name == "results.json" else b"precious"
        (victims / str(number)).write_bytes(content)
        how(victims / str(number), tmp_path / path)
    before = {path: path.read_bytes() for path in victims.iterdir()}
    all_commands(tmp_path / "run")
    assert {path: path.read_bytes() for path in victims.iterdir()} == before
    for path in written:
        assert not (tmp_path / path).is_symlink(), path
        assert (tmp_path / path).read_bytes() != b"precious", path


@pytest.mark.parametrize("folder", ["figures", "checkpoints", "checkpoints/best", "../comparison"])
def test_no_file_is_written_into_a_folder_elsewhere(folder, trained, tmp_path):
    run = Path(shutil.copytree(trained["ae"], tmp_path / "runs" / "run"))
    victim = tmp_path / "victim"
    if (run / folder).exists():
        (run / folder).rename(victim)
    victim.mkdir(exist_ok=True)
    (run / folder).symlink_to(victim)
    before = {path: path.stat().st_mtime_ns for path in (victim, *victim.rglob("*"))}
    refused = 0
    for module, arguments in COMMANDS:
        try:
            call(module, *arguments(run))
        except ConfigError:
            refused += 1
    assert refused
    assert before == {path: path.stat().st_mtime_ns for path in (victim, *victim.rglob("*"))}


def test_nothing_prepared_at_the_name_of_a_temporary_file_is_followed(state, tmp_path):
    from interp_lightning.training.checkpoints import AtomicCheckpointIO

    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in (f".it.{os.getpid()}.part", ".last.ckpt.part"):
        (tmp_path / name).symlink_to(victim)
    write_whole(tmp_path / "it", "content")
    AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    assert victim.read_text() == "precious"
    assert (tmp_path / "it").read_text() == "content"


def test_a_run_with_links_out_of_it_is_not_resumed(trained, tmp_path):
    run = tmp_path / "outputs" / "name" / "run"
    names = [path.relative_to(trained["ae"]) for path in trained["ae"].rglob("*")]
    (tmp_path / "elsewhere").mkdir()
    for name in (*names, Path("run.log"), Path(".hydra"), Path("dangling")):
        shutil.copytree(trained["ae"], run)
        if (run / name).exists():
            (run / name).rename(tmp_path / "elsewhere" / name.name)
        (run / name).symlink_to(tmp_path / "elsewhere" / name.name)
        with pytest.raises(CheckpointError, match=r"is a link or not a regular file, so the run would write"):
            check_links(run)
        shutil.rmtree(run)
        shutil.rmtree(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").mkdir()
    shutil.copytree(trained["ae"], run)
    (run / "latest.ckpt").symlink_to("checkpoints/last.ckpt")  # leads nowhere else
    (tmp_path / "moved").symlink_to(tmp_path / "outputs")
    check_links(tmp_path / "moved" / "name" / "run")
    for make in (lambda: os.link(run / "results.json", run / "run.log"), lambda: os.mkfifo(run / "run.log")):
        make()
        with pytest.raises(CheckpointError, match=r"run\.log is a link or not a regular file"):
            run_dir(str(tmp_path / "outputs"), "name", "last")
        (run / "run.log").unlink()


def test_a_log_that_is_a_link_is_not_written_to_in_resuming(trained, invoke, tmp_path):
    run = Path(shutil.copytree(trained["ae"], tmp_path / "outputs" / "ae_none" / "run"))
    (tmp_path / "victim").write_text("precious")
    (run / "run.log").symlink_to(tmp_path / "victim")
    status, output = invoke("model=ae", "penalty=none", "data=digits", "ckpt_path=last")
    assert status == 1
    assert "run.log is a link or not a regular file" in output
    assert "Traceback" not in output
    assert (tmp_path / "victim").read_text() == "precious"


# Sweeps


@pytest.mark.parametrize(
    "recorded",
    [
        "lam: ${run_dir:planted,x,null}",
        "lam: ${oc.env:HOME}",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
        "[1, 2]",
        "{",
        "[" * 5_000,
        "lam: ???",
        "!!python/object/apply:os.system [touch planted]",
    ],
)
def test_a_recorded_configuration_is_not_resolved(recorded, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text(recorded)
    with pytest.raises(ConfigError, match=r"lam=1 \(was|is not the configuration of a job"):
        sweeps.check_same(tmp_path, OmegaConf.create({"lam": 1}))
    assert [path.name for path in tmp_path.iterdir()] == [".hydra"]


def test_a_job_with_an_odd_error_has_not_finished(tmp_path):
    (tmp_path / "job.json").write_text(json.dumps({"overrides": [], "status": "finished", "error": 5}))
    assert jobs.read_job(tmp_path)["status"] == jobs.UNFINISHED


# Several runs, one of them bad

ERRORS = (
    *(CheckpointError("damaged"), PermissionError(13, "Permission denied", "x"), FileNotFoundError(2, "No file", "x")),
    *(RuntimeError("odd"), AssertionError(), KeyError("x"), RecursionError("deep"), MemoryError(), OverflowError("x")),
)


class Failing(Evaluation):
    """Fails with the next of some errors, unless that is None."""

    errors: ClassVar[list[Any]] = []

    def __call__(self, *of: Any) -> Any:
        if error := self.errors.pop(0):
            raise error
        return super().__call__(*of)


FAILING = [f"metrics._target_={__name__}.Failing", *QUICK, "metrics.features=null"]


def test_no_error_of_one_run_ends_evaluate_for_the_others(trained, tmp_path, caplog):
    Failing.errors[:] = outcomes = [None, *ERRORS, None]
    folders = [tmp_path / f"{number:02}" for number in range(len(outcomes))]
    for folder in folders:
        shutil.copytree(trained["ae"], folder)
        (folder / "results.json").unlink()
    with pytest.raises(ConfigError, match=rf"{len(ERRORS)} of {len(outcomes)} could not be evaluated"):
        call(evaluate, f"run={tmp_path}", *FAILING)
    for folder, error in zip(folders, outcomes, strict=True):
        assert (folder / "results.json").is_file() == (error is None)
        assert (f"Skipped {folder}: " in caplog.text) == (error is not None)


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError, SystemExit])
def test_what_the_user_does_ends_evaluate(error, trained, tmp_path):
    Failing.errors[:] = [error]
    with pytest.raises(error):
        call(evaluate, f"run={trained['ae']}", f"out={tmp_path}", *FAILING)


def test_a_folder_that_cannot_be_looked_into_is_named(trained, tmp_path, monkeypatch, caplog):
    shutil.copytree(trained["ae"], tmp_path / "0")
    (tmp_path / "locked").mkdir()
    iterdir = Path.iterdir

    def denied(self: Path) -> Any:
        if self.name == "locked":
            raise PermissionError(13, "Permission denied", str(self))
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(ConfigError, match=r"1 of 2 could not be evaluated"):
        call(evaluate, f"run={tmp_path}", *QUICK, "metrics.features=null")
    assert "locked holds no checkpoints/last.ckpt" in caplog.text


def test_bad_runs_are_named_in_a_comparison_of_the_others(trained, state, tmp_path, caplog):
    for name in ("good", "hostile", "damaged", "link", "unfinished"):
        shutil.copytree(trained["seed" if name == "hostile" else "ae"], tmp_path / name)
    results = json.loads((tmp_path / "hostile" / "results.json").read_text())
    results["config"]["latent_dim"] = 16  # a group of its own
    (tmp_path / "hostile" / "results.json").write_text(json.dumps(results))
    config = copies.deepcopy(state["hyper_parameters"])
    config["guard"] = {"_target_": "os.system", "_args_": [f"touch {SPRUNG}"]}
    torch.save(state | {"hyper_parameters": config}, tmp_path / "hostile" / "checkpoints" / "last.ckpt")
    (tmp_path / "damaged" / "results.json").write_text("{")
    (tmp_path / "link" / "results.json").rename(tmp_path / "elsewhere.json")
    (tmp_path / "link" / "results.json").symlink_to(tmp_path / "elsewhere.json")
    (tmp_path / "unfinished" / "results.json").unlink()
    with pytest.raises(ConfigError, match=r"^3 of 5 runs could not be used or drawn, for the reasons above$"):
        call(compare, str(tmp_path))
    report = (tmp_path / "comparison" / "report.html").read_text()
    for said in ("damaged/results.json cannot be read", "link/results.json leads out", "`guard` would run os.system"):
        assert said in caplog.text
        assert said.replace("'", "&#x27;") in report
    assert "unfinished has no results.json" in report
    assert "α of pair 1" in report
    assert not SPRUNG.exists()
