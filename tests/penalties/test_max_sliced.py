"""The max-sliced distance: its directions find the worst one, and pull codes to the prior."""

import math

import ot
import pytest
import torch
from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.functional.normality import normal_quantiles
from interp_lightning.penalties.max_sliced import MaxSliced


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def correlated(n: int) -> Tensor:
    return normal(n, 2, 1) @ torch.tensor([[0.4, 0.3], [0.0, 0.1]]) + torch.tensor([0.5, -1.0])


def learner(d: int, lr: float = 0.02) -> tuple[MaxSliced, torch.optim.Adam]:
    torch.manual_seed(0)
    penalty = MaxSliced(1.0)
    penalty(torch.zeros(2, d), torch.zeros(2, d))
    return penalty, torch.optim.Adam(penalty.parameters(), lr)


def ascend(penalty: MaxSliced, optimizer: torch.optim.Adam, z: Tensor) -> None:
    optimizer.zero_grad()
    sum(penalty.critic_losses(z, z).values(), torch.zeros(())).backward()
    optimizer.step()


def worst(z: Tensor) -> float:
    """The worst of very many directions in two dimensions, by POT."""
    quantiles = normal_quantiles(len(z), z).double().numpy()
    angles = torch.arange(720, dtype=torch.double) * math.pi / 360
    along = z.double() @ torch.stack([angles.cos(), angles.sin()])
    return max(ot.wasserstein_1d(each.numpy(), quantiles, p=2) for each in along.T)


@pytest.mark.parametrize("z", [correlated(200), 1.5 * normal(200, 2, 3), normal(200, 2, 3).sign()])
def test_directions_find_the_worst(z):
    penalty, optimizer = learner(2)
    for _ in range(200):
        ascend(penalty, optimizer, z)
    assert penalty(z, z).item() == pytest.approx(worst(z), rel=1e-3)
    torch.testing.assert_close(penalty.directions.weight.norm(dim=1), torch.ones(32), atol=0.05, rtol=0)


def test_codes_are_pulled_to_the_prior():
    penalty, critic = learner(2, lr=0.01)
    z = correlated(256)
    z[::2] += 1.5  # two clusters
    z.requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.02)
    before = worst(z.detach())
    for _ in range(500):
        ascend(penalty, critic, z.detach())
        optimizer.zero_grad()
        penalty(z, z).backward()
        optimizer.step()
    z = z.detach()
    assert worst(z) < 0.02 < 1 < before
    assert z.mean(0).norm() < 0.2
    torch.testing.assert_close(torch.cov(z.T), torch.eye(2), atol=0.2, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_and_reach_codes_and_directions(dtype):
    for z in (torch.zeros(16, 20), torch.ones(16, 20), normal(2, 20, 0).repeat(8, 1), 1e4 * normal(16, 20, 0)):
        penalty, _ = learner(20)
        z = z.to(dtype).requires_grad_()
        value = penalty(z, z)
        value.backward()
        assert value.dtype == dtype
        assert z.grad is not None
        assert z.grad.isfinite().all()
        assert z.grad.any()
        losses = penalty.critic_losses(z.detach(), z)
        torch.stack([loss.to(dtype) for loss in losses.values()]).sum().backward()
        assert penalty.directions.weight.grad.isfinite().all()


def test_directions_are_counted():
    with pytest.raises(ConfigError, match=r"`penalty.directions` \(=0\) must be ≥ 1"):
        MaxSliced(1.0, directions=0)
