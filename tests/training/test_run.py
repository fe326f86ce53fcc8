"""Whole runs in this process: every cell, what a run leaves, resuming, precision."""

import csv
import json
import logging
import math
from pathlib import Path

import lightning as L
import pytest
import torch
from conftest import CELLS, FEW_CELLS, choices, on_a_gpu
from torch import Tensor

from interp_lightning.commands.explain import explain
from interp_lightning.data.digits import Digits
from interp_lightning.errors import CheckpointError, DataError
from interp_lightning.functional.images import to_unit_range
from interp_lightning.models.ae import AE
from interp_lightning.models.base import Pass
from interp_lightning.paths.base import named
from interp_lightning.runs.build import build_model

QUICK = [how for how in choices("path") if not named(how).slow]
FIGURES = ["data", *(f"interpolation_{how}" for how in QUICK), "latent_scatter", "loss_curves", "path_profile",
           "paths", "prior_samples", "reconstructions", "samples"]  # fmt: skip


def checkpoint(folder: Path, name: str = "last") -> dict:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def history(folder: Path) -> dict[str, list[tuple[int, float]]]:
    callbacks = checkpoint(folder)["callbacks"]
    (state,) = (state for key, state in callbacks.items() if key.startswith("Recorder"))
    return state["history"]


@pytest.mark.parametrize(("model", "penalty"), CELLS)
def test_every_cell_trains(model, penalty, configure):
    cfg, data = configure(f"model={model}", f"penalty={penalty}", "network.depth=4"), Digits(batch_size=64)
    L.seed_everything(0, verbose=False)
    trained = build_model(cfg, data)
    images = to_unit_range(data.test.batch(torch.arange(100))[0])
    before = trained.reconstruction_error(images)
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = L.Trainer(accelerator="cpu", max_epochs=2, limit_val_batches=0, **dict.fromkeys(quiet, False))
    trainer.fit(trained, datamodule=data)
    assert trained.reconstruction_error(images) < 0.6 * before


@pytest.mark.parametrize(("model", "penalty"), FEW_CELLS)
def test_reconstructions_of_a_run_improve_and_it_is_measured(model, penalty, launch):
    folder = launch(
        f"model={model}", f"penalty={penalty}", "network.depth=16", "trainer.max_epochs=4", "optimizer.lr=2e-3"
    )
    errors = [value for _, value in history(folder)["val/autoencoder/reconstruction"]]
    assert len(errors) == 4
    assert errors[-1] < 0.8 * errors[0]
    assert all(math.isfinite(value) for curve in history(folder).values() for _, value in curve)

    results = json.loads((folder / "results.json").read_text())
    assert (results["model"], results["penalty"], results["data"]) == (model, penalty, "digits")
    assert results["metrics"]["probe_accuracy"] > 0.3  # chance is 0.1


@pytest.mark.parametrize("network", choices("network"))
def test_every_network(network, launch):
    folder = launch(f"network={network}", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1")
    assert json.loads((folder / "results.json").read_text())["config"]["choices"]["network"] == network


@pytest.mark.pictures
def test_what_a_run_leaves(launch):
    folder = launch("model=acai", "penalty=gan", "trainer.max_epochs=2", "seed=7", "metrics.features=auto")
    assert {path.stem for path in (folder / "figures").iterdir()} == set(FIGURES)
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"last.ckpt", "previous.ckpt", "best.ckpt"}

    results = json.loads((folder / "results.json").read_text())
    assert results["seed"] == 7
    assert results["budget"]["epochs"] == 2
    assert results["budget"]["images"] == 2 * (1257 // 64) * 64
    assert results["images_per_second"] > 0
    assert {"reconstruction_mse", "probe_accuracy", "fid_midpoints_lerp", "evenness_slerp"} <= set(results["metrics"])
    assert results["protocol"] == {"restarts": 1, "images": 100, "pairs": 8, "steps": 4, "features": "digits"}
    assert results["config"]["penalty"]["r1"] == 0.1
    assert results["versions"]["torch"] == torch.__version__.split("+")[0] or torch.__version__
    assert len(results["config_hash"]) == 64


def test_a_run_is_repeatable_and_its_seed_matters(launch):
    first, same, other = (launch(f"seed={seed}", folder=folder) for folder, seed in (("a", 1), ("b", 1), ("c", 2)))
    weights = [checkpoint(folder)["state_dict"] for folder in (first, same, other)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert not all(torch.equal(value, weights[2][name]) for name, value in weights[0].items())


@pytest.mark.parametrize("penalty", ["gan", "wasserstein"])
def test_a_continued_run_ends_as_the_uninterrupted_one(penalty, launch, tmp_path):
    # A cosine would depend on the number of epochs, which the broken run does not share.
    options = [f"penalty={penalty}", "schedule=constant"]
    straight = launch(*options, "trainer.max_epochs=3", folder="straight")
    launch(*options, "trainer.max_epochs=1", folder="broken")
    continued = launch(*options, "trainer.max_epochs=3", "ckpt_path=last", folder="broken")
    ours, theirs = checkpoint(continued), checkpoint(straight)
    assert all(torch.equal(value, theirs["state_dict"][name]) for name, value in ours["state_dict"].items())
    assert history(continued) == history(straight)
    results = [json.loads((folder / "results.json").read_text()) for folder in (continued, straight)]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["budget"]["images"] == results[1]["budget"]["images"]

    elsewhere = launch(*options, "trainer.max_epochs=3",
                       f"ckpt_path={straight}/checkpoints/best.ckpt", folder="elsewhere")  # fmt: skip
    assert (elsewhere / "results.json").is_file()


def test_csv_curves_of_a_resumed_run_have_each_point_once(launch):
    options = ["logger=csv", "model=ae", "penalty=none", "schedule=constant"]
    straight = launch(*options, "trainer.max_epochs=3", folder="straight")
    launch(*options, "trainer.max_epochs=1", folder="broken")
    broken = launch(*options, "trainer.max_epochs=3", "ckpt_path=last", folder="broken")
    one, two = (
        list(csv.DictReader((folder / "csv" / "metrics.csv").read_text().splitlines())) for folder in (straight, broken)
    )
    assert one[0].keys() == two[0].keys()
    speed = "speed/images_per_second"  # the only number that another run may have differently
    assert [row | {speed: ""} for row in one] == [row | {speed: ""} for row in two]
    epoch = 1257 // 64 * 64
    assert [int(row["step"]) for row in one if row["val/autoencoder/reconstruction"]] == [epoch, 2 * epoch, 3 * epoch]
    assert [int(row["step"]) for row in one if row["test/reconstruction_mse"]] == [3 * epoch]
    assert "optimizer.lr" in (straight / "csv" / "hparams.yaml").read_text()


def test_a_run_without_a_logger(launch):
    folder = launch("logger=none", "trainer.limit_train_batches=2")
    assert {path.name for path in folder.iterdir()} == {"checkpoints", "figures", "paths", "results.json"}


class Worsening(AE):
    """Its validation losses grow from batch to batch."""

    def autoencoder_losses(self, p: Pass) -> dict[str, Tensor]:
        losses = super().autoencoder_losses(p)
        return losses if self.training else {name: loss + self.batches_seen for name, loss in losses.items()}


def test_last_is_the_newest_and_best_the_best(launch):
    folder = launch("model=ae", f"model._target_={__name__}.Worsening", "trainer.max_epochs=3")
    errors = [value for _, value in history(folder)["val/autoencoder/reconstruction"]]
    assert len(errors) == 3
    assert not min(errors[1:]) < errors[0]
    assert (checkpoint(folder, "best")["epoch"], checkpoint(folder, "last")["epoch"]) == (0, 2)


@pytest.mark.parametrize("option", ["trainer.limit_val_batches=0", "trainer.check_val_every_n_epoch=2"])
def test_without_a_validation_every_epoch_a_run_can_be_continued(option, launch):
    folder = launch(option, "trainer.max_epochs=2", "schedule=constant")
    assert checkpoint(folder)["batches_seen"] == 2 * (1257 // 64)
    launch(option, "trainer.max_epochs=4", "schedule=constant", "ckpt_path=last")
    assert checkpoint(folder)["batches_seen"] == 4 * (1257 // 64)


def test_bf16_mixed_on_the_cpu(launch):
    for penalty in ("gan", "wasserstein"):
        folder = launch(f"penalty={penalty}", "trainer.precision=bf16-mixed", folder=penalty)
        assert all(math.isfinite(value) for curve in history(folder).values() for _, value in curve)


@on_a_gpu
@pytest.mark.parametrize(("model", "penalty"), CELLS)
def test_every_cell_on_a_gpu_in_bf16(model, penalty, launch):
    folder = launch(f"model={model}", f"penalty={penalty}", "trainer.accelerator=gpu", "trainer.precision=bf16-mixed")
    assert all(math.isfinite(value) for curve in history(folder).values() for _, value in curve)


def test_without_mnist_the_default_run_trains_on_digits_and_says_so(launch, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        folder = launch("data=mnist", f"data.root={tmp_path}/nowhere", "trainer.limit_train_batches=2")
    assert "TRAINING ON data=digits INSTEAD" in caplog.text
    assert "train-images-idx3-ubyte" in caplog.text
    results = json.loads((folder / "results.json").read_text())
    assert (results["data"], results["data_asked_for"]) == ("digits", "mnist")


@pytest.mark.parametrize("override", ["data.fallback=null", *(f"experiment={name}" for name in choices("experiment"))])
def test_without_data_and_fallback_nothing_is_trained(override, launch, tmp_path):
    data = "celeba" if "celeba" in override else "mnist"
    with pytest.raises(DataError, match=rf"(?i){data} is not (whole )?in .*nowhere.*data\.root=.*data=digits"):
        launch(f"data={data}", f"data.root={tmp_path}/nowhere", override)
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("experiment", choices("experiment"))
def test_every_experiment_runs_on_other_data_too(experiment, launch):
    folder = launch(f"experiment={experiment}", "trainer.limit_train_batches=1", "network.depth=2")
    assert json.loads((folder / "results.json").read_text())["data"] == "digits"


@pytest.mark.parametrize("experiment", choices("experiment"))
def test_every_experiment_has_tasks_and_a_small_budget(experiment, configure):
    whole = configure(f"experiment={experiment}")
    assert whole.trainer.max_epochs >= 100
    assert configure(f"experiment={experiment}", "budget=small").trainer.max_epochs is None
    for task in choices("task") if "latent_width" in whole.network else ():  # those of ACAI's paper
        cfg = configure(f"experiment={experiment}", f"task={task}")
        assert cfg.model == whole.model
        assert cfg.data.batch_size == whole.data.batch_size
        assert (cfg.latent_dim, cfg.data._target_) != (whole.latent_dim, whole.data._target_)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["penalty.lam=-1"], r"`penalty\.lam` \(=-1\) must be ≥ 0; use penalty=none"),
        (["penalty.lam=nan"], r"`penalty\.lam` \(=nan\)"),
        (["model.lam=-1"], r"`model\.lam` \(=-1\) .* use model=ae"),
        (["model.gamma=2"], r"`model\.gamma` \(=2\)"),
        (["penalty=mmd", "penalty.sigma=0"], r"`penalty\.sigma` \(=0\)"),
        (["penalty=mmd", "model=ae", "data.batch_size=1"], r"`data\.batch_size` \(=1\)"),
        (["penalty=wasserstein", "model=ae", "data.batch_size=1"], r"`data\.batch_size` \(=1\)"),
        (["data.batch_size=63"], r"`data\.batch_size` \(=63\) must be even"),
        (["data.batch_size=5000"], r"`data\.batch_size` \(=5000\) must be ≤ 1257"),
        (["network=acai", "latent_dim=33"], r"`latent_dim` \(=33\) must be a multiple of 16"),
        (["seed=-1"], r"`seed` \(=-1\)"),
        (["trainer.max_epochs=0"], r"`trainer\.max_epochs` \(=0\) must be ≥ 1"),
        (["trainer.max_epochs=many"], r"`trainer\.max_epochs` \(='many'\) must be an integer ≥ 1"),
        (["trainer.log_every_n_steps=often"], r"`trainer\.log_every_n_steps` \(='often'\)"),
        (["trainer.check_val_every_n_epoch=0"], r"`trainer\.check_val_every_n_epoch` \(=0\)"),
        (
            ["trainer.limit_train_batches=0"],
            r"`trainer\.limit_train_batches` \(=0\) must be > 0; a run must",
        ),
        (["optimizer.lr=-1"], r"`optimizer\.lr` \(=-1\) must be > 0"),
        (["optimizer.lr=fast"], r"`optimizer\.lr` \(='fast'\)"),
        (["optimizer.betas=[1,2]"], r"`optimizer\.betas\[1\]` \(=2\) must be ≥ 0 and ≤ 1"),
        (["seed=99999999999"], r"`seed` \(=99999999999\) must be ≥ 0 and ≤ 4294967295"),
        (["metrics.restarts=0"], r"`metrics\.restarts` \(=0\) must be ≥ 1"),
        (["metrics.images=1"], r"`metrics\.images` \(=1\) must be ≥ 2"),
        (
            ["metrics.features=vgg"],
            r"`metrics\.features` \(='vgg'\) must be one of: auto, digits, inception, own, or null",
        ),
        (["metrics.features=inception"], r"`metrics\.features` \(=inception\).* use metrics\.features=digits"),
        (["checkpoint.every_minutes=-1"], r"`checkpoint\.every_minutes` \(=-1\) must be ≥ 0"),
        (["threads=0"], r"`threads` \(=0\) must be an integer ≥ 1 and ≤ \d+ or one of: auto; this machine has"),
        (["trainer.devices=2"], r"`trainer\.devices` \(=2\) .* must be 1 unless with trainer=ddp"),
        (["trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=66"], r"`data\.batch_size` \(=66\) .* of 4"),
        (["penalty.mean=[0,1]"], r"`penalty\.mean` is for codes of 2 numbers, but `latent_dim` is 32"),
        (["optimizer.lr=0"], r"`optimizer\.lr` \(=0\) must be > 0"),
        (["trainer.precision=12"], r"`trainer\.precision` \(=12\) must be one of: 32-true, bf16-mixed"),
        (["penalty=wasserstein", "penalty.cov=[[1,2]]"], r"`penalty\.cov` \(=\[\[1, 2\]\]\) must be a square matrix"),
        (["+trainer.frobnicate=1"], r"unexpected keyword argument 'frobnicate'"),
        (["ckpt_path=nowhere.ckpt"], r"`ckpt_path` \(=nowhere\.ckpt\) names no checkpoint: there is no such file"),
        (["ckpt_path=last"], r"`ckpt_path` \(=last\) names no checkpoint: no run in"),
    ],
)
def test_bad_settings_are_refused_before_training(overrides, message, configure, launch, tmp_path):
    with pytest.raises(Exception, match=message) as caught:
        launch(*overrides)
    assert explain(caught.value) is not None
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_checkpoints_of_other_models_and_damaged_ones_are_refused(launch, tmp_path):
    folder = launch("model=acai", "penalty=gan", "trainer.limit_train_batches=1", folder="first")
    path = folder / "checkpoints" / "last.ckpt"
    for overrides, message in [
        (["model=ae", "penalty=gan"], "holds model=acai, but this run has model=ae"),
        (["model=acai", "penalty=mmd"], "holds penalty=gan, but this run has penalty=mmd"),
        (["model=acai", "penalty=gan", "network=acai"], "holds network=fast, but this run has network=acai"),
        (["model=acai", "penalty=gan", "latent_dim=16"], "holds a model with latent_dim=32, but this run has"),
        (["model=acai", "penalty=gan", "network.depth=5"], "holds a model with depth=4, but this run has depth=5"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            launch(*overrides, f"ckpt_path={path}", folder="second")

    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"not a checkpoint"):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"is not a readable checkpoint of this project"):
            launch("model=acai", "penalty=gan", f"ckpt_path={path}", folder="second")


@pytest.mark.slow
def test_a_compiled_run_ends_where_a_plain_one_does(launch):
    options = ["model=ae", "penalty=wasserstein", "trainer.limit_train_batches=5"]  # each network takes long to compile
    plain, compiled = launch(*options), launch(*options, "compile=true", folder="compiled")
    one, two = (checkpoint(folder)["state_dict"] for folder in (plain, compiled))
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)
