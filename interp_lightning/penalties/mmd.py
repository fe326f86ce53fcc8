"""penalty=mmd: WAE-MMD."""

from collections.abc import Sequence

from torch import Tensor

from interp_lightning.config.check import check
from interp_lightning.functional.divergences import SCALES, mmd
from interp_lightning.parameters import check_integer
from interp_lightning.penalties.base import Penalty


class MMD(Penalty):
    """Maximum mean discrepancy, the unbiased estimator; Tolstikhin et al. 2017, algorithm 2.

    MMD² = mean_{i≠j} k(z_i, z_j) + mean_{i≠j} k(p_i, p_j) − 2 mean_{i,j} k(z_i, p_j), summed over scales s, with
    C = 2·d·σ²·s and k = C / (C + ‖·‖²) (imq) or exp(−‖·‖² / C) (rbf). Being unbiased it is negative about half of
    the time when the distributions agree. https://arxiv.org/abs/1711.01558, Gretton et al. 2012, lemma 6.

    Args:
        lam: weight λ.
        kernel: "imq" or "rbf".
        sigma: the prior's standard deviation, which sets the kernel's width; > 0.
        scales: the multiples s of that width.
    """

    def __init__(
        self,
        lam: float,
        kernel: str = "imq",
        sigma: float = 1.0,
        scales: Sequence[float] = SCALES,
    ) -> None:
        super().__init__(lam)
        self.kernel = check("penalty.kernel", kernel)
        self.sigma = check("penalty.sigma", sigma)
        self.scales = check("penalty.scales", scales)

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        self.check(min(len(z), len(prior)), z.shape[1])
        return mmd(z, prior, self.kernel, self.sigma, self.scales)

    def check(self, batch_size: int, latent_dim: int) -> None:
        check_integer("data.batch_size", batch_size, least=2, way_out="MMD compares pairs of codes")
