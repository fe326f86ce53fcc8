"""Whatever a checkpoint holds, and whatever settings have changed: a sentence, or a run that resumes."""

import logging
import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, train_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from interp_lightning.data.digits import Digits
from interp_lightning.errors import CheckpointError
from interp_lightning.runs.build import build_model
from interp_lightning.runs.checkpoints import newest_checkpoint, read_checkpoint
from interp_lightning.training.checkpoints import AtomicCheckpointIO
from interp_lightning.training.content import check_content
from interp_lightning.training.resume import find_checkpoint

RUN = ["model=ae", "penalty=gan", "penalty.width=4", "penalty.depth=1"]
RUN += ["trainer.limit_train_batches=2", "network.depth=2", "latent_dim=4"]


@pytest.fixture(scope="module")
def one_run(tmp_path_factory) -> Path:
    """A run of two batches; tests must not write into it."""
    return train_in(tmp_path_factory.mktemp("resuming") / "run", [*TINY, *RUN])


@pytest.fixture
def trained_file(one_run, tmp_path) -> Path:
    """Its last checkpoint, to be altered."""
    return Path(shutil.copytree(one_run / "checkpoints", tmp_path / "it" / "checkpoints")) / "last.ckpt"


def find(configure, path: Path, *changes: str) -> Any:
    """Look for what to resume from, as a run with those settings does."""
    cfg = configure(*TINY, *RUN, *changes)
    config = OmegaConf.to_container(cfg, resolve=True)
    config["choices"] = {"model": "ae", "penalty": "gan", "network": "fast"}
    return find_checkpoint(str(path), path.parent.parent, config, partial(build_model, cfg, Digits(64)))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("penalty.width=8", r"it has penalty.width=4, not 8: set it back, or start afresh"),
        ("penalty.depth=2", r"it has penalty.depth=1, not 2: set it back"),
        ("network.depth=4", r"holds a model with depth=2, but this run has depth=4"),
        ("latent_dim=8", r"holds a model with latent_dim=4, but this run has latent_dim=8"),
    ],
)
def test_weights_of_other_settings_are_named(change, sentence, trained_file, configure):
    with pytest.raises(CheckpointError, match=sentence):
        find(configure, trained_file, change)


@pytest.mark.parametrize(
    ("changes", "starts_afresh"),
    [
        (["+optimizer.amsgrad=true"], True),
        (["optimizer._target_=torch.optim.SGD", "~optimizer.betas", "~optimizer.fused"], True),
        (["optimizer.lr=0.1", "penalty.lam=3", "seed=4", "data.batch_size=32", "schedule=wae"], False),
    ],
)
def test_an_optimizer_whose_state_does_not_fit_starts_afresh(changes, starts_afresh, trained_file, configure, caplog):
    found = find(configure, trained_file, *changes)
    assert ("The optimizers start afresh" in caplog.text) is starts_afresh
    assert [bool(each["state"]) for each in found.state["optimizer_states"]] == [not starts_afresh] * 2


def test_what_is_no_file_among_the_checkpoints_is_skipped(trained_file, caplog):
    folder = trained_file.parent
    trained_file.rename(folder / "previous.ckpt")
    for make in (
        lambda: trained_file.symlink_to("nowhere"),
        lambda: trained_file.symlink_to("last.ckpt"),
        lambda: os.mkfifo(trained_file),
        lambda: trained_file.mkdir(),
    ):
        make()
        path, _, (skipped,) = newest_checkpoint(folder, check=check_content)
        assert path.name == "previous.ckpt"
        assert "last.ckpt is not a checkpoint: it is " in skipped
        trained_file.rmdir() if trained_file.is_dir() else trained_file.unlink()


def test_weights_that_are_not_finite_cost_no_more_than_the_checkpoint_before(trained_file):
    folder = trained_file.parent
    (folder / "previous.ckpt").write_bytes(trained_file.read_bytes())
    state = read_checkpoint(trained_file)
    state["state_dict"]["encoder.0.bias"][0] = torch.nan
    torch.save(state, trained_file)
    path, _, (skipped,) = newest_checkpoint(folder, check=check_content)
    assert path.name == "previous.ckpt"
    assert "holds NaN or infinite weights (encoder.0.bias, …)" in skipped


ODD: list[Any] = [
    None, True, -1, 0, 3, 10**6, 10**30, 0.5, float("nan"), float("inf"), "", "odd", b"odd", [], [1], {}, {"odd": 1},
    {3: None}, (), (1, 2, 3), torch.tensor(3), torch.tensor(float("nan")), torch.zeros(2, 3), torch.zeros(0),
    torch.tensor(1 + 1j), torch.zeros(2).to_sparse(), {1}, 1j,
]  # fmt: skip


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in nested dictionaries and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, each in items for found in ((*place, key), *places(each, (*place, key)))]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_content_of_a_checkpoint_ends_a_run_later(data, altered, capsys):
    """Something is removed or replaced at any place: it is refused, or a batch can be trained on."""
    state, find_it, resume, seen = altered
    if not seen:
        seen += places(state)
    deepest = data.draw(st.sampled_from([place for place in seen if place[0] != "hyper_parameters"]))
    content = _copy(state)
    holder = content
    for key in deepest[:-1]:
        holder = holder[key]
    if data.draw(st.booleans()) and isinstance(holder, dict):
        del holder[deepest[-1]]
    else:
        holder[deepest[-1]] = data.draw(st.sampled_from(ODD))
    try:
        found = find_it(content)
    except CheckpointError:
        return
    resume(found)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_copy(each) for each in value]
    return value.clone() if isinstance(value, torch.Tensor) else value


@pytest.fixture
def altered(trained_file, configure, tmp_path, monkeypatch):
    """A checkpoint's content, what finds it when it has been altered, and what trains on from there."""
    import lightning as L

    from interp_lightning.training.callbacks.history import Recorder
    from interp_lightning.training.callbacks.saver import Saver
    from interp_lightning.training.checkpoints import Best

    logging.getLogger("interp_lightning").setLevel(logging.ERROR)
    cfg = configure(*TINY, *RUN)
    path = tmp_path / "altered.ckpt"

    def find_it(content: dict[str, Any]) -> Any:
        torch.save(content, path)
        return find(configure, path)

    def resume(found: Any) -> None:
        data = Digits(64)
        model = build_model(cfg, data)
        model.save_hyperparameters({"choices": cfg.penalty and {"model": "ae", "penalty": "gan", "data": "digits"},
                                    "data_used": "digits", "data": {}}, logger=False)  # fmt: skip
        folder = tmp_path / "resumed"
        trainer = L.Trainer(
            max_epochs=found.epoch + 2, limit_train_batches=3, accelerator="cpu", logger=False,
            enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
            callbacks=[
                Recorder(folder),
                Best(folder, "val/autoencoder/reconstruction"),
                Saver(folder / "last.ckpt", 5),
            ],
            plugins=[AtomicCheckpointIO(found.state)],
        )  # fmt: skip
        before = found.batches_seen
        trainer.fit(model, datamodule=data, ckpt_path=str(path), weights_only=True)
        assert model.batches_seen > before
        assert all(parameter.isfinite().all() for parameter in model.parameters())

    yield read_checkpoint(trained_file), find_it, resume, []
    logging.getLogger("interp_lightning").setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.clear(),
        lambda state: state.update({"hyper_parameters": torch.zeros(3)}),
        lambda state: state.update({"state_dict": [1]}),
        lambda state: state["hyper_parameters"].update({"penalty": 3}),
        lambda state: state["hyper_parameters"].update({"choices": {}}),
        lambda state: state["hyper_parameters"]["network"].update({"depth": torch.zeros(3)}),
        lambda state: state.update({"epoch": 10**9}),
        lambda state: state.update({"batches_seen": -3}),
        lambda state: state.update({"loops": {}}),
    ],
)
def test_odd_content_is_refused(change, trained_file, configure):
    state = read_checkpoint(trained_file)
    change(state)
    torch.save(state, trained_file)
    with pytest.raises(CheckpointError, match=r"last\.ckpt"):
        find(configure, trained_file)
