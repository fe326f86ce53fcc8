"""A critic that no longer teaches is named in the log."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import small_model

from interp_lightning.penalties.gan import GAN
from interp_lightning.penalties.none import NoPenalty
from interp_lightning.training.callbacks.critics import Critics

RUN = ["trainer.max_epochs=4"]


@pytest.fixture
def say(caplog):
    """What is logged after validations with these (spread, explained)."""
    caplog.set_level(logging.INFO)

    def after(*found: tuple[float, float]) -> list[str]:
        critics = Critics()
        for epoch, (spread, explained) in enumerate(found):
            metrics = {"val/critic/it_spread": spread, "val/critic/it_explained": explained, "val/penalty/value": 0.0}
            trainer = SimpleNamespace(
                sanity_checking=False, is_global_zero=True, current_epoch=epoch, callback_metrics=metrics
            )
            critics.on_validation_end(trainer, None)
        return caplog.messages

    return after


def test_a_healthy_critic_is_not_mentioned(say):
    assert say((0.5, 0.3), (0.9, 0.98), (0.03, -0.1)) == []


def test_what_lasts_is_said_once_and_its_end_too(say):
    dead, recovered, saturated = say(
        (0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.4, 0.2), (0.4, 0.2), (1.0, 0.999), (1.0, 0.999)
    )
    assert dead.startswith("Epoch 2: the critic `it` is dead: it predicts nearly the same for every input")
    assert recovered == "Epoch 5: the critic `it` has recovered"
    assert saturated.startswith("Epoch 7: the critic `it` is saturated: it is always right")


def test_a_moment_is_not_said(say):
    assert say((0.0, 0.0), (0.5, 0.2), (1.0, 0.999), (0.5, 0.2)) == []


@pytest.mark.parametrize(("penalty", "names"), [(GAN(1.0), ["critic", "latent_discriminator"]),
                                                (NoPenalty(), ["critic"])])  # fmt: skip
def test_predictions_come_with_their_targets(penalty, names):
    model = small_model(penalty=penalty).eval()
    p = model(torch.rand(8, 1, 32, 32))
    found = model.critic_predictions(p)
    assert list(found) == names
    for predicted, target in found.values():
        assert predicted.shape == target.shape == (16,)
    assert torch.equal(found["critic"][1][:8], p.alpha)
    assert not found["critic"][1][8:].any()


class Dead(GAN):
    """Its discriminator's last unit never fires."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.discriminator.layers.append(torch.nn.Threshold(1e6, 0.0))


def test_a_discriminator_whose_units_have_died_is_dead(launch, caplog):
    launch(*RUN, "model=ae", "penalty=gan", f"penalty._target_={__name__}.Dead")
    assert "the critic `latent_discriminator` is dead" in caplog.text


def test_a_discriminator_that_nobody_minds_saturates(launch, caplog):
    launch(*RUN, "model=ae", "penalty=gan", "penalty.lam=0", "penalty.r1=0")
    assert "the critic `latent_discriminator` is saturated" in caplog.text


def test_a_run_as_it_should_be_has_no_such_warning(launch, caplog):
    launch(*RUN, "model=acai", "penalty=gan")
    assert "the critic" not in caplog.text
