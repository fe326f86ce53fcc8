"""Models: the objective against its formula, and who moves in whose step."""

from dataclasses import replace
from typing import Any

import lightning as L
import pytest
import torch
from conftest import ACAI, AE, CELLS, IMAGE_SHAPE, small_model
from hydra.utils import instantiate
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from interp_lightning.data.digits import Digits
from interp_lightning.errors import ConfigError
from interp_lightning.functional.codes import mix
from interp_lightning.models.amr import AMR
from interp_lightning.models.base import Autoencoder
from interp_lightning.penalties.gan import GAN
from interp_lightning.penalties.mmd import MMD
from interp_lightning.penalties.none import NoPenalty
from interp_lightning.penalties.wasserstein import Wasserstein
from interp_lightning.runs.build import build_model


@pytest.fixture
def images() -> Tensor:
    return torch.rand(8, *IMAGE_SHAPE, generator=torch.Generator().manual_seed(1)) * 2 - 1


class Watch(L.Callback):
    """Notes which parameters each optimizer's step changes."""

    def __init__(self) -> None:
        self.moved: list[set[str]] = []
        self.before: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.note(pl_module)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.compare(pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.compare(pl_module)

    def note(self, module: L.LightningModule) -> None:
        self.before = {name: p.detach().clone() for name, p in module.named_parameters()}

    def compare(self, module: L.LightningModule) -> None:
        moved = {name for name, p in module.named_parameters() if not torch.equal(p, self.before[name])}
        if moved:
            self.moved.append(moved)
        self.note(module)


def train_one_batch(model: Autoencoder, images: Tensor, **kwargs: Any) -> Watch:
    class OneBatch(L.LightningDataModule):
        def train_dataloader(self) -> DataLoader:
            return DataLoader(TensorDataset(images, torch.zeros(len(images))), batch_size=len(images))

    watch = Watch()
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **kwargs,
    )
    trainer.fit(model, OneBatch())
    return watch


@pytest.mark.parametrize(("model_name", "penalty_name"), CELLS)
def test_each_players_step_moves_its_own_parameters_and_no_others(model_name, penalty_name, configure, images):
    cfg = configure(f"model={model_name}", f"penalty={penalty_name}", "network.depth=2", "latent_dim=20")
    model = build_model(cfg, Digits(batch_size=8))
    names = {name for name, _ in model.named_parameters()}
    autoencoder = {name for name in names if name.startswith(("encoder.", "decoder."))}
    expected = [autoencoder, names - autoencoder] if names - autoencoder else [autoencoder]
    assert train_one_batch(model, images).moved == expected


@pytest.mark.parametrize(("model_name", "penalty_name"), CELLS)
def test_losses_are_finite_scalars_and_reach_every_parameter(model_name, penalty_name, configure, images):
    cfg = configure(f"model={model_name}", f"penalty={penalty_name}", "network.depth=2", "latent_dim=20")
    model = build_model(cfg, Digits(batch_size=8))
    p = model(images)
    losses = [*model.autoencoder_losses(p).values(), *model.critic_losses(p.detach()).values()]
    assert all(loss.shape == () and loss.isfinite() for loss in losses)
    sum(losses).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_acai_losses_are_equations_1_and_2(images):
    model = small_model(ACAI, penalty=MMD(0.3), lam=0.7, gamma=0.1)
    p = model(images)
    assert p.alpha.shape == (8,)
    assert 0 <= p.alpha.min() < p.alpha.max() <= 0.5
    mixed = torch.stack([p.alpha[i] * p.z[i] + (1 - p.alpha[i]) * p.z[7 - i] for i in range(8)])
    torch.testing.assert_close(p.x_hat_mix, model.decode(mixed))

    guess = model.critic(p.x_hat_mix)
    assert guess.shape == p.alpha.shape  # (B, 1) here would broadcast to (B, B)
    own = model.autoencoder_losses(p)
    assert set(own) == {"reconstruction", "interpolation", "penalty"}
    torch.testing.assert_close(own["reconstruction"], ((images - p.x_hat) ** 2).sum() / images.numel())
    torch.testing.assert_close(own["interpolation"], 0.7 * sum(g**2 for g in guess) / 8)
    torch.testing.assert_close(own["penalty"], 0.3 * MMD(1.0)(p.z, p.prior))

    critic = model.critic_losses(p.detach())
    assert set(critic) == {"alpha", "realism"}
    torch.testing.assert_close(critic["alpha"], sum((guess[i] - p.alpha[i]) ** 2 for i in range(8)) / 8)
    unmixed = model.critic(0.1 * images + 0.9 * p.x_hat)
    torch.testing.assert_close(critic["realism"], (unmixed**2).sum() / 8)


@pytest.mark.parametrize("mixing", ["lerp", "bernoulli"])
def test_amr_losses_are_the_papers(images, mixing):
    model = small_model(AMR, penalty=MMD(0.3), lam=0.7, mixing=mixing, r1=0.4)
    p = model(images)
    real, reconstructed, mixed = map(model.critic, (images, p.x_hat, p.x_hat_mix))
    assert mixed.shape == (8,)
    own = model.autoencoder_losses(p)
    assert set(own) == {"reconstruction", "realism", "penalty"}
    taken_for_real = -sum(d.sigmoid().log() for d in (*reconstructed, *mixed)) / 16
    torch.testing.assert_close(own["realism"], 0.7 * taken_for_real)
    critic = model.critic_losses(p.detach())
    assert set(critic) == {"real", "decoded", "slope"}
    torch.testing.assert_close(critic["real"], -sum(d.sigmoid().log() for d in real) / 8)
    torch.testing.assert_close(critic["decoded"], -sum((1 - d.sigmoid()).log() for d in (*reconstructed, *mixed)) / 16)

    some = images[[0, 7]]  # a pair of mirror images
    slope = torch.autograd.functional.jacobian(lambda x: model.critic(x).sum(), some)
    torch.testing.assert_close(critic["slope"], 0.2 * slope.flatten(1).square().sum(1).mean())
    assert "slope" not in small_model(AMR, penalty=MMD(0.3), r1=0.0).critic_losses(p.detach())


def test_amr_mixes_whole_codes_or_each_number(images):
    whole, each = (small_model(AMR, penalty=NoPenalty(), mixing=mixing) for mixing in ("lerp", "bernoulli"))
    p = whole(images)
    prior_first = whole.generator()
    whole.draw_prior(8, prior_first)
    alpha = whole.draw_alpha(8, prior_first)
    torch.testing.assert_close(p.x_hat_mix, whole.decode(mix(p.z, alpha)))
    torch.testing.assert_close(each.decode(each(images).z), each(images).x_hat)
    mask = each._draw_mask(torch.full((8,), 0.25), each.generator())
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert mask.shape == (8, 4)
    assert not torch.equal(each(images).x_hat_mix, p.x_hat_mix)


@pytest.mark.parametrize("kind", [ACAI, AMR])
def test_terms_for_paths_are_those_of_oring(kind, images):
    model = small_model(kind, penalty=NoPenalty(), cycle=0.3, smoothness=0.4).double()
    p = model(images.double())
    losses = model.autoencoder_losses(p)
    distances = [(a - b).square().sum() for a in p.z for b in p.z]
    errors = (model.encode(model.decode(p.z_mix)) - p.z_mix).square().sum(1)
    torch.testing.assert_close(losses["cycle"], 0.3 * errors.mean() / (sum(distances) / 64))
    alpha = p.alpha.detach()
    slope = torch.func.jvp(lambda a: model.decode(mix(p.z, a)), (alpha,), (torch.ones_like(alpha),))[1]
    torch.testing.assert_close(losses["smoothness"], 0.4 * slope.square().mean(), rtol=0.02, atol=0)
    plain = small_model(kind, penalty=NoPenalty())
    assert not {"cycle", "smoothness"} & plain.autoencoder_losses(plain(images)).keys()


def test_codes_cannot_shrink_their_cycle(images):
    model = small_model(ACAI, penalty=NoPenalty(), cycle=0.3)
    p = model(images)
    before = model.path_losses(p)["cycle"]
    model.encoder.register_forward_hook(lambda module, x, z: z / 10)
    shrunk = replace(p, z=p.z / 10, z_mix=p.z_mix / 10)
    torch.testing.assert_close(model.path_losses(shrunk)["cycle"], before)


def test_ae_losses_are_the_waes(images):
    model = small_model(AE, penalty=GAN(0.5, width=4, depth=1))
    p = model(images)
    losses = model.autoencoder_losses(p)
    assert set(losses) == {"reconstruction", "penalty"}
    torch.testing.assert_close(losses["penalty"], 0.5 * model.penalty(p.z, p.prior))
    assert set(model.critic_losses(p.detach())) == {"latent_prior", "latent_codes", "latent_slope"}


def test_the_critic_sees_no_graph(images):
    p = small_model(ACAI, penalty=NoPenalty())(images)
    assert p.z.requires_grad
    detached = p.detach()
    assert type(detached) is type(p)
    assert not any(value.requires_grad for value in vars(detached).values() if value is not None)
    assert torch.equal(detached.x_hat_mix, p.x_hat_mix)


def test_random_draws_depend_on_seed_and_batch_only(images):
    model = small_model(ACAI, penalty=NoPenalty(), seed=3)
    torch.manual_seed(99)
    first = model(images)
    torch.manual_seed(100)
    assert torch.equal(first.alpha, model(images).alpha)
    assert torch.equal(first.prior, model(images).prior)
    model.batches_seen = 1
    assert not torch.equal(first.alpha, model(images).alpha)
    model.eval()
    fixed = model(images)
    model.batches_seen = 2
    assert torch.equal(fixed.alpha, model(images).alpha)
    other = small_model(ACAI, penalty=NoPenalty(), seed=4)
    assert not torch.equal(first.alpha, other(images).alpha)


def test_the_prior_is_the_penaltys(images):
    model = small_model(AE, penalty=Wasserstein(1.0, mean=[100.0] * 4))
    assert (model(images).prior > 90).all()


@pytest.mark.parametrize("penalty", [GAN(1.0, width=4, depth=1), MMD(1.0), Wasserstein(1.0), NoPenalty()])
def test_penalties_stay_in_full_precision_under_bf16(penalty, images):
    model = small_model(ACAI, penalty=penalty)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        p = model(images)
        assert p.z.dtype == torch.bfloat16
        value = model.divergence(p)
    expected = penalty(p.z.float(), p.prior)
    assert value.dtype in (torch.float32, torch.float64)
    torch.testing.assert_close(value, expected)


def test_penalty_parameters_learn_at_their_own_rate():
    model = small_model(ACAI, penalty=GAN(1.0, width=4, depth=1, lr=1e-5))
    autoencoder, critic = model.configure_optimizers()
    assert [group["lr"] for group in autoencoder.param_groups] == [1e-3]
    assert [group["lr"] for group in critic.param_groups] == [1e-3, 1e-5]
    assert len(small_model(AE, penalty=MMD(1.0)).configure_optimizers()) == 1


def test_interpolate_decodes_a_path(images):
    model = small_model(AE, penalty=NoPenalty()).eval()
    with torch.no_grad():
        paths = model.interpolate(images[:3], images[3:6], steps=5, how="slerp")
        assert paths.shape == (3, 5, *IMAGE_SHAPE)
        torch.testing.assert_close(paths[:, 0], model.decode(model.encode(images[:3])))
        torch.testing.assert_close(paths[:, -1], model.decode(model.encode(images[3:6])))


@pytest.mark.parametrize("option", [{"lam": -1}, {"r1": float("nan")}, {"mixing": "slerp"}])
def test_bad_amr_options(option):
    with pytest.raises(ConfigError, match=rf"`model.{next(iter(option))}`"):
        small_model(AMR, penalty=NoPenalty(), **option)


@pytest.mark.parametrize("option", [{"lam": -0.1}, {"lam": float("nan")}, {"gamma": 1.1}, {"gamma": -1}])
def test_bad_acai_options(option):
    with pytest.raises(ConfigError, match=rf"`model.{next(iter(option))}`"):
        small_model(ACAI, penalty=NoPenalty(), **option)


def test_batch_sizes_that_cannot_work():
    with pytest.raises(ConfigError, match=r"`data.batch_size` \(=63\) must be even"):
        small_model(ACAI, penalty=NoPenalty()).check(63)
    with pytest.raises(ConfigError, match=r"`data.batch_size` \(=63\) must be even for model=amr"):
        small_model(AMR, penalty=NoPenalty()).check(63)
    for penalty in (MMD(1.0), Wasserstein(1.0)):
        with pytest.raises(ConfigError, match=r"`data.batch_size` \(=1\) must be ≥ 2"):
            small_model(AE, penalty=penalty).check(1)
    small_model(AE, penalty=NoPenalty()).check(1)


def test_schedules_scale_every_learning_rate(images, configure):
    cfg = configure("schedule=wae")
    schedule = instantiate(cfg.schedule)
    assert [schedule(epoch, 100) for epoch in (0, 29.9, 30, 50, 99)] == [1.0, 1.0, 0.5, 0.2, 0.2]
    cosine = instantiate(configure("schedule=cosine").schedule)
    assert [round(cosine(epoch, 10), 6) for epoch in (0, 5, 10)] == [1.0, 0.5, 0.0]

    model = small_model(ACAI, penalty=GAN(1.0, width=4, depth=1, lr=5e-4), schedule=lambda epoch, epochs: 0.25)
    train_one_batch(model, images)
    rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in model.trainer.optimizers]
    assert rates == [[0.25e-3], [0.25e-3, 0.25 * 5e-4]]
