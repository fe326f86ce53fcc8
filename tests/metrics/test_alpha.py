"""The test of α: a fresh critic sees what there is to see, and nothing else."""

import torch

from interp_lightning.metrics.alpha import alpha_r2


def mixtures(n: int = 600) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of noise and α of each, which they do not show."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 1, 16, 16, generator=generator).clamp(-1, 1), torch.rand(n, generator=generator) / 2


def test_a_trace_is_found_and_its_absence_is_believed():
    images, alpha = mixtures()
    assert alpha_r2(images, alpha) < 0.1
    traced = images.clone()
    traced[:, :, ::2, ::2] += alpha.view(-1, 1, 1, 1)  # a faint pattern that grows with α
    assert alpha_r2(traced, alpha) > 0.5


def test_it_is_deterministic_and_leaves_the_random_state_alone():
    images, alpha = mixtures(100)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = alpha_r2(images, alpha)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():  # as in an evaluation
        assert alpha_r2(images, alpha) == first
    assert alpha_r2(images, alpha, seed=1) != first
