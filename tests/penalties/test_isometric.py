"""penalty=isometric: against explicit Jacobians, and what it does to a decoder."""

import pytest
import torch
from conftest import small_model
from torch import Tensor, nn

from interp_lightning.functional.isometry import distortion
from interp_lightning.models.ae import AE
from interp_lightning.penalties.isometric import Isometric


def decoder(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 32), nn.LeakyReLU(0.2), nn.Linear(32, 10)).double()


def spectra(decode: nn.Module, z: Tensor) -> Tensor:
    """The eigenvalues of JᵀJ, (N, d)."""
    jacobians = torch.stack([torch.autograd.functional.jacobian(decode, code) for code in z])
    return torch.linalg.svdvals(jacobians).square()


def test_it_is_the_relative_variance_of_the_eigenvalues():
    decode, z = decoder(), torch.randn(20, 3, generator=torch.Generator().manual_seed(0)).double()
    values = spectra(decode, z)
    expected = (values.var(correction=0) / values.mean() ** 2).item()
    many = z.repeat(4000, 1)
    v = torch.randn(len(many), 3, generator=torch.Generator().manual_seed(1)).double()
    assert distortion(decode, many, v).item() == pytest.approx(expected, rel=0.03)


def test_its_gradient_is_that_of_finite_differences():
    decode, z = decoder(), torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double()
    v = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)).double()
    weight = decode[2].weight
    (found,) = torch.autograd.grad(distortion(decode, z, v), weight)
    step = 1e-6 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        ahead = distortion(decode, z, v)
        weight += step
        change = distortion(decode, z, v) - ahead
    assert (found * step).sum().item() == pytest.approx(change.item(), rel=1e-3)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_validation_measures_the_same(mode):
    model = small_model(AE, penalty=Isometric(0.1))
    z, prior = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    trained = model.penalty(z, prior)
    with mode():
        measured = model.penalty(z.clone(), prior)
    torch.testing.assert_close(measured, trained.detach())
    assert trained.requires_grad
    assert not measured.requires_grad


def test_it_makes_a_decoder_isometric():
    decode, penalty = decoder(), Isometric(lam=1.0)
    penalty.attach(decode)
    z = torch.randn(64, 3, generator=torch.Generator().manual_seed(0)).double()
    before = spectra(decode, z)
    optimizer = torch.optim.Adam(decode.parameters(), lr=3e-3)
    for step in range(400):
        prior = torch.randn(64, 3, generator=torch.Generator().manual_seed(step)).double()
        optimizer.zero_grad()
        penalty(z, prior).backward()
        optimizer.step()
    after = spectra(decode, z)
    relative = [(values.std() / values.mean()).item() for values in (before, after)]
    assert relative[1] < 0.3 < relative[0]


def test_it_looks_between_codes_and_beyond():
    seen: list[Tensor] = []
    penalty = Isometric(lam=1.0, beyond=0.5)
    penalty.attach(lambda z: seen.append(z.detach()) or 2 * z)
    z = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).repeat_interleave(500, 0)
    penalty(z, torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)))
    assert seen[0].min() == pytest.approx(-0.5, abs=0.02)
    assert seen[0].max() == pytest.approx(1.5, abs=0.02)


def test_without_a_model_it_says_what_is_missing():
    with pytest.raises(RuntimeError, match="has no decoder; build the model with it"):
        Isometric(lam=1.0)(torch.zeros(4, 2), torch.zeros(4, 2))
