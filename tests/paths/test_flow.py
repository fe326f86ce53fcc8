"""Great circles in the noise of a flow."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from interp_lightning.errors import ConfigError, Diverged
from interp_lightning.paths import flow
from interp_lightning.paths.base import Path, Space, Store, named
from interp_lightning.paths.flow import Flow

SMALL = {"batch_size": 64, "width": 32, "depth": 1}


def clusters(n: int = 1_000, apart: float = 6.0) -> Tensor:
    """Codes in two clusters."""
    generator = torch.Generator().manual_seed(1)
    codes = torch.randn(n, 2, generator=generator)
    return codes + apart / 2 * torch.where(torch.arange(n) % 2 == 0, 1.0, -1.0)[:, None] * torch.tensor([1.0, 0.0])


class Memory(Store):
    """Keeps states until it breaks off a training."""

    def __init__(self, states: int = 1_000) -> None:
        self.left, self.state = states, {}

    def load(self, path: Path) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.state.items()}

    def save(self, path: Path, state: dict[str, Tensor]) -> None:
        self.state = {name: value.clone() for name, value in state.items()}
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_samples_have_the_distribution_of_the_codes():
    path = Flow(epochs=60, **SMALL).fit(Space(clusters()))
    codes = path.sample(torch.randn(4_000, 2, generator=torch.Generator().manual_seed(2)))
    right = codes[codes[:, 0] > 0]
    assert 0.4 < len(right) / len(codes) < 0.6
    assert (right.mean(0) - torch.tensor([3.0, 0.0])).abs().max() < 0.3
    assert (codes[:, 0].abs() < 1.0).double().mean() < 0.15  # few between the clusters; 0.25 in a Gaussian as wide


def test_noise_and_codes_are_each_others_inverse():
    path = Flow(epochs=20, ode_steps=40, **SMALL).fit(Space(clusters()))
    codes = clusters(100)
    assert (path.sample(path.noise(codes)) - codes).norm(dim=1).mean() < 0.05


@given(st.integers(0, 100), st.integers(1, 4))
def test_an_untrained_flow_still_leads_from_end_to_end(seed, d):
    z_a, z_b = torch.randn(2, 3, d, generator=torch.Generator().manual_seed(seed))
    points = Flow(epochs=1, ode_steps=1, **SMALL).fit(Space(torch.randn(64, d))).points(z_a, z_b, 5)
    torch.testing.assert_close(points[:, 0], z_a, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(points[:, -1], z_b, atol=1e-4, rtol=1e-4)


def test_an_interrupted_training_resumes_exactly():
    codes, path = clusters(4_000), Flow(epochs=20, **SMALL)  # 1,250 steps: two states on the way, and the end
    whole, broken = Memory(), Memory(states=1)
    expected = path.fit(Space(codes, store=whole)).sample(torch.ones(3, 2))
    with pytest.raises(KeyboardInterrupt):
        path.fit(Space(codes, store=broken))
    assert int(broken.state["step"]) == flow.KEEP_EVERY
    assert torch.equal(path.fit(Space(codes, store=broken)).sample(torch.ones(3, 2)), expected)
    assert {name: value.tolist() for name, value in broken.state.items()} == {
        name: value.tolist() for name, value in whole.state.items()
    }


def test_a_finished_flow_needs_no_codes():
    memory, path = Memory(), Flow(epochs=1, **SMALL)
    expected = path.fit(Space(clusters(), store=memory)).sample(torch.ones(3, 2))

    def encode() -> Tensor:
        raise AssertionError("encoded again")

    assert torch.equal(path.fit(Space(encode, store=memory)).sample(torch.ones(3, 2)), expected)


def test_a_flow_works_where_gradients_are_off():
    codes = clusters()
    with torch.inference_mode():
        path = Flow(epochs=1, **SMALL).fit(Space(lambda: codes + 0))
        assert path.points(codes[:2], codes[2:4], 3).isfinite().all()


def test_a_flow_that_diverges_says_so():
    with pytest.raises(Diverged, match=r"the flow's training has diverged \(loss .* at step \d+\); use a smaller lr"):
        Flow(epochs=40, lr=1e20, **SMALL).fit(Space(clusters()))


def test_one_code_is_too_few():
    with pytest.raises(ConfigError, match=r"number of training codes` \(=1\) must be ≥ 2; use how=lerp"):
        Flow().fit(Space(torch.zeros(1, 2)))


@pytest.mark.parametrize("setting", ["epochs", "batch_size", "width", "depth", "lr", "ode_steps"])
def test_bad_settings_are_refused(setting):
    with pytest.raises(ConfigError, match=rf"`path.{setting}` \(=0\) must be"):
        Flow(**{setting: 0})


def test_the_flow_of_conf_is_slow_and_samples():
    path = named("flow")
    assert (path.how, path.slow, path.samples, path.fits) == ("flow", True, True, True)
