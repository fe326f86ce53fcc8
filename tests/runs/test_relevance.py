"""Which settings matter for what, and results that describe the checkpoint they were measured on."""

import json
import os
import signal

import pytest
from conftest import TINY, at_batch
from hypothesis import given
from hypothesis import strategies as st

from interp_lightning.commands import evaluate
from interp_lightning.commands.settings import read_settings
from interp_lightning.errors import ConfigError
from interp_lightning.runs.checkpoints import read_checkpoint
from interp_lightning.runs.record import results_so_far
from interp_lightning.runs.relevance import EFFECTS, Effect, changes, config_hash, effect, flat

QUICK = [*TINY, "model=ae", "penalty=none", "schedule=constant"]


@pytest.fixture(scope="module")
def config(trained) -> dict:
    return json.loads((trained["acai"] / "results.json").read_text())["config"]


def test_the_table_names_settings_that_there_are(config):
    names = {*flat(config), "data.root"}  # which digits do not have
    assert all(any(name == prefix or name.startswith(f"{prefix}.") for name in names) for prefix in EFFECTS)


@given(data=st.data())
def test_the_hash_is_of_what_makes_the_weights_and_of_nothing_else(config, data):
    name = data.draw(st.sampled_from(sorted(flat(config))))
    changed = json.loads(json.dumps(config))
    *groups, key = name.split(".")
    part = changed
    for group in groups:
        part = part[group]
    part[key] = data.draw(st.one_of(st.integers(1000, 9999), st.text("xyz", min_size=3, max_size=5)))
    matters = effect(name) in (Effect.WEIGHTS, Effect.SEED)
    assert (config_hash(changed) != config_hash(config)) == matters
    assert [each.split("=")[0] for each in changes(config, changed, *Effect)] == [name]


def test_what_only_rounds_is_named_on_resuming_and_where_files_go_is_not():
    names = {"threads": Effect.ROUNDING, "name": Effect.NOTHING, "logger.name": Effect.NOTHING, "seed": Effect.SEED}
    names |= {"trainer.max_epochs": Effect.WEIGHTS, "data.root": Effect.NOTHING, "data.batch_size": Effect.WEIGHTS}
    names |= {"metrics.images": Effect.SCORES, "a_new_setting": Effect.WEIGHTS, "trainer.new": Effect.WEIGHTS}
    assert {name: effect(name) for name in names} == names


def test_images_are_counted_as_they_were_seen(launch, caplog):
    launch(*QUICK, "trainer.limit_train_batches=4")
    folder = launch(*QUICK, "trainer.limit_train_batches=2", "trainer.max_epochs=2", "data.batch_size=600",
                    "threads=2", "ckpt_path=last")  # fmt: skip
    budget = json.loads((folder / "results.json").read_text())["budget"]
    assert (budget["images"], budget["batches"], budget["epochs"]) == (4 * 64 + 2 * 600, 6, 2)
    assert "data.batch_size=600 (was 64)" in caplog.text
    assert "threads=2 (was 1)" in caplog.text
    (folder / "results.json").unlink()
    assert results_so_far(folder)["budget"] == budget


def test_results_of_a_run_that_was_resumed_and_killed_are_of_its_checkpoint(launch, monkeypatch):
    folder = launch(*QUICK)
    at_batch(monkeypatch, 25, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit):
        launch(*QUICK, "trainer.max_epochs=3", "optimizer.lr=0.001", "ckpt_path=last")
    before = json.loads((folder / "results.json").read_text())
    again = [f"run={folder}", "metrics.features=null", "metrics.restarts=1"]
    evaluate.work(read_settings(again, evaluate.Settings))
    after = json.loads((folder / "results.json").read_text())
    state = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert before["budget"]["batches"] == 19
    assert after["budget"]["batches"] == state["batches_seen"] == 25
    assert after["budget"]["images"] == 25 * 64
    assert after["budget"]["epochs"] == 1
    assert after["config"]["optimizer"]["lr"] == 0.001
    assert after["config_hash"] == config_hash(state["hyper_parameters"]) != before["config_hash"]
    assert after["metrics"] != before["metrics"]


def test_half_precision_on_a_cpu_is_refused(launch):
    with pytest.raises(ConfigError, match=r"`trainer.precision` \(=16-mixed\) requires a GPU; on a CPU use bf16-mixed"):
        launch("trainer.precision=16-mixed")
