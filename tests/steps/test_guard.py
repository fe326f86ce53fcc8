"""Numbers that go wrong stop a run, or are left out and counted; never trained on in silence."""

import json
import math

import pytest
import torch

from interp_lightning.errors import ConfigError, Diverged
from interp_lightning.functional import devices
from interp_lightning.penalties.gan import GAN
from interp_lightning.penalties.wasserstein import Wasserstein
from interp_lightning.runs.checkpoints import read_checkpoint
from interp_lightning.training import run

pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture(autouse=True)
def _no_rehearsal(monkeypatch):
    monkeypatch.setattr(run, "rehearse", lambda cfg, data: None)  # which would meet the broken numbers first


@pytest.fixture(autouse=True, params=[False, True], ids=["", "as on a GPU"])
def _runs_ahead(request, monkeypatch):
    monkeypatch.setattr(devices, "runs_ahead", lambda device: request.param)


@pytest.fixture
def broken_at(monkeypatch):
    """Make a penalty's value NaN or infinite in training calls of these numbers, from 1."""

    def arrange(*numbers: int, value: float = math.nan, kind: type = Wasserstein) -> None:
        forward, calls = kind.forward, [0]

        def hook(self, z, prior):
            calls[0] += self.training and z.requires_grad
            broken = self.training and z.requires_grad and calls[0] in numbers
            return forward(self, z, prior) * (value if broken else 1.0)

        monkeypatch.setattr(kind, "forward", hook)

    return arrange


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_run_stops_names_the_term_and_keeps_the_checkpoint_before(value, broken_at, launch):
    broken_at(25, value=value)
    with pytest.raises(
        Diverged, match=r"train/autoencoder/penalty \(=(nan|inf)\) at batch 25 .*ckpt_path=last.*guard=rollback"
    ):
        launch("trainer.max_epochs=2")


@pytest.mark.parametrize("number", [1, 2])
def test_there_is_a_checkpoint_from_before_however_early(number, broken_at, launch, tmp_path):
    broken_at(number)
    with pytest.raises(Diverged):
        launch()
    state = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert state["batches_seen"] == 0
    assert all(value.isfinite().all() for value in state["state_dict"].values())


def test_what_was_saved_before_is_whole(broken_at, launch, tmp_path):
    broken_at(25)
    with pytest.raises(Diverged):
        launch("trainer.max_epochs=2")
    state = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert state["batches_seen"] == 19
    assert all(value.isfinite().all() for value in state["state_dict"].values() if value.numel())


def test_steps_are_left_out_and_counted(broken_at, launch, caplog):
    broken_at(3, 4, 9)
    folder = launch("guard=skip")
    assert json.loads((folder / "results.json").read_text())["budget"]["skipped_steps"] == 3
    assert "Skipped step number 1: train/autoencoder/penalty (=nan) at batch 3 is not a finite number" in caplog.text
    assert "Skipped 3 steps" in caplog.text
    state = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert state["guard"]["skipped"] == 3
    assert all(value.isfinite().all() for value in state["state_dict"].values() if value.numel())


def test_a_gradient_that_breaks_with_finite_losses_is_named(launch, monkeypatch):
    def steep(self, z, prior):
        return (z - z.detach()).abs().sqrt().sum()  # 0, with an infinite slope

    monkeypatch.setattr(Wasserstein, "forward", steep)
    with pytest.raises(Diverged, match=r"the gradient of the autoencoder at batch 1 is not a finite number"):
        launch()


def test_large_gradients_are_none_of_its_business(launch, monkeypatch):
    monkeypatch.setattr(Wasserstein, "forward", lambda self, z, prior: 1e25 * (z - z.detach()).sum())
    launch("trainer.limit_train_batches=1", "optimizer.lr=1e-30")


def test_the_critics_side_is_watched_too(launch, monkeypatch):
    losses = GAN.critic_losses
    monkeypatch.setattr(
        GAN, "critic_losses", lambda self, z, prior: {k: v * torch.nan for k, v in losses(self, z, prior).items()}
    )
    with pytest.raises(Diverged, match=r"train/critic/latent_\w+ \(=nan\).* at batch 1"):
        launch("penalty=gan")


def test_a_learning_rate_that_is_far_too_large_ends_in_a_sentence(launch):
    with pytest.raises(Diverged, match=r"training has diverged: .*smaller optimizer\.lr"):
        launch("optimizer.lr=1e30")


def test_codes_that_are_no_numbers_are_not_remembered():
    penalty, z = Wasserstein(1.0, queue=100), torch.randn(8, 3)
    penalty(z, z)
    assert penalty(z * torch.nan, z).isnan()
    assert penalty(z, z).isfinite()


def test_there_are_three_guards(launch):
    with pytest.raises(ConfigError, match=r"`guard` \(='ignore'\) must be one of: stop, skip, rollback"):
        launch("guard=ignore")
