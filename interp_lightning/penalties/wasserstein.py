"""penalty=wasserstein: WWAE, and the W2 term of ACAI + WWAE."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from interp_lightning.errors import ConfigError
from interp_lightning.functional.divergences import expected_nuclear_norm, gaussian_w2
from interp_lightning.parameters import Natural, check_integer
from interp_lightning.penalties.base import Lam, Penalty
from interp_lightning.system.text import counted


class Wasserstein(Penalty):
    """Squared 2-Wasserstein distance between the Gaussians N(z̄, Σ_z) and N(m, S); Zhang et al. 2019.

    W2² = ‖z̄ − m‖² + Tr Σ_z + Tr S − 2 Tr (S^½ Σ_z S^½)^½ (Dowson and Landau 1982; Olkin and Pukelsheim 1982).
    With S = L Lᵀ and the centred codes Z = (z − z̄)/√(n − 1), the last trace is the nuclear norm ‖Z L‖_*. This form
    needs neither a covariance nor a matrix square root. Its gradient −2·U Vᵀ Lᵀ is bounded for all codes, also for
    collapsed codes and for fewer than d. https://arxiv.org/abs/1902.09323

    The estimate from n codes is biased: 64 codes of exactly N(0, I) with d = 32 give 5.0, and the penalty pulls their
    variance to 0.83. A `queue` adds the latest codes of earlier batches to the population, which removes most of the
    bias. The gradient flows through the current batch only and is scaled so that its size does not depend on the
    queue. Like the statistics of batch normalisation, the queue is used in training mode only.

    Args:
        lam: weight λ.
        mean: mean m of the prior, d numbers; None is 0.
        cov: covariance S of the prior, d × d, symmetric and positive semi-definite; None is the identity.
        queue: number of past codes to remember.
        unbiased: divide the nuclear norm by its mean for as many codes from the prior, and take the codes' share from
            ‖z̄ − m‖². The value is then unbiased for codes from N(z̄, σ² I), also for fewer than d, and is least at
            σ = 1. Requires `queue` = 0 and no `cov`.

    Raises:
        ConfigError: an argument is not allowed by the signature, `cov` is no covariance, the size of `mean` or `cov`
            is not that of the codes, or a batch has fewer than 2 codes.

    Example:
        >>> z = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])  # mean 0, variance 4/3
        >>> round(Wasserstein(lam=0.003)(z, z).item(), 4)  # (√(4/3) − 1)²
        0.0239
    """

    def __init__(
        self,
        lam: Lam,
        mean: Sequence[float] | Tensor | None = None,
        cov: Sequence[Sequence[float]] | Tensor | None = None,
        queue: Natural = 0,
        unbiased: bool = False,
    ) -> None:
        super().__init__(lam)
        if unbiased and (queue or cov is not None):
            other = f"penalty.queue (={queue})" if queue else "penalty.cov"
            way_out = "penalty.queue=0" if queue else "penalty.cov=null"
            raise ConfigError(f"`penalty.unbiased` (=true) excludes {other}; set {way_out}, or penalty.unbiased=false")
        self.queue_size, self.unbiased = queue, unbiased
        self.register_buffer("mean", None if mean is None else _mean(mean), persistent=False)
        self.register_buffer("factor", None if cov is None else _factor(cov), persistent=False)  # L
        # Past codes (queue, d), the latest last, and 1 for each row that holds a code (queue, 1).
        self.queue = self.known = torch.empty(0)

    mean: Tensor | None
    factor: Tensor | None

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return self._value(z)

    def of_gaussians(self, z: Tensor, prior: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Return the divergence of the mixture of the codes' Gaussians, whose covariance is Cov(μ) + mean(diag σ²)."""
        return self._value(z) if self.unbiased else self._value(mean, variance.double().mean(0))

    def _value(self, z: Tensor, spread: Tensor | None = None) -> Tensor:
        """Return W2² of codes (N, d), with variances (d,) that are added to the diagonal of their covariance."""
        self._check_shapes(*z.shape)
        n = len(z)
        # float64: the three traces cancel when the distributions are close.
        z = z.double()
        finite = z.isfinite().all()  # on the device, without a host sync
        if spread is not None:
            finite = finite & spread.isfinite().all()
            spread = spread.masked_fill(~finite, 1.0)
        usable = z.masked_fill(~finite, 0.0)  # NaN would break the SVD and stay in the queue
        population, known = usable, torch.ones_like(usable[:, :1])
        if remember := self.training and self.queue_size > 0:
            self._make_room(usable)
            population, known = torch.cat([self.queue, population]), torch.cat([self.known, known])
            if spread is not None:  # its gradient is that of the batch already, and is multiplied below
                spread = spread.detach() + n / known.sum() * (spread - spread.detach())
        nuclear = expected_nuclear_norm(*z.shape) if self.unbiased else None
        value = gaussian_w2(population, known, self.mean, self.factor, spread, nuclear)

        if remember:
            # In place, because a replayed CUDA graph finds them at their old address.
            self.queue.copy_(torch.where(finite, population.detach()[n:], self.queue))
            self.known.copy_(torch.where(finite, known[n:], self.known))
            # The same value with total/n times the gradient.
            value = value + (known.sum() / n - 1) * (value - value.detach())
        return value + z.sum() * torch.zeros_like(value).masked_fill(~finite, torch.nan)

    def prior(self, noise: Tensor) -> Tensor:
        self._check_dimension(noise.shape[1])
        draws = noise if self.factor is None else noise @ self.factor.to(noise).T
        return draws if self.mean is None else draws + self.mean.to(noise)

    def check(self, batch_size: int, latent_dim: int) -> None:
        self._check_shapes(batch_size, latent_dim)
        if self.queue_size == 0 and not self.unbiased and batch_size < 4 * latent_dim:
            warnings.warn(
                f"W2 of {batch_size} codes of {latent_dim} numbers is biased and pulls the codes' variance below the "
                f"prior's; use a batch of at least {4 * latent_dim}, penalty.queue={16 * latent_dim} or "
                "penalty.unbiased=true",
                stacklevel=2,
            )

    def get_extra_state(self) -> Tensor:
        return self.queue[self.known.flatten() > 0]

    def set_extra_state(self, state: Tensor) -> None:
        self.queue = state[max(0, len(state) - self.queue_size) :].clone()
        self.known = state.new_ones(len(self.queue), 1)

    def _make_room(self, z: Tensor) -> None:
        """Give the queue all of its rows, of codes like z; rows without a code are 0."""
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
                raise ConfigError(
                    f"`penalty.{name}` is for codes of {counted(len(parameter), 'number')}, but `latent_dim` is {d}"
                )


def _mean(mean: Sequence[float] | Tensor) -> Tensor:
    numbers = _numbers(mean)
    if numbers is None or numbers.ndim != 1:
        raise ConfigError(f"`penalty.mean` (={mean}) must be a list of finite numbers, one per latent dimension")
    return numbers


def _factor(cov: Sequence[Sequence[float]] | Tensor) -> Tensor:
    """Return L with L Lᵀ = cov, from eigenvalues, because Cholesky's method fails for a singular covariance."""
    numbers = _numbers(cov)
    if numbers is None or numbers.ndim != 2 or numbers.shape[0] != numbers.shape[1]:
        raise ConfigError(f"`penalty.cov` (={cov}) must be a square matrix of finite numbers, a list of rows")
    values, vectors = torch.linalg.eigh((numbers + numbers.T) / 2)
    tolerance = 1e-8 * numbers.abs().max()
    if (numbers - numbers.T).abs().max() > tolerance or values.min() < -tolerance:
        raise ConfigError(f"`penalty.cov` (={cov}) must be symmetric and positive semi-definite; use a covariance")
    return vectors * values.clamp_min(0).sqrt()


def _numbers(values: object) -> Tensor | None:
    """Return nested lists as a tensor; None if they are empty, not finite, or have rows of different lengths."""
    try:
        numbers = torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return None
    return numbers if numbers.numel() and numbers.isfinite().all() else None
