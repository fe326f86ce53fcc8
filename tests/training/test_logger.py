"""Loggers: curves of a resumed run, missing packages, servers that are gone."""

import csv
import json

import pytest
from hydra.errors import InstantiationException
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from interp_lightning.commands.explain import explain
from interp_lightning.config.loggers import check_members
from interp_lightning.errors import ConfigError
from interp_lightning.training.logger import NoLogger, build_loggers, rewind


@pytest.mark.parametrize("rest", ["", "1", "1,2,3,4", "7,x\0", "1,odd", "1,1.5"])
def test_curves_continue_after_a_row_that_a_kill_has_cut(rest, tmp_path):
    folder = tmp_path / "csv"
    folder.mkdir()
    (folder / "metrics.csv").write_text(f"loss,step\n0.5,1\n0.25,2\n0.125,3\n{rest}")
    logger = CSVLogger(tmp_path, name="csv", version="")
    rewind(logger, 3)
    logger.log_metrics({"loss": 0.1}, 3)
    logger.finalize("success")
    assert (folder / "metrics.csv").read_text().split() == ["loss,step", "0.5,1", "0.25,2", "0.1,3"]


CSV = {"_target_": "lightning.pytorch.loggers.CSVLogger", "name": "csv", "version": "", "flush_logs_every_n_steps": 9}
RUN = ["model=ae", "penalty=none", "trainer.limit_train_batches=2", "milestones=2"]


@pytest.mark.parametrize(("logger", "package"), [("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_missing_package_is_named_before_training(logger, package, launch, monkeypatch):
    kind = {"wandb": WandbLogger, "mlflow": MLFlowLogger}[logger]

    def fail(self: object, **settings: object) -> None:
        raise ModuleNotFoundError(f"No module named {package!r}")

    monkeypatch.setattr(kind, "__init__", fail)
    with pytest.raises(ConfigError, match=f"requires a package that is not installed: pip install {package}, or use"):
        launch(*RUN, f"logger={logger}")
    with pytest.raises(ConfigError, match=f"pip install {package}"):
        launch(*RUN, "logger=many", f"+logger@logger.members.another={logger}")


def test_several_loggers_get_the_same_numbers(launch):
    folder = launch(*RUN, "logger=many", "trainer.log_every_n_steps=2")
    rows = list(csv.DictReader((folder / "csv" / "metrics.csv").read_text().splitlines()))
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    name = "train/autoencoder/reconstruction"
    (point,) = events.Scalars(name)
    assert [(int(row["step"]), float(row[name])) for row in rows if row[name]] == [(128, pytest.approx(point.value))]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a": CSV, "b": CSV}, r"`logger.members.a` and `logger.members.b` would write to the same place"),
        (
            {"a": CSV | {"flush_logs_every_n_steps": 0}},
            r"`logger.members.a.flush_logs_every_n_steps` \(=0\) must be ≥ 1",
        ),
        ({"a": CSV | {"version": None}}, r"`logger.members.a.version` \(=null\)"),
        (
            {"a": {"_target_": "x.build_loggers", "members": {}}},
            r"`logger.members.a` must name the class of one logger",
        ),
        ({"a": {}}, r"`logger.members.a` must name the class of one logger"),
    ],
)
def test_members_are_checked_as_a_logger_alone_is(members, message):
    check_members({"a": CSV, "b": CSV | {"name": "other"}})
    with pytest.raises(ConfigError, match=message):
        check_members(members)


class Grouped(NoLogger):
    """As a logger with an argument that means something else elsewhere."""

    def __init__(self, members: list[int]) -> None:
        super().__init__("")


def test_members_of_another_logger_are_its_own_affair(launch):
    folder = launch(*RUN, "logger=none", f"logger._target_={__name__}.Grouped", "+logger.members=[1]")
    assert (folder / "results.json").is_file()


class Placeless(NoLogger):
    """As a logger that knows no folder."""

    def __init__(self) -> None:
        super().__init__("")


class Rooted(NoLogger):
    """As a logger that calls its folder otherwise."""

    def __init__(self, root_dir: str) -> None:
        super().__init__("")
        self.root = root_dir


def test_a_logger_gets_the_runs_folder_under_its_own_name(tmp_path):
    built = [
        build_loggers({"_target_": f"{__name__}.{kind.__name__}"}, tmp_path) for kind in (Placeless, Rooted, NoLogger)
    ]
    assert [type(logger) for (logger,) in built] == [Placeless, Rooted, NoLogger]
    assert built[1][0].root == tmp_path


def test_a_class_that_is_no_logger_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"`logger` builds a dict, but must build a logger of Lightning"):
        build_loggers({"_target_": "builtins.dict"}, tmp_path)


@pytest.mark.parametrize("target", ["nope.Logger", "csv.Nope"])
def test_a_logger_that_cannot_be_imported_is_named(target, launch):
    with pytest.raises(InstantiationException) as refusal:
        launch(*RUN, "logger=none", f"logger._target_={target}")
    assert f"`logger._target_` (={target}) cannot be imported" in str(explain(refusal.value))


class Failing(NoLogger):
    """As a server that goes away in the middle of a run."""

    def log_metrics(self, metrics: object, step: int | None = None) -> None:
        raise ConnectionError("server gone")


class Closed(NoLogger):
    """As a server that asks for a key."""

    @property
    def experiment(self) -> object:
        raise PermissionError("no key")


def test_a_logger_that_fails_ends_no_run(launch, caplog):
    folder = launch(*RUN, "logger=none", f"logger._target_={__name__}.Failing", "trainer.log_every_n_steps=1")
    assert (folder / "results.json").is_file()
    said = [message for message in caplog.messages if "has failed" in message]
    assert said == ["Failing has failed (server gone); the run continues without it"]


def test_a_logger_that_cannot_be_opened_is_refused(launch):
    with pytest.raises(
        ConfigError, match=r"`logger` \(Closed\) cannot be opened \(no key\); mend that, or use logger=ten"
    ):
        launch(*RUN, "logger=none", f"logger._target_={__name__}.Closed")


def test_weights_and_biases_works_offline(launch, monkeypatch, tmp_path):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    folder = launch(*RUN, "logger=wandb")
    (run,) = (folder / "wandb").glob("offline-run-*")
    assert list(run.glob("run-*.wandb"))
    assert list(run.glob("files/media/images/paths/lerp*.png"))


def test_mlflow_keeps_all_runs_in_one_file(launch, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    folder = launch(*RUN, "logger=mlflow", f"outputs={tmp_path}")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = [each for each in client.search_experiments() if each.name == "interp_lightning"]
    (run,) = client.search_runs([experiment.experiment_id])
    results = json.loads((folder / "results.json").read_text())
    assert run.data.metrics["test/reconstruction_mse"] == results["metrics"]["reconstruction_mse"]
    assert run.data.params["penalty"] == "none"
    assert list(tmp_path.glob("mlruns/**/interpolation~lerp*.png"))
