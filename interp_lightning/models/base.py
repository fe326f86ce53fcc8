"""The objective of an autoencoder: a pass, its losses, the penalty and the draws they need."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor
from torch.nn.parameter import Parameter, is_lazy

from interp_lightning.errors import ConfigError
from interp_lightning.networks.base import Network
from interp_lightning.paths.base import Path, equidistant, ready
from interp_lightning.paths.speed import at_constant_speed, samples
from interp_lightning.penalties.base import Penalty
from interp_lightning.steps.distributed import gather, shard
from interp_lightning.steps.players import PLAYERS, TwoPlayers, log_images

LAZY_CODES = 64  # for the first call of lazy layers


@dataclass(frozen=True)
class Pass:
    """One pass of a batch through the model. A model that needs more extends it."""

    x: Tensor  # (B, C, H, W) images in [−1, 1]
    z: Tensor  # (B, d) codes
    x_hat: Tensor  # (B, C, H, W) reconstructions
    prior: Tensor  # (N, d) draws of the prior, one per code of the global batch
    mean: Tensor | None = field(default=None, kw_only=True)  # (B, d) of a Gaussian posterior, which z is drawn from
    variance: Tensor | None = field(default=None, kw_only=True)  # (B, d) of its dimensions

    def detach(self) -> Self:
        """Return the pass as the critic player sees it: the same values, without their graph."""
        tensors = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(self, **{name: value.detach() for name, value in tensors.items() if value is not None})

    def with_codes(self, z: Tensor) -> Self:
        """Return the pass with other codes (B, d), which no posterior has drawn."""
        return replace(self, z=z, mean=None, variance=None)


class Autoencoder(TwoPlayers):
    """Encoder and decoder against a critic; a model states its objective in three methods.

    The autoencoder player owns the parts in `autoencoder_parts`, the critic player those in `critic_parts`, and the
    penalty. A model that has other parameters is refused.

    Args:
        network: recipe for the parts.
        penalty: D(Q_z, P_z).
        posterior: "point" encodes an image to one code. "gaussian" encodes it to the mean and the variances of
            independent Gaussians, which codes are drawn from in training; everything else uses the mean (Tolstikhin et
            al. 2017, section 2; Kingma and Welling 2013, section 3).
        optimizer, schedule, guard, clip, seed: see `TwoPlayers`.
    """

    autoencoder_parts: ClassVar[tuple[str, ...]] = ("encoder", "decoder")  # names of attributes
    critic_parts: ClassVar[tuple[str, ...]] = ()
    takes_penalty: ClassVar[bool] = True  # its codes can be compared to a prior

    def __init__(
        self, network: Network, penalty: Penalty, posterior: Literal["point", "gaussian"] = "point", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.posterior = posterior
        self.encoder = network.encoder() if posterior == "point" else network.gaussian_encoder()
        self.decoder = network.decoder()
        self.penalty = penalty
        self.latent_dim = network.latent_dim
        penalty.attach(self.decode)
        self._materialise_penalty()

    @abstractmethod
    def forward(self, x: Tensor) -> Pass:
        """Images (B, C, H, W) → everything that the losses need."""

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [−1, 1] → codes (B, d), the means of Gaussian posteriors."""
        codes = self.encoder(x)
        return codes if self.posterior == "point" else codes[:, : self.latent_dim]

    def embed(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Encode images (B, C, H, W) for a pass: its `z`, and `mean` and `variance` of a Gaussian posterior.

        In training `z` is a draw of the posterior, in evaluation its mean.
        """
        codes = self.encoder(x)
        if self.posterior == "point":
            return {"z": codes}
        mean, log_variance = codes.chunk(2, 1)
        posterior = {"mean": mean, "variance": log_variance.exp()}
        if not self.training:
            return {"z": mean, **posterior}
        return {"z": mean + (0.5 * log_variance).exp() * self.draw_noise(mean.shape, generator), **posterior}

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, d) → images (B, C, H, W)."""
        return self.decoder(z)

    def interpolate(
        self,
        x_a: Tensor,
        x_b: Tensor,
        steps: int,
        how: str | Path = "lerp",
        look: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Decode paths from x_a to x_b, (B, C, H, W) each → (B, steps, C, H, W), with both ends reconstructed.

        Args:
            x_a, x_b: images in [−1, 1].
            steps: points on each path, at least 2.
            how: the kind of path: the name of a file in conf/path, or a path, fitted if it must be.
            look: what codes look like, (n, d) → (n, f): frames then look equally far apart. None keeps the path's
                own speed.

        Raises:
            ConfigError: `steps` is below 2, or `how` is unknown or must be fitted first.
        """
        z_a, t = self.encode(x_a), equidistant(steps, x_a)
        course = ready(how).between(z_a, self.encode(x_b))
        if look is not None:
            course = at_constant_speed(course, look, samples(steps, z_a))
        codes = course(t)
        return self.decode(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])

    def draw_prior(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw from the prior n times per device, for all devices: (n · devices, d)."""
        shape = (n * self.devices, self.latent_dim)
        return self.penalty.prior(self.draw(lambda generator: torch.randn(shape, generator=generator), generator))

    def draw_noise(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Draw standard normal noise for the global batch and return this device's, of this shape."""
        whole = (shape[0] * self.devices, *shape[1:])
        return self.draw(lambda generator: self._own(torch.randn(whole, generator=generator)), generator)

    def draw_uniform(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Draw numbers in [0, 1) for the global batch and return this device's, of this shape."""
        whole = (shape[0] * self.devices, *shape[1:])
        return self.draw(lambda generator: self._own(torch.rand(whole, generator=generator)), generator)

    def divergence(self, p: Pass) -> Tensor:
        """Compute D(Q_z, P_z) of the global batch, unweighted, in full precision: ()."""
        with torch.autocast(p.z.device.type, enabled=False):
            z, prior = self._codes_and_prior(p)
            if p.mean is None or p.variance is None:
                return self.penalty(z, prior)
            mean, variance = self._gathered(p.mean), self._gathered(p.variance)
            if not self.training:  # z is the mean; draws of the prior come first
                noise = self.draw_noise((2 * len(z), self.latent_dim), self.generator())[len(z) :]
                z = z + variance.sqrt() * noise.to(z)
            return self.penalty.of_gaussians(z, prior, mean, variance)

    def penalty_critic_losses(self, p: Pass) -> dict[str, Tensor]:
        """Return the losses of the penalty's parameters, in full precision."""
        with torch.autocast(p.z.device.type, enabled=False):
            return self.penalty.critic_losses(*self._codes_and_prior(p))

    def critic_predictions(self, p: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """Return each critic's predictions and targets, (M,) each, by critic name."""
        with torch.autocast(p.z.device.type, enabled=False):
            return self.penalty.critic_predictions(*self._codes_and_prior(p))

    def check(self, batch_size: int) -> None:
        """Raise ConfigError if the model cannot train on global batches of that many images."""
        self.penalty.check(batch_size, self.latent_dim)

    def parameter_groups(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        owned: dict[str, list[Parameter]] = {player: [] for player in (*PLAYERS, "penalty")}
        owners = dict.fromkeys(self.critic_parts, "critic") | dict.fromkeys(self.autoencoder_parts, "autoencoder")
        for name, parameter in self.named_parameters():
            owner = (owners | {"penalty": "penalty"}).get(name.partition(".")[0])
            if owner is None and parameter.requires_grad:
                kind = type(self).__name__
                raise ConfigError(
                    f"`{kind}.{name}` belongs to no player; name its part in {kind}.autoencoder_parts "
                    f"(={self.autoencoder_parts}) or {kind}.critic_parts (={self.critic_parts})"
                )
            if owner == "autoencoder" or (owner and parameter.requires_grad):
                owned[owner].append(parameter)

        groups: list[dict[str, Any]] = [{"params": owned["critic"]}] if owned["critic"] else []
        if owned["penalty"]:
            groups.append({"params": owned["penalty"]} | ({} if self.penalty.lr is None else {"lr": self.penalty.lr}))
        return [{"params": owned["autoencoder"]}], groups

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        p = self(batch[0])
        losses = {f"val/autoencoder/{name}": loss for name, loss in self.autoencoder_losses(p).items()}
        # The penalty of draws of the prior itself, in a batch of this size: the value to compare with.
        fresh = self.draw_prior(2 * len(p.x), self.generator())[len(p.x) :]
        baseline = self.divergence(p.with_codes(fresh))
        losses |= {"val/penalty/value": self.divergence(p), "val/penalty/baseline": baseline}
        for name, (predicted, target) in self.critic_predictions(p).items():
            error = (predicted - target).square().mean()
            losses[f"val/critic/{name}_explained"] = 1 - error / target.var(correction=0)
            losses[f"val/critic/{name}_spread"] = predicted.std() / target.std()
        self.log_dict(losses, on_epoch=True, batch_size=len(p.x), sync_dist=True)
        log_images(self)

    @torch.no_grad()
    def reconstruction_error(self, x: Tensor) -> float:
        """Return the mean squared error of reconstructions with the current weights, (B, C, H, W) → a number."""
        training = self.training
        self.eval()
        error = (self.decode(self.encode(x)) - x).square().mean().item()
        self.train(training)
        return error

    def _codes_and_prior(self, p: Pass) -> tuple[Tensor, Tensor]:
        """Return codes and draws of the prior of the global batch, in single precision or better: (N, d), (N, d)."""
        z = self._gathered(p.z)
        return z, p.prior.to(z)

    def _gathered(self, codes: Tensor) -> Tensor:
        """Return numbers of the global batch, in single precision or better: (B, d) → (N, d)."""
        codes = codes if codes.dtype == torch.float64 else codes.float()
        return gather(codes) if self.devices > 1 else codes

    def _own(self, batch: Tensor) -> Tensor:
        """Return this device's shard of a global batch."""
        return shard(batch, self.global_rank if self.devices > 1 else 0, self.devices)

    def _materialise_penalty(self) -> None:
        """Initialise the penalty's lazy layers, before an optimizer asks for their parameters."""
        if not any(map(is_lazy, self.penalty.parameters())):
            return
        codes = self.draw_prior(LAZY_CODES, torch.Generator().manual_seed(0))
        self.penalty.eval()
        with torch.no_grad():
            self.penalty(codes, codes)
        self.penalty.train()
