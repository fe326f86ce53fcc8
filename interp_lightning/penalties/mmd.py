"""penalty=mmd: WAE-MMD."""

from collections.abc import Sequence

import torch
from torch import Tensor

from interp_lightning.config.check import check
from interp_lightning.parameters import check_integer
from interp_lightning.penalties.base import Penalty

PAIRS = 2**19  # at a time: few enough to stay in a CPU's cache, with a whole test set


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
        scales: Sequence[float] = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
    ) -> None:
        super().__init__(lam)
        self.kernel = check("penalty.kernel", kernel)
        self.sigma = check("penalty.sigma", sigma)
        self.scales = check("penalty.scales", scales)

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        n, m = len(z), len(prior)
        self.check(min(n, m), z.shape[1])
        # k(z_i, z_i) is a constant that carries no gradient: subtracting the diagonal leaves the mean over i ≠ j.
        k_zz = (self._kernel(z, z) - len(self.scales) * n) / (n * (n - 1))
        k_pp = (self._kernel(prior, prior) - len(self.scales) * m) / (m * (m - 1))
        return k_zz + k_pp - 2 * self._kernel(z, prior) / (n * m)

    def check(self, batch_size: int, latent_dim: int) -> None:
        check_integer("data.batch_size", batch_size, least=2, way_out="MMD compares pairs of codes")

    def _kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """Sum of k over all pairs and scales: (n, d), (m, d) → ()."""
        total = a.new_zeros(())
        for rows in a.split(max(1, PAIRS // len(b))):
            squared = (rows.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * rows @ b.T).clamp_min(0)  # (n, m)
            for scale in self.scales:
                c = 2 * a.shape[1] * self.sigma**2 * scale
                total = total + (c / (c + squared) if self.kernel == "imq" else torch.exp(-squared / c)).sum()
        return total
