"""The baselines: denoising, dropout, VAE, RAE and VQ-VAE, and Gaussian posteriors of any model."""

import math
from itertools import pairwise

import pytest
import torch
from conftest import IMAGE_SHAPE, small_model
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from interp_lightning.errors import ConfigError
from interp_lightning.models.acai import ACAI
from interp_lightning.models.ae import AE
from interp_lightning.models.amr import AMR
from interp_lightning.models.denoising import Denoising
from interp_lightning.models.dropout import Dropout
from interp_lightning.models.rae import RAE
from interp_lightning.models.vae import VAE
from interp_lightning.models.vqvae import VQVAE
from interp_lightning.networks.acai import ACAINetwork
from interp_lightning.networks.fast import FastNetwork
from interp_lightning.penalties.mmd import MMD
from interp_lightning.penalties.none import NoPenalty
from interp_lightning.penalties.wasserstein import Wasserstein


@pytest.fixture
def images() -> Tensor:
    return 2 * torch.rand(8, *IMAGE_SHAPE, generator=torch.Generator().manual_seed(0)) - 1


def test_denoising_sees_noise_in_training_and_aims_at_the_image(images):
    model = small_model(Denoising, penalty=NoPenalty(), noise=0.7)
    seen: list[Tensor] = []
    model.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    p = model(images)
    assert 0.6 < (seen[0] - images).std() < 0.8
    torch.testing.assert_close(model.autoencoder_losses(p)["reconstruction"], (p.x_hat - images).square().mean())
    model.eval()(images)
    assert torch.equal(seen[1], images)


def test_dropout_drops_numbers_in_training_only(images):
    model = small_model(Dropout, penalty=NoPenalty(), rate=0.75, latent_dim=64)
    seen: list[Tensor] = []
    model.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    p = model(images)
    dropped = seen[0] == 0
    assert 0.65 < dropped.float().mean() < 0.85
    torch.testing.assert_close(seen[0], torch.where(dropped, 0.0, 4 * p.z))
    p = model.eval()(images)
    assert torch.equal(seen[1], p.z)


def test_a_vae_minimises_the_bound(images):
    model = small_model(VAE, penalty=MMD(0.3), lam=0.7)
    p = model(images)
    expected = kl_divergence(Normal(p.mean, p.variance.sqrt()), Normal(0, 1)).sum(1).mean()
    torch.testing.assert_close(model.autoencoder_losses(p)["divergence"], 0.7 * expected)
    assert torch.equal(model.encode(images), p.mean)


@pytest.mark.parametrize("kind", [AE, ACAI, AMR, Dropout, RAE])
def test_codes_are_drawn_from_their_posteriors(kind, images):
    model = small_model(kind, penalty=NoPenalty(), posterior="gaussian")
    model.batches_seen, draws = 0, []
    for number in range(300):
        model.generator = lambda number=number: torch.Generator().manual_seed(number)
        draws.append(model(images).z)
    p, z = model(images), torch.stack(draws).detach()
    assert ((z.mean(0) - p.mean).abs() < 5 * (p.variance / 300).sqrt()).all()
    torch.testing.assert_close(z.var(0), p.variance.detach(), rtol=0.4, atol=0)
    assert torch.equal(model.encode(images), p.mean)
    assert torch.equal(model.eval()(images).z, p.mean)
    sum(model.autoencoder_losses(p).values()).backward()
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())


def test_a_gaussian_posterior_of_a_grid_of_codes():
    network = ACAINetwork(IMAGE_SHAPE, latent_dim=32, depth=2)
    assert network.gaussian_encoder()(torch.zeros(3, *IMAGE_SHAPE)).shape == (3, 64)
    assert network.decoder()(torch.zeros(3, 32)).shape == (3, *IMAGE_SHAPE)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1024, 4, generator=torch.Generator().manual_seed(0)))

    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.weight.T).view(-1, *IMAGE_SHAPE)


def test_an_rae_keeps_codes_small_and_the_decoder_smooth(images):
    model = small_model(RAE, penalty=NoPenalty(), lam=0.3, weight=0.5)
    model.decoder = Linear()
    found = []
    for number in range(500):
        model.generator = lambda number=number: torch.Generator().manual_seed(number)
        found.append(model.autoencoder_losses(model(images))["smoothness"].item())
    squares = model.decoder.weight.square().sum().item()
    assert sum(found) / 500 == pytest.approx(0.5 * squares / 1024, rel=0.05)  # the Jacobian is the weight
    p = model(images)
    torch.testing.assert_close(model.autoencoder_losses(p)["size"], 0.3 * p.z.square().sum() / 16)
    model.smooth = "l2"
    assert model.autoencoder_losses(p)["smoothness"].item() == pytest.approx(0.5 * squares, rel=1e-5)


def vqvae(**settings: object) -> VQVAE:
    return small_model(VQVAE, penalty=NoPenalty(), latent_dim=6, **{"size": 5, "width": 2, **settings})


def test_a_vqvae_takes_the_nearest_vectors_of_its_codebook(images):
    model = vqvae().eval()
    model.sums.copy_(torch.randn(5, 2, generator=torch.Generator().manual_seed(0)))
    model.counts.fill_(1)
    z = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
    quantised = model.quantise(z)
    for code, found in zip(z, quantised, strict=True):
        for place in range(3):  # numbers of a vector lie 3 apart
            nearest = min(model.codebook, key=lambda each: (each - code[place::3]).square().sum())
            assert torch.equal(found[place::3], nearest)
    assert torch.equal(model.quantise(quantised), quantised)


def test_the_gradient_of_quantisation_is_that_of_the_identity(images):
    model = vqvae(lam=0.0)
    p = model(images)
    (found,) = torch.autograd.grad(model.autoencoder_losses(p)["reconstruction"], p.z)
    quantised = model.quantise(p.z).detach().requires_grad_()
    (expected,) = torch.autograd.grad((model.decoder(quantised) - images).square().mean(), quantised)
    torch.testing.assert_close(found, expected)


def test_the_codebook_follows_the_vectors_that_it_replaces():
    model = vqvae(decay=0.9)
    centres = torch.tensor([[5.0, 0.0], [-5.0, 0.0], [0.0, 5.0]])
    generator = torch.Generator().manual_seed(0)
    for batch in range(150):
        model.batches_seen = batch
        model._learn(centres[torch.randint(3, (64,), generator=generator)] + 0.1, model.generator())
    for centre in centres:
        assert (model.codebook - centre - 0.1).norm(dim=1).min() < 1e-3
    before = model.codebook.clone()
    model._learn(torch.full((4, 2), math.nan), model.generator())
    assert torch.equal(model.codebook, before)


def test_dead_vectors_are_moved_to_where_codes_are():
    model = vqvae()
    model.sums.copy_(torch.tensor([[0.0, 0.0], [9.0, 9.0], [9.0, 9.0], [9.0, 9.0], [9.0, 9.0]]))
    model.counts.copy_(torch.tensor([1.0, 1.0, 0.001, 0.001, 0.001]))
    model._learn(torch.rand(32, 2, generator=torch.Generator().manual_seed(0)), model.generator())
    assert (model.codebook[2:] <= 1.05).all()
    assert (model.codebook[1] == 9).all()


def test_paths_lead_between_codes_before_or_after_quantisation(images):
    before, after = vqvae(paths="before"), vqvae(paths="after")
    for model in (before, after):
        model(images)  # begins the codebook
        model.eval()
    z = before.encode(images)
    assert torch.equal(z, before.encoder(images))
    assert torch.equal(after.encode(images), after.quantise(after.encoder(images)))
    middle = (z[:4] + z[4:]) / 2
    assert torch.equal(before.decode(middle), before.decoder(before.quantise(middle)))
    assert torch.equal(after.decode(middle), after.decoder(middle))
    frames = after.interpolate(images[:1], images[1:2], steps=9)[0]
    assert len({(a - b).norm().item() for a, b in pairwise(frames)}) == 8  # no frames stand still


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"penalty": MMD(0.1)}, r"`penalty` \(=mmd\) compares continuous codes.*; use penalty=none"),
        ({"width": 4}, r"`model.width` \(=4\) must divide latent_dim \(=6\)"),
        ({"posterior": "gaussian"}, r"`model.posterior` \(='gaussian'\) must be one of: point"),
        ({"size": 0}, r"`model.size` \(=0\) must be ≥ 1"),
    ],
)
def test_what_a_vqvae_refuses(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        vqvae(**settings) if "penalty" not in settings else small_model(VQVAE, **settings)


@pytest.mark.parametrize(
    ("kind", "settings", "sentence"),
    [
        (VAE, {"posterior": "point"}, r"`model.posterior` \(='point'\) must be one of: gaussian"),
        (VAE, {"lam": -1.0}, r"`model.lam` \(=-1.0\) must be ≥ 0; use model=ae"),
        (Dropout, {"rate": 1.0}, r"`model.rate` \(=1.0\) must be .*< 1; use model=ae"),
        (Denoising, {"noise": 0.0}, r"`model.noise` \(=0.0\) must be > 0; use model=ae"),
        (RAE, {"smooth": "spectral"}, r"`model.smooth` \(='spectral'\) must be one of: gradient, l2"),
    ],
)
def test_settings_of_baselines_are_checked(kind, settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        small_model(kind, penalty=NoPenalty(), **settings)


class WithHead(AE):
    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.head = nn.Linear(4, 4)


class WithOwnedHead(WithHead):
    autoencoder_parts = ("encoder", "decoder", "head")


def test_parameters_that_no_player_owns_are_refused():
    with pytest.raises(ConfigError, match=r"`WithHead.head.weight` belongs to no player; name its part in WithHead"):
        small_model(WithHead, penalty=NoPenalty()).parameter_groups()
    (own,), critic = small_model(WithOwnedHead, penalty=NoPenalty()).parameter_groups()
    assert not critic
    assert {(4, 4)} <= {tuple(parameter.shape) for parameter in own["params"]}


@pytest.mark.parametrize("queue", [0, 6])
def test_w2_of_gaussian_codes_is_that_of_their_mixture(queue):
    generator = torch.Generator().manual_seed(0)
    mean, variance = torch.randn(9, 3, generator=generator).double(), torch.rand(9, 3, generator=generator).double()
    penalty = Wasserstein(lam=1.0, queue=queue)
    found = penalty.of_gaussians(torch.zeros(9, 3), torch.zeros(9, 3), mean, variance)
    covariance = mean.T.cov() + variance.mean(0).diag()
    root = torch.linalg.eigvalsh(covariance).sqrt().sum()
    torch.testing.assert_close(found, mean.mean(0).square().sum() + covariance.trace() + 3 - 2 * root)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_w2_of_broken_gaussians_is_no_number_and_leaves_the_queue(broken):
    penalty, mean = Wasserstein(lam=1.0, queue=8), torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    penalty.of_gaussians(mean, mean, mean, torch.ones(9, 3))
    before = penalty.queue.clone()
    assert penalty.of_gaussians(mean, mean, mean, torch.full((9, 3), broken)).isnan()
    assert torch.equal(penalty.queue, before)


def test_the_nearest_vectors_are_found_in_full_precision():
    model = vqvae(size=400).eval()
    model.sums.copy_(100 + torch.rand(400, 2, generator=torch.Generator().manual_seed(0)))
    model.counts.fill_(1)
    z = 100 + torch.rand(30, 6, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.quantise(z), model.quantise(z.double()).float())


def test_gradients_of_gaussian_codes_do_not_depend_on_the_queue():
    """A full queue of the same codes changes no gradient."""
    generator = torch.Generator().manual_seed(0)
    mean = (3 * torch.randn(64, 3, generator=generator).double()).requires_grad_()
    variance = torch.rand(64, 3, generator=generator).double().requires_grad_()
    gradients = []
    for queue in (0, 640):
        penalty = Wasserstein(lam=1.0, queue=queue)
        for _ in range(10 * bool(queue)):
            penalty.of_gaussians(mean, mean, mean, variance)
        value = penalty.of_gaussians(mean, mean, mean, variance)
        gradients.append(torch.autograd.grad(value, (mean, variance)))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0.1, atol=2e-3)


def test_a_vqvae_needs_a_network_whose_codes_it_can_divide():
    network = FastNetwork(IMAGE_SHAPE, latent_dim=5, depth=2)
    with pytest.raises(ConfigError, match=r"`model.width` \(=2\) must divide latent_dim \(=5\)"):
        VQVAE(network=network, penalty=NoPenalty())
