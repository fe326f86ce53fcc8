"""penalty=wasserstein: WWAE, and the W2 half of ACAI + WWAE."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.penalties.base import Penalty
from interp_lightning.rules import check_integer
from interp_lightning.settings import check


class Wasserstein(Penalty):
    """Squared 2-Wasserstein distance between the Gaussians N(z̄, Σ_z) and N(m, S); Zhang et al. 2019.

    W2² = ‖z̄ − m‖² + Tr Σ_z + Tr S − 2 Tr (S^½ Σ_z S^½)^½ (Dowson and Landau 1982; Olkin and Pukelsheim 1982).
    With S = L Lᵀ and the centred codes Z = (z − z̄)/√(n − 1), the last trace is the nuclear norm ‖Z L‖_*. So neither
    covariance nor matrix square root is formed, and the gradient −2·U Vᵀ Lᵀ is bounded for any codes, collapsed or
    fewer than d. https://arxiv.org/abs/1902.09323

    The value is an estimate from n codes, and a biased one: n codes of exactly N(0, I) with n = 64, d = 32 give 5.0
    and are pulled to a variance of 0.83. With a `queue`, the latest codes of earlier batches count as population too,
    which removes most of that; the gradient goes through the current batch, scaled so that its size does not
    depend on the queue's. Only in training mode, as with batch normalisation's statistics.

    Args:
        lam: weight λ.
        mean: the prior's mean m, d numbers; None is 0.
        cov: the prior's covariance S, d × d, symmetric and positive semi-definite; None is I.
        queue: how many past codes to remember.
    """

    def __init__(
        self,
        lam: float,
        mean: Sequence[float] | Tensor | None = None,
        cov: Sequence[Sequence[float]] | Tensor | None = None,
        queue: int = 0,
    ) -> None:
        super().__init__(lam)
        self.queue_size = check("penalty.queue", queue)
        self.register_buffer("mean", None if mean is None else _mean(mean), persistent=False)
        self.register_buffer("factor", None if cov is None else _factor(cov), persistent=False)  # L
        self.queue = torch.empty(0)

    mean: Tensor | None
    factor: Tensor | None

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        self._check_shapes(*z.shape)
        remember = self.training and self.queue_size > 0
        n = len(z)
        if not z.isfinite().all():
            return z.sum() * torch.nan  # which an SVD would not survive, nor what is remembered
        # float64: the three traces cancel when the distributions are close.
        z = z.double()
        population = torch.cat([self.queue.to(z), z]) if remember and len(self.queue) else z
        total = len(population)

        centre = population.mean(0)
        centred = (population - centre) / (total - 1) ** 0.5
        shift = centre if self.mean is None else centre - self.mean
        rooted = centred if self.factor is None else centred @ self.factor  # Z L
        trace = z.shape[1] if self.factor is None else self.factor.square().sum()  # Tr S
        value = shift.square().sum() + centred.square().sum() + trace - 2 * torch.linalg.svdvals(rooted).sum()

        if remember:
            self.queue = population.detach()[-self.queue_size :]
            value = value + (total / n - 1) * (value - value.detach())  # the same value, total/n times the gradient
        return value

    def prior(self, noise: Tensor) -> Tensor:
        self._check_dimension(noise.shape[1])
        draws = noise if self.factor is None else noise @ self.factor.to(noise).T
        return draws if self.mean is None else draws + self.mean.to(noise)

    def check(self, batch_size: int, latent_dim: int) -> None:
        self._check_shapes(batch_size, latent_dim)
        if self.queue_size == 0 and batch_size < 4 * latent_dim:
            warnings.warn(
                f"W2 of {batch_size} codes of {latent_dim} numbers is biased and pulls the codes' variance below the "
                f"prior's; use a batch of at least {4 * latent_dim} or penalty.queue={16 * latent_dim}",
                stacklevel=2,
            )

    def get_extra_state(self) -> Tensor:
        return self.queue

    def set_extra_state(self, state: Tensor) -> None:
        self.queue = state

    def _check_shapes(self, n: int, d: int) -> None:
        check_integer("data.batch_size", n, least=2, way_out="W2 needs the covariance of a batch of codes")
        self._check_dimension(d)

    def _check_dimension(self, d: int) -> None:
        for name, parameter in (("mean", self.mean), ("cov", self.factor)):
            if parameter is not None and len(parameter) != d:
                raise ConfigError(f"`penalty.{name}` is for codes of {len(parameter)} numbers, but `latent_dim` is {d}")


def _mean(mean: Sequence[float] | Tensor) -> Tensor:
    numbers = _numbers(mean)
    if numbers is None or numbers.ndim != 1:
        raise ConfigError(f"`penalty.mean` (={mean}) must be a list of finite numbers, one per latent dimension")
    return numbers


def _factor(cov: Sequence[Sequence[float]] | Tensor) -> Tensor:
    """L with L Lᵀ = cov; from eigenvalues, as Cholesky's refuses a singular covariance."""
    numbers = _numbers(cov)
    if numbers is None or numbers.ndim != 2 or numbers.shape[0] != numbers.shape[1]:
        raise ConfigError(f"`penalty.cov` (={cov}) must be a square matrix of finite numbers, a list of rows")
    values, vectors = torch.linalg.eigh((numbers + numbers.T) / 2)
    tolerance = 1e-8 * numbers.abs().max()
    if (numbers - numbers.T).abs().max() > tolerance or values.min() < -tolerance:
        raise ConfigError(f"`penalty.cov` (={cov}) must be symmetric and positive semi-definite, as a covariance is")
    return vectors * values.clamp_min(0).sqrt()


def _numbers(values: object) -> Tensor | None:
    """Nested lists as a tensor; None if they are not finite numbers in rows of one length, or none at all."""
    try:
        numbers = torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return None
    return numbers if numbers.numel() and numbers.isfinite().all() else None
