"""The objective of an autoencoder: a pass, its losses, the penalty and the draws they need."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from interp_lightning.networks.base import Network
from interp_lightning.paths.base import Path, equidistant, ready
from interp_lightning.paths.speed import at_constant_speed, samples
from interp_lightning.penalties.base import Penalty
from interp_lightning.steps.distributed import gather, shard
from interp_lightning.steps.players import TwoPlayers, log_images

LAZY_CODES = 64  # for the first call of lazy layers


@dataclass(frozen=True)
class Pass:
    """One pass of a batch through the model. A model that needs more extends it."""

    x: Tensor  # (B, C, H, W) images in [−1, 1]
    z: Tensor  # (B, d) codes
    x_hat: Tensor  # (B, C, H, W) reconstructions
    prior: Tensor  # (N, d) draws of the prior, one per code of the global batch

    def detach(self) -> Self:
        """Return the pass as the critic player sees it: the same values, without their graph."""
        return type(self)(**{field.name: getattr(self, field.name).detach() for field in fields(self)})


class Autoencoder(TwoPlayers):
    """Encoder and decoder against a critic; a model states its objective in three methods.

    The autoencoder player owns encoder and decoder. The critic player owns every other parameter, including those of
    the penalty.

    Args:
        network: recipe for the parts.
        penalty: D(Q_z, P_z).
        optimizer, schedule, guard, clip, seed: see `TwoPlayers`.
    """

    def __init__(self, network: Network, penalty: Penalty, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder = network.encoder()
        self.decoder = network.decoder()
        self.penalty = penalty
        self.latent_dim = network.latent_dim
        self._materialise_penalty()

    @abstractmethod
    def forward(self, x: Tensor) -> Pass:
        """Images (B, C, H, W) → everything that the losses need."""

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [−1, 1] → codes (B, d)."""
        return self.encoder(x)

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

    def draw_alpha(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw the global batch's mixing coefficients α ~ U[0, ½] and return the n of this device: (n,)."""
        devices = self.devices
        return self.draw(lambda generator: self._own(0.5 * torch.rand(n * devices, generator=generator)), generator)

    def divergence(self, p: Pass) -> Tensor:
        """Compute D(Q_z, P_z) of the global batch, unweighted, in full precision: ()."""
        with torch.autocast(p.z.device.type, enabled=False):
            return self.penalty(*self._codes_and_prior(p))

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
        own = {id(parameter) for parameter in (*self.encoder.parameters(), *self.decoder.parameters())}
        penalty = [parameter for parameter in self.penalty.parameters() if parameter.requires_grad]
        own_or_penalty = own | {id(parameter) for parameter in self.penalty.parameters()}
        critic = [each for each in self.parameters() if id(each) not in own_or_penalty and each.requires_grad]

        groups: list[dict[str, Any]] = [{"params": critic}] if critic else []
        if penalty:
            groups.append({"params": penalty} | ({} if self.penalty.lr is None else {"lr": self.penalty.lr}))
        return [{"params": [*self.encoder.parameters(), *self.decoder.parameters()]}], groups

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        p = self(batch[0])
        losses = {f"val/autoencoder/{name}": loss for name, loss in self.autoencoder_losses(p).items()}
        # The penalty of draws of the prior itself, in a batch of this size: the value to compare with.
        fresh = self.draw_prior(2 * len(p.x), self.generator())[len(p.x) :]
        baseline = self.divergence(replace(p, z=fresh))
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
        z = p.z if p.z.dtype == torch.float64 else p.z.float()
        return gather(z) if self.devices > 1 else z, p.prior.to(z)

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
