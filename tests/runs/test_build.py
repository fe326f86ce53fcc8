"""Parts of a run that users write in unusual ways."""

import sys
from dataclasses import dataclass
from types import ModuleType

import pytest
from torch import nn

from interp_lightning.data.digits import Digits
from interp_lightning.errors import ConfigError
from interp_lightning.penalties import Penalty
from interp_lightning.runs.build import build, build_model
from interp_lightning.steps.schedules import Schedule
from interp_lightning.training.rehearsal import check_size


@dataclass
class Warmup(Schedule):
    epochs: float = 5.0

    def __call__(self, epoch, epochs):
        return min(1.0, epoch / self.epochs)


class Wide(Penalty):
    """Its width is not a number."""

    def __init__(self, lam, width):
        super().__init__(lam)
        self.layers = nn.ModuleList(nn.Linear(each, each) for each in width)

    def forward(self, z, prior):
        return z.square().mean()


@pytest.fixture(autouse=True)
def own(monkeypatch):
    module = ModuleType("own")
    module.Warmup, module.Wide = Warmup, Wide
    monkeypatch.setitem(sys.modules, "own", module)


def test_a_dataclass_stays_an_object(configure):
    cfg = configure("data=digits", "schedule=constant", "schedule._target_=own.Warmup", "+schedule.epochs=2.0")
    assert build_model(cfg, Digits(64)).schedule == Warmup(2.0)


def test_a_width_that_is_no_number(configure):
    cfg = configure("data=digits", "penalty=none", "penalty._target_=own.Wide", "+penalty.width=[3,4]")
    check_size(cfg, Digits(64))
    assert len(build("penalty", cfg.penalty).layers) == 2


def test_settings_that_no_checkpoint_can_hold_are_refused(configure):
    with pytest.raises(ConfigError, match=r"`penalty\.width` has keys that are not text"):
        configure("data=digits", "penalty=none", "penalty._target_=own.Wide", "+penalty.width={0.5: 1}")
