"""A user's own classes are tried before a run begins, and what is wrong with one is said by its name."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import TINY
from hydra.utils import instantiate
from torch import Tensor, nn

from interp_lightning.data.digits import Digits
from interp_lightning.errors import ConfigError, of_own_code
from interp_lightning.models.ae import AE
from interp_lightning.networks.fast import FastNetwork
from interp_lightning.penalties.base import Penalty
from interp_lightning.runs.build import build, build_model
from interp_lightning.training.rehearsal import check_size, rehearse


class Own(Penalty):
    """A penalty of which a test says what one of its methods returns."""

    instead: dict[str, Callable[..., Any]] = {}  # noqa: RUF012

    def __init__(self, lam: float) -> None:
        super().__init__(lam)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return self.instead.get("forward", lambda z, prior: z.square().mean())(z, prior)

    def critic_losses(self, z: Tensor, prior: Tensor) -> dict[str, Tensor]:
        return self.instead.get("critic_losses", lambda weight, z: {"it": weight * z.mean()})(self.weight, z)

    def critic_predictions(self, z: Tensor, prior: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        return self.instead.get("critic_predictions", lambda z: {"it": (z[:, 0], z[:, 0])})(z)

    def prior(self, noise: Tensor) -> Tensor:
        return self.instead.get("prior", lambda noise: noise)(noise)


class NoSuper(Penalty):
    def __init__(self, lam: float) -> None:
        nn.Module.__init__(self)

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return z.mean()


class NoModule(FastNetwork):
    def encoder(self) -> Any:
        return 3


class NoPass(AE):
    def forward(self, x: Tensor) -> Any:
        return x


@pytest.fixture
def own(configure, monkeypatch) -> Callable[..., Any]:
    """The configuration of a run with the penalty above."""

    def make(**instead: Callable[..., Any]) -> Any:
        monkeypatch.setattr(Own, "instead", instead)
        return configure(
            *TINY, "model=ae", "latent_dim=4", "penalty=none", f"penalty._target_={__name__}.Own", "penalty.lam=1"
        )

    return make


WRONG: list[tuple[str, Callable[..., Any], str]] = [
    ("forward", lambda z, prior: float(z.mean()), "of type float"),
    ("forward", lambda z, prior: 3, "it is 3, of type int"),
    ("forward", lambda z, prior: None, "it is null, of type NoneType"),
    ("forward", lambda z, prior: {"it": z.mean()}, "it is a dictionary with it"),
    ("forward", lambda z, prior: z.mean(1), r"it is a tensor of shape \(64,\)"),
    ("forward", lambda z, prior: torch.tensor(3), "it is 3"),
    ("forward", lambda z, prior: z.mean() * torch.nan, "must be finite for random images and codes; it is nan"),
    ("forward", lambda z, prior: z.mean().detach(), "must return a tensor that depends on z"),
    ("forward", lambda z, prior: torch.ones(()), "must return a tensor that depends on z"),
    ("critic_losses", lambda weight, z: {}, "Own.critic_losses` must return a loss that depends on penalty.weight"),
    ("critic_losses", lambda weight, z: {"it": z.mean()}, "must return a loss that depends on penalty.weight"),
    ("critic_losses", lambda weight, z: None, "must return a dictionary of losses by their names"),
    ("critic_losses", lambda weight, z: {"it": 3.0}, "it is 3.0, of type float"),
    ("critic_losses", lambda weight, z: {3: weight}, "must return a dictionary of losses by their names"),
    ("critic_losses", lambda weight, z: {"it": weight * torch.inf}, "must be finite"),
    ("critic_predictions", lambda z: None, "critic_predictions` must return a dictionary of pairs"),
    ("critic_predictions", lambda z: {"it": z}, "critic_predictions` must return a dictionary of pairs"),
    (
        "critic_predictions",
        lambda z: {"it": (z, z[0])},
        "critic_predictions` must return predictions and targets of one shape",
    ),
    (
        "prior",
        lambda noise: noise[:, :2],
        r"prior` must return .* of shape \(64, 4\); it is a tensor of shape \(64, 2\)",
    ),
    ("prior", lambda noise: None, r"prior` must return"),
]


@pytest.mark.parametrize(("method", "instead", "sentence"), WRONG)
def test_what_a_penalty_must_return(method, instead, sentence, own):
    cfg = own(**{method: instead})
    with pytest.raises(ConfigError, match=sentence):
        rehearse(cfg, Digits(64))


def test_an_own_penalty_that_is_right_is_accepted_and_leaves_no_trace(own):
    cfg = own()
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    rehearse(cfg, Digits(64))
    assert torch.equal(torch.rand(3), expected)


def test_a_penalty_may_need_more_codes_than_a_few(own):
    rehearse(own(forward=lambda z, prior: torch.linalg.cholesky(torch.cov(z[:9].T)).sum() / (len(z) > 8)), Digits(64))


def test_a_parameter_that_is_frozen_needs_no_loss(own):
    cfg = own(critic_losses=lambda weight, z: weight.requires_grad_(False) is None or {})
    model = build_model(cfg, Digits(64))
    model.penalty.weight.requires_grad_(False)
    assert len(model.configure_optimizers()) == 1


def try_out(cfg: Any) -> None:
    check_size(cfg, Digits(64))
    rehearse(cfg, Digits(64))


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("penalty=none penalty._target_={}.NoSuper", "NoSuper.__init__` must call super.*arguments of Penalty"),
        ("network._target_={}.NoModule", "NoModule` must make torch.nn.Modules"),
        ("model._target_={}.NoPass", "NoPass.forward` must return a Pass"),
    ],
)
def test_other_classes(part, sentence, configure):
    cfg = configure(*TINY, "model=ae", "penalty=mmd", *part.format(__name__).split())
    with pytest.raises(ConfigError, match=sentence):
        try_out(cfg)


def test_what_own_code_raises_is_its_own(own):
    def broken(z: Tensor, prior: Tensor) -> Tensor:
        raise KeyError("mine")

    with pytest.raises(KeyError) as raised:
        rehearse(own(forward=broken), Digits(64))
    sentence = of_own_code(raised.value)
    assert sentence is not None
    assert "broken (" in sentence
    assert "test_rehearsal.py, line " in sentence
    assert "raised KeyError: 'mine'; this is your own code" in sentence


def test_our_own_errors_are_not_the_users():
    with pytest.raises(TypeError) as raised:
        build("penalty", None)
    assert of_own_code(raised.value) is None


def test_a_module_that_is_not_there():
    with pytest.raises(Exception, match="nowhere") as raised:
        instantiate({"_target_": "nowhere.Norm"})
    assert "(=nowhere.Norm) cannot be imported: No module named 'nowhere'; put the folder" in of_own_code(raised.value)


@pytest.mark.parametrize(
    "size",
    ["latent_dim=10000000", "latent_dim=4611686018427387904", "network.depth=100000", "data.batch_size=10000000000",
     "penalty=gan penalty.width=10000000", "penalty=wasserstein penalty.queue=10000000000"],
)  # fmt: skip
def test_what_cannot_fit_into_memory_is_not_allocated(size, configure):
    cfg = configure(*TINY, *size.split())
    with pytest.raises(ConfigError, match=r"out of memory; use a smaller data\.batch_size, network\.depth, latent_dim"):
        check_size(cfg, Digits(cfg.data.batch_size))


def test_lazy_layers_see_a_few_codes_only(configure, monkeypatch):
    monkeypatch.setattr(torch.linalg, "svdvals", None)  # as it would take a minute of codes of 3,000 numbers
    build_model(configure(*TINY, "model=ae", "penalty=wasserstein", "latent_dim=3000"), Digits(64))
