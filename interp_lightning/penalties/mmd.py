"""penalty=mmd: WAE-MMD."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from interp_lightning.functional.divergences import SCALES, mmd
from interp_lightning.parameters import Positive, WayOut, check_integer
from interp_lightning.penalties.base import Lam, Penalty


class MMD(Penalty):
    """Maximum mean discrepancy, the unbiased estimator; Tolstikhin et al. 2017, algorithm 2.

    MMD² = mean_{i≠j} k(z_i, z_j) + mean_{i≠j} k(p_i, p_j) − 2 mean_{i,j} k(z_i, p_j), summed over scales s, with
    C = 2·d·σ²·s and k = C / (C + ‖·‖²) (imq) or exp(−‖·‖² / C) (rbf). If the distributions agree, the unbiased estimate
    is negative about half of the time. https://arxiv.org/abs/1711.01558; Gretton et al. 2012, lemma 6.

    Args:
        lam: weight λ.
        kernel: inverse multiquadratic or Gaussian.
        sigma: standard deviation of the prior, which sets the width of the kernel.
        scales: multiples s of that width.

    Raises:
        ConfigError: an argument is not allowed by the signature, or a batch has fewer than 2 codes.

    Example:
        >>> import torch
        >>> prior = torch.randn(64, 2)
        >>> penalty = MMD(lam=0.03)
        >>> bool(penalty(prior + 3, prior) > penalty(prior, prior))
        True
    """

    def __init__(
        self,
        lam: Lam,
        kernel: Literal["imq", "rbf"] = "imq",
        sigma: Annotated[Positive, WayOut("1 fits a standard normal prior")] = 1.0,
        scales: Annotated[Sequence[Positive], Field(min_length=1)] = SCALES,
    ) -> None:
        super().__init__(lam)
        self.kernel = kernel
        self.sigma = sigma
        self.scales = scales

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        self.check(min(len(z), len(prior)), z.shape[1])
        return mmd(z, prior, self.kernel, self.sigma, self.scales)

    def check(self, batch_size: int, latent_dim: int) -> None:
        check_integer("data.batch_size", batch_size, least=2, way_out="MMD compares pairs of codes")
