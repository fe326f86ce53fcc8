"""Measure how well codes match the prior, by the same two numbers for every penalty."""

import torch
from jaxtyping import Float
from torch import Tensor

from interp_lightning.functional.divergences import gaussian_w2, mmd
from interp_lightning.metrics.base import CodesMetric, scores
from interp_lightning.parameters import check_integer

SPLITS = 4
LEAST_W2 = 4  # codes, as each half needs a covariance


def latent_w2(z: Float[Tensor, "n d"], splits: int = SPLITS, seed: int = 0) -> float:
    """Estimate the squared 2-Wasserstein distance of the codes' Gaussian to N(0, I), with bias correction.

    The plug-in value of n codes is too large by c/n to first order. Twice the value of all codes minus the mean value
    of two halves cancels that term (Quenouille 1949). It may be negative when the distributions agree.

    Args:
        z: codes, n ≥ 4; n should be much larger than d.
        splits: random divisions into halves; the correction is their mean.
        seed: of those divisions.

    Example:
        >>> z = torch.randn(10_000, 2, generator=torch.Generator().manual_seed(0))
        >>> abs(latent_w2(z)) < 0.01, round(latent_w2(z + 1), 1)
        (True, 2.0)
    """
    check_integer("the number of codes", len(z), least=LEAST_W2, way_out="use a larger test set")
    half = len(z) // 2
    z = z[: 2 * half].double()
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(len(z), generator=generator).to(z.device) for _ in range(splits)]
    halves = [gaussian_w2(z[part]) for order in orders for part in order.split(half)]
    return (2 * gaussian_w2(z) - torch.stack(halves).mean()).item()


def latent_mmd(z: Float[Tensor, "n d"], seed: int = 0) -> float:
    """Estimate the squared MMD of the codes to as many draws of N(0, I) without bias, by WAE-MMD's IMQ kernels.

    It may be negative when the distributions agree. Source: Tolstikhin et al. 2017, see `functional.divergences.mmd`.

    Args:
        z: codes, n ≥ 2.
        seed: of the draws.
    """
    check_integer("the number of codes", len(z), least=2, way_out="use a larger test set")
    z = z.double()
    prior = torch.randn(z.shape, dtype=z.dtype, generator=torch.Generator().manual_seed(seed)).to(z.device)
    return mmd(z, prior).item()


class LatentMatch(CodesMetric):
    """`latent_w2` and `latent_mmd`, which give protocol and source, of the test codes of all updates on all devices.

    `update` takes codes (n, d) and labels (n,) of a split; `compute` gives {"latent_w2": (), "latent_mmd": ()}, below
    4 codes only "latent_mmd".
    """

    higher_is_better = False

    def compute(self) -> dict[str, Tensor]:
        z = self.whole("test_z")
        match = {"latent_w2": latent_w2(z)} if len(z) >= LEAST_W2 else {}
        return scores(**match, latent_mmd=latent_mmd(z))

    @classmethod
    def missing(cls, classes: int, train: int, test: int) -> dict[str, str]:
        return {"latent_w2": f"{test} test images are too few, it requires {LEAST_W2}"} if test < LEAST_W2 else {}
