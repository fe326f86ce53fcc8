"""penalty=wasserstein: WWAE, and the W2 half of ACAI + WWAE."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from interp_lightning.config.check import check
from interp_lightning.errors import ConfigError
from interp_lightning.functional.divergences import gaussian_w2
from interp_lightning.parameters import check_integer
from interp_lightning.penalties.base import Penalty


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
        self.queue = self.known = torch.empty(0)  # past codes, (queue, d), the latest last; which there are, (queue, 1)

    mean: Tensor | None
    factor: Tensor | None

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        self._check_shapes(*z.shape)
        n = len(z)
        # float64: the three traces cancel when the distributions are close.
        z = z.double()
        finite = z.isfinite().all()  # stays on its device: to look at it the host would have to wait
        usable = z.masked_fill(~finite, 0.0)  # an SVD would not survive other codes, nor what is remembered
        population, known = usable, torch.ones_like(usable[:, :1])
        if remember := self.training and self.queue_size > 0:
            self._make_room(usable)
            population, known = torch.cat([self.queue, population]), torch.cat([self.known, known])
        value = gaussian_w2(population, known, self.mean, self.factor)

        if remember:
            # In place, as a recorded step finds them where they were.
            self.queue.copy_(torch.where(finite, population.detach()[n:], self.queue))
            self.known.copy_(torch.where(finite, known[n:], self.known))
            value = value + (known.sum() / n - 1) * (
                value - value.detach()
            )  # the same value, total/n times the gradient
        return value + z.sum() * torch.zeros_like(value).masked_fill(~finite, torch.nan)

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
        return self.queue[self.known.flatten() > 0]

    def set_extra_state(self, state: Tensor) -> None:
        self.queue = state[max(0, len(state) - self.queue_size) :].clone()
        self.known = state.new_ones(len(self.queue), 1)

    def _make_room(self, z: Tensor) -> None:
        """Have as many rows to remember codes like z in as there are to be, zeros where there are no codes yet."""
        if len(self.queue) != self.queue_size or self.queue.device != z.device:
            missing = self.queue_size - len(self.queue)
            self.queue = torch.cat([z.new_zeros(missing, z.shape[1]), self.queue.to(z).reshape(-1, z.shape[1])])
            self.known = torch.cat([z.new_zeros(missing, 1), self.known.to(z).reshape(-1, 1)])

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
