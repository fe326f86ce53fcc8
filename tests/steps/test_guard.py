"""Numbers that go wrong stop a run, or are left out and counted; never trained on in silence."""

import json
from typing import Any

import pytest
import torch
from conftest import run_ahead
from torch import Tensor

from interp_lightning.errors import ConfigError, Diverged
from interp_lightning.penalties.gan import GAN
from interp_lightning.penalties.wasserstein import Wasserstein
from interp_lightning.runs.checkpoints import read_checkpoint
from interp_lightning.training.rehearsal import FEW


class Broken(Wasserstein):
    """Its value is NaN or infinite in training steps of these numbers, from 1; the rehearsal's have few codes."""

    def __init__(self, numbers: list[int], value: str = "nan", **settings: Any) -> None:
        super().__init__(**settings)
        self.numbers, self.value, self.calls = numbers, float(value), 0

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        step = self.training and z.requires_grad and len(z) > FEW
        self.calls += step
        return super().forward(z, prior) * (self.value if step and self.calls in self.numbers else 1.0)


class Steep(Wasserstein):
    """0, with an infinite slope."""

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return (z - z.detach()).abs().sqrt().sum() if len(z) > FEW else super().forward(z, prior)


class Large(Wasserstein):
    """0, with a gradient whose square overflows."""

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return 1e25 * (z - z.detach()).sum()


class Blind(GAN):
    """Its discriminator's losses are NaN."""

    def critic_losses(self, z: Tensor, prior: Tensor) -> dict[str, Tensor]:
        return {k: v * (torch.nan if len(z) > FEW else 1) for k, v in super().critic_losses(z, prior).items()}


def own(kind: type) -> str:
    return f"penalty._target_={__name__}.{kind.__name__}"


def broken_at(*numbers: int, value: str = "nan") -> list[str]:
    return [own(Broken), f"+penalty.numbers={[*numbers]}", f"+penalty.value='{value}'"]


@pytest.fixture(autouse=True, params=[False, True], ids=["", "as on a GPU"])
def _runs_ahead(request, monkeypatch):
    run_ahead(monkeypatch, request.param)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_the_run_stops_names_the_term_and_keeps_the_checkpoint_before(value, launch):
    with pytest.raises(
        Diverged, match=r"train/autoencoder/penalty \(=(nan|inf)\) at batch 25 .*ckpt_path=last.*guard=rollback"
    ):
        launch(*broken_at(25, value=value), "trainer.max_epochs=2")


@pytest.mark.parametrize("number", [1, 2])
def test_there_is_a_checkpoint_from_before_however_early(number, launch, tmp_path):
    with pytest.raises(Diverged):
        launch(*broken_at(number))
    state = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert state["batches_seen"] == 0
    assert all(value.isfinite().all() for value in state["state_dict"].values())


def test_what_was_saved_before_is_whole(launch, tmp_path):
    with pytest.raises(Diverged):
        launch(*broken_at(25), "trainer.max_epochs=2")
    state = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")
    assert state["batches_seen"] == 19
    assert all(value.isfinite().all() for value in state["state_dict"].values() if value.numel())


def test_steps_are_left_out_and_counted(launch, caplog):
    folder = launch(*broken_at(3, 4, 9), "guard=skip")
    assert json.loads((folder / "results.json").read_text())["budget"]["skipped_steps"] == 3
    assert "Skipped step number 1: train/autoencoder/penalty (=nan) at batch 3 is not a finite number" in caplog.text
    assert "Skipped 3 steps" in caplog.text
    state = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert state["guard"]["skipped"] == 3
    assert all(value.isfinite().all() for value in state["state_dict"].values() if value.numel())


def test_a_gradient_that_breaks_with_finite_losses_is_named(launch):
    with pytest.raises(Diverged, match=r"the gradient of the autoencoder at batch 1 is not a finite number"):
        launch(own(Steep))


def test_large_gradients_are_none_of_its_business(launch):
    launch(own(Large), "trainer.limit_train_batches=1", "optimizer.lr=1e-30")


def test_the_critics_side_is_watched_too(launch):
    with pytest.raises(Diverged, match=r"train/critic/latent_\w+ \(=nan\).* at batch 1"):
        launch("penalty=gan", own(Blind))


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
