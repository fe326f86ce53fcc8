"""Distances between distributions of codes: penalties minimise them, metrics report them."""

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp_lightning.functional import devices

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
PAIRS = 2**19  # at a time: fits into a CPU's cache, also with a whole test set
AT_ONCE = 1_000  # draws of a matrix
LEAST = 1e-7  # smallest singular value that `polar_factor` resolves, relative to the Frobenius norm


def mmd(
    z: Float[Tensor, "N d"],
    prior: Float[Tensor, "M d"],
    kernel: str = "imq",
    sigma: float = 1.0,
    scales: Sequence[float] = SCALES,
) -> Float[Tensor, ""]:
    """Estimate the squared maximum mean discrepancy without bias; Gretton et al. 2012, lemma 6.

    MMD² = mean_{i≠j} k(z_i, z_j) + mean_{i≠j} k(p_i, p_j) − 2 mean_{i,j} k(z_i, p_j), summed over scales s, with
    C = 2·d·σ²·s and k = C / (C + ‖·‖²) (imq) or exp(−‖·‖² / C) (rbf).

    Args:
        z: codes, N ≥ 2.
        prior: draws of the prior, M ≥ 2.
        kernel: "imq" or "rbf".
        sigma: the prior's standard deviation, > 0.
        scales: the multiples s of the kernel's width.

    Returns:
        The estimate, which is negative about half of the time when the distributions agree.

    Example:
        >>> z = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
        >>> bool(mmd(z, z + 3) > mmd(z, z + 1) > 0)
        True
    """
    n, m = len(z), len(prior)
    # k(z_i, z_i) is a constant that carries no gradient: subtracting the diagonal leaves the mean over i ≠ j.
    k_zz = (_kernel(z, z, kernel, sigma, scales) - len(scales) * n) / (n * (n - 1))
    k_pp = (_kernel(prior, prior, kernel, sigma, scales) - len(scales) * m) / (m * (m - 1))
    return k_zz + k_pp - 2 * _kernel(z, prior, kernel, sigma, scales) / (n * m)


def _kernel(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], kernel: str, sigma: float, scales: Sequence[float]
) -> Float[Tensor, ""]:
    """Sum k over all pairs and scales."""
    rows = max(1, PAIRS // len(b))
    if a is not b:
        return torch.stack([_block(part, b, kernel, sigma, scales) for part in a.split(rows)]).sum()
    total = a.new_zeros(())
    for part in a.split(rows):
        a = a[len(part) :]
        total = total + _block(part, part, kernel, sigma, scales)
        if len(a):  # these pairs come twice: the kernel is symmetric
            total = total + 2 * _block(part, a, kernel, sigma, scales)
    return total


def _block(
    a: Float[Tensor, "n d"], b: Float[Tensor, "m d"], kernel: str, sigma: float, scales: Sequence[float]
) -> Float[Tensor, ""]:
    """Sum k over pairs few enough to be held at a time."""
    squared = squared_distances(a, b)
    total = a.new_zeros(())
    for scale in scales:
        c = 2 * a.shape[1] * sigma**2 * scale
        total = total + (c / (c + squared) if kernel == "imq" else torch.exp(-squared / c)).sum()
    return total


def squared_distances(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Return ‖aᵢ − bⱼ‖², at least 0 also where rounding would make it negative.

    Example:
        >>> squared_distances(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0]]))
        tensor([[9.],
                [4.]])
    """
    return (a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T).clamp_min(0)


def gaussian_w2(
    z: Float[Tensor, "N d"],
    known: Float[Tensor, "N 1"] | None = None,
    mean: Float[Tensor, " d"] | None = None,
    factor: Float[Tensor, "d d"] | None = None,
    spread: Float[Tensor, " d"] | None = None,
    nuclear: float | None = None,
) -> Float[Tensor, ""]:
    """Compute the squared 2-Wasserstein distance of the codes' Gaussian N(z̄, Σ_z) to N(m, S), S = L Lᵀ.

    W2² = ‖z̄ − m‖² + Tr Σ_z + Tr S − 2 ‖Z L‖_*, with the centred codes Z = (z − z̄)/√(n − 1): neither covariance nor
    matrix square root is formed. Dowson and Landau 1982; Zhang et al. 2019, https://arxiv.org/abs/1902.09323.

    Args:
        z: codes, N ≥ 2, in double precision: the three traces cancel when the distributions are close.
        known: 1 for codes that count, else 0; None counts all.
        mean: m; None is 0.
        factor: L; None is I.
        spread: variances s ≥ 0 that are added to the diagonal of Σ_z, of codes that are themselves Gaussian: the mean
            of their own. Then ‖Z L‖_* is that of Z above diag(√s), as Zᵀ Z + diag(s) is the whole covariance.
        nuclear: the mean of ‖Z L‖_* for N codes from N(m, S), which is below Tr S; see `expected_nuclear_norm`. The
            norm is then divided by it and multiplied by Tr S, and Tr Σ_z / N is taken from ‖z̄ − m‖². So the mean is 0
            for codes from N(m, S), and d·(σ − 1)² for those from N(0, σ² I) if S = I. None keeps the bias.

    Example:
        >>> z = torch.tensor([[-1.0], [1.0]], dtype=torch.double)  # mean 0, variance 2
        >>> round(gaussian_w2(z).item(), 6), round((2**0.5 - 1) ** 2, 6)
        (0.171573, 0.171573)
    """
    known = torch.ones_like(z[:, :1]) if known is None else known
    total = known.sum()
    centre = z.sum(0) / total
    centred = known * (z - centre) / (total - 1).sqrt()
    shift = (centre if mean is None else centre - mean).square().sum()
    if spread is not None:
        centred = torch.cat([centred, spread.sqrt().diag()])
    rooted = centred if factor is None else centred @ factor  # Z L
    trace = z.shape[1] if factor is None else factor.square().sum()  # Tr S
    norm, variance = nuclear_norm(rooted), centred.square().sum()
    if nuclear is not None:
        norm, shift = norm * (trace / nuclear), shift - variance / total
    return shift + variance + trace - 2 * norm


@functools.cache
def expected_nuclear_norm(n: int, d: int) -> float:
    """Return the mean nuclear norm of the centred codes Z = (z − z̄)/√(n − 1), z ~ N(0, I), over many draws.

    It is below d, most where n is small: 0.93·d for n = 4d.

    Example:
        >>> round(expected_nuclear_norm(4_000, 2), 2), round(expected_nuclear_norm(64, 16) / 16, 2)
        (2.0, 0.97)
    """
    # On the host, where an SVD is no wait for a GPU. The relative error of the mean is below 0.001.
    generator = np.random.default_rng(0)
    draws = 4 + 1_000_000 // (n * d)
    total = 0.0
    for part in range(0, draws, AT_ONCE):
        z = generator.standard_normal((min(AT_ONCE, draws - part), n, d))
        total += np.linalg.svd(z - z.mean(1, keepdims=True), compute_uv=False).sum()
    return float(total / draws / math.sqrt(n - 1))


def gaussian_kl(mean: Float[Tensor, "B d"], variance: Float[Tensor, "B d"]) -> Float[Tensor, " B"]:
    """Compute KL(N(mean, diag variance) ‖ N(0, I)) of each row; Kingma and Welling 2013, appendix B.

    Source: https://arxiv.org/abs/1312.6114.

    Example:
        >>> gaussian_kl(torch.tensor([[0.0, 2.0]]), torch.ones(1, 2))
        tensor([2.])
    """
    return 0.5 * (mean.square() + variance - 1 - variance.log()).sum(1)


def nuclear_norm(a: Float[Tensor, "N d"]) -> Float[Tensor, ""]:
    """Sum the singular values; the gradient is the polar factor U Vᵀ.

    On a CPU by an SVD. On a GPU an SVD would be a host sync, so there the sum is ⟨U Vᵀ, a⟩.

    Example:
        >>> nuclear_norm(torch.diag(torch.tensor([3.0, 4.0])))
        tensor(7.)
    """
    return (polar_factor(a.detach()) * a).sum() if devices.runs_ahead(a.device) else torch.linalg.svdvals(a).sum()


def polar_factor(a: Float[Tensor, "N d"]) -> Float[Tensor, "N d"]:
    """Compute U Vᵀ of a = U S Vᵀ by matrix products only; singular values below LEAST end below 1.

    The Newton–Schulz iteration X ← ρ/2 · X (3 − ρ² Xᵀ X) drives singular values to 1. If they lie in [l, 1], the best
    scaling is ρ² = 3/(1 + l + l²), which maps l and 1 to the same value (Chen and Chow 2014, "A stable scaling of
    Newton–Schulz"). Each step multiplies small ones by 2.6; l is known in advance, so there are always 22 steps.
    """
    x = a / a.norm().clamp_min(torch.finfo(a.dtype).tiny)
    if wide := a.shape[0] < a.shape[1]:
        x = x.T
    least = LEAST
    while least < 1 - 1e-15:
        rho = math.sqrt(3 / (1 + least + least**2))
        least *= rho / 2 * (3 - (rho * least) ** 2)
        x = torch.addmm(x, x, x.T @ x, beta=1.5 * rho, alpha=-0.5 * rho**3)
    return x.T if wide else x


def gaussian_divergence(z: Float[Tensor, "N d"], blur: float) -> Float[Tensor, ""]:
    """Compute KL(N(z̄, Σ) ‖ N(0, I)) of codes' mean and blurred covariance Σ = (1 − ε)·Σ_z + ε·I.

    It is ½·(‖z̄‖² + Tr Σ − d − log det Σ). The blur keeps it and its gradient finite for collapsed codes and for fewer
    than d. It leaves the minimum where it is.

    Args:
        z: codes, N ≥ 2, in double precision.
        blur: ε in (0, 1].

    Example:
        >>> z = torch.tensor([[1.0], [3.0], [1.0], [3.0]], dtype=torch.double)  # mean 2, variance 4/3
        >>> round(gaussian_divergence(z, 1e-9).item(), 4), round(0.5 * (4 + 4 / 3 - 1 - math.log(4 / 3)), 4)
        (2.0228, 2.0228)
    """
    n, d = z.shape
    centre = z.mean(0)
    centred = z - centre
    identity = torch.ones_like(centre).diag()
    covariance = (1 - blur) / (n - 1) * centred.T @ centred + blur * identity
    return 0.5 * (centre.square().sum() + covariance.diagonal().sum() - d - log_determinant(covariance))


def log_determinant(a: Float[Tensor, "d d"]) -> Float[Tensor, ""]:
    """Return the logarithm of the determinant of a positive definite matrix.

    On a CPU by LAPACK. On a GPU that would be a host sync, so there a row and a column are eliminated at a time.

    Example:
        >>> round(log_determinant(torch.diag(torch.tensor([2.0, 3.0]))).item(), 4), round(math.log(6), 4)
        (1.7918, 1.7918)
    """
    if not devices.runs_ahead(a.device):
        return torch.linalg.slogdet(a).logabsdet
    pivots = []
    for _ in range(len(a)):
        pivot, row = a[0, 0], a[0, 1:]
        pivots.append(pivot)
        a = a[1:, 1:] - row[:, None] * row / pivot
    return torch.stack(pivots).log().sum()
