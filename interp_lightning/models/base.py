"""Two players taking alternating steps: the only file that touches optimizers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, Self

import lightning as L
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import Optimizer

from interp_lightning import __version__
from interp_lightning.functional import devices
from interp_lightning.networks.base import Network
from interp_lightning.parameters import Configurable, Positive, Seed, WayOut
from interp_lightning.paths.base import path
from interp_lightning.penalties.base import Penalty
from interp_lightning.steps.cuda_graphs import Recorded
from interp_lightning.steps.distributed import everywhere, gather, shard
from interp_lightning.steps.guard import Guard, Turn, skips_by_itself
from interp_lightning.steps.schedules import Constant, Schedule

LAZY_CODES = 64  # that lazy layers see first
TRAINING, EVALUATION = 0, 1  # streams of random numbers
Limit = Annotated[Positive | None, WayOut("use null for no limit")]
COUNTS = ("batches_seen", "images_seen", "epochs_seen")  # that checkpoints hold


@dataclass(frozen=True)
class Pass:
    """One batch's way through the model. A model that needs more extends it."""

    x: Tensor  # (B, C, H, W) images in [−1, 1]
    z: Tensor  # (B, d) codes
    x_hat: Tensor  # (B, C, H, W) reconstructions
    prior: Tensor  # (B, d) draws of the prior, as many as the batch has codes on all devices together

    def detach(self) -> Self:
        """What the critic player sees: the same values, without the graph that made them."""
        return type(self)(**{field.name: getattr(self, field.name).detach() for field in fields(self)})


class Autoencoder(Configurable, L.LightningModule, ABC, group="model", top_level=("guard", "clip", "seed")):
    """Encoder and decoder against a critic, in alternating steps.

    The autoencoder player owns encoder and decoder, the critic player every other parameter, the penalty's
    included. A model whose critic player owns nothing takes one step per batch.

    Args:
        network: recipe for the parts.
        penalty: D(Q_z, P_z).
        optimizer: makes an optimizer from parameter groups, for each player.
        schedule: factor on all learning rates over the run.
        guard: what to do when training diverges, "stop", "skip" or "rollback"; see `Guard`.
        clip: the largest norm of each player's gradient, by "autoencoder" and "critic"; longer ones are scaled down to
            it (Pascanu et al. 2013, section 3.2). None and missing ones are not limited.
        seed: of all random draws; they depend on nothing else but the number of the batch.
    """

    def __init__(
        self,
        network: Network,
        penalty: Penalty,
        optimizer: Callable[..., Optimizer] = torch.optim.Adam,
        schedule: Schedule | None = None,
        guard: Literal["stop", "skip", "rollback"] = "stop",
        clip: Mapping[Literal["autoencoder", "critic"], Limit] | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.encoder = network.encoder()
        self.decoder = network.decoder()
        self.penalty = penalty
        self.latent_dim = network.latent_dim
        self.optimizer = optimizer
        self.schedule = schedule or Constant()
        self.guard = Guard(guard)
        self.clip: Mapping[Any, float | None] = clip or {}
        self.seed = seed
        self.cuda_graphs = False  # whether training steps are recorded and replayed: on one GPU, by fused optimizers
        self.batches_seen = self.images_seen = self.epochs_seen = 0  # in training; only whole epochs count
        self.logs_now = False  # whether this batch's losses are logged: nobody reads each batch's, which take time
        self._recorded: Recorded | None = None
        self._materialise_penalty()

    # The objective, which each model writes whole.

    @abstractmethod
    def forward(self, x: Tensor) -> Pass:
        """Images (B, C, H, W) → everything that the losses need."""

    @abstractmethod
    def autoencoder_losses(self, p: Any) -> dict[str, Tensor]:
        """The weighted terms whose sum encoder and decoder minimise."""

    @abstractmethod
    def critic_losses(self, p: Any) -> dict[str, Tensor]:
        """The terms whose sum every other parameter minimises; p comes detached."""

    # What models and users call.

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [−1, 1] → codes (B, d)."""
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Codes (B, d) → images (B, C, H, W)."""
        return self.decoder(z)

    def interpolate(self, x_a: Tensor, x_b: Tensor, steps: int, how: str = "lerp") -> Tensor:
        """Decoded paths from x_a to x_b, (B, C, H, W) each → (B, steps, C, H, W), both ends reconstructed."""
        codes = path(self.encode(x_a), self.encode(x_b), steps, how)
        return self.decode(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])

    def generator(self) -> torch.Generator:
        """Random numbers for this batch: the same for every device, new in each training step, fixed in evaluation."""
        return self._seeded(torch.Generator())

    def draw_prior(self, n: int, generator: torch.Generator) -> Tensor:
        """n draws of the prior per device, for all devices: (n · devices, d)."""
        shape = (n * self.devices, self.latent_dim)
        return self.penalty.prior(self.draw(lambda generator: torch.randn(shape, generator=generator), generator))

    def draw_alpha(self, n: int, generator: torch.Generator) -> Tensor:
        """This device's n of the global batch's mixing coefficients α ~ U[0, ½]: (n,)."""
        devices, rank = self.devices, self.global_rank if self.devices > 1 else 0
        return self.draw(
            lambda generator: shard(0.5 * torch.rand(n * devices, generator=generator), rank, devices), generator
        )

    def draw(self, make: Callable[[torch.Generator], Tensor], generator: torch.Generator) -> Tensor:
        """Random numbers that `make` makes of a generator of the host's, on this model's device."""
        if self._recorded is not None and self._recorded.under_way:
            return self._recorded.draw(make, generator, self.device)
        return devices.sent(make(generator), self.device)

    def divergence(self, p: Pass) -> Tensor:
        """D(Q_z, P_z) of the global batch, unweighted, in full precision: ()."""
        with torch.autocast(p.z.device.type, enabled=False):
            return self.penalty(*self._codes_and_prior(p))

    def penalty_critic_losses(self, p: Pass) -> dict[str, Tensor]:
        """What the penalty's own parameters minimise, in full precision."""
        with torch.autocast(p.z.device.type, enabled=False):
            return self.penalty.critic_losses(*self._codes_and_prior(p))

    def answers(self, p: Any) -> dict[str, tuple[Tensor, Tensor]]:
        """What each critic says of a batch and what would be right, (M,) each, by its name."""
        with torch.autocast(p.z.device.type, enabled=False):
            return self.penalty.answers(*self._codes_and_prior(p))

    def check(self, batch_size: int) -> None:
        """Raise ConfigError if global batches of that many images cannot be trained on."""
        self.penalty.check(batch_size, self.latent_dim)

    # Lightning's side.

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        self.logs_now = (self.batches_seen + 1) % every == 0 or self.trainer.is_last_batch
        # The step that loggers get, which Lightning itself counts wrongly after some ways to resume.
        self.trainer.fit_loop.epoch_loop._batches_that_stepped = self.batches_seen
        self._set_learning_rates()
        turns = (self._recorded or self._take_turns)(batch[0])
        self.batches_seen += 1
        self.images_seen += len(batch[0]) * self.devices
        self.epochs_seen += int(self.trainer.is_last_batch)
        self.guard.note(self.batches_seen, turns)
        if self.logs_now:
            self.watch()
        elif not devices.runs_ahead(self.device):
            self.guard.look()
        if self.logs_now:
            for turn in turns:
                self.log_dict({f"train/{turn.player}/{name}": turn.numbers[i] for i, name in enumerate(turn.losses)})

    def watch(self) -> None:
        """Answer a divergence on any device: raise Diverged, or have `guard.due` ask for a rollback."""
        self.guard.look()
        reason = self.guard.reason
        if self.devices > 1 and not everywhere(torch.tensor(not reason, device=self.device)):
            reason = reason or "the losses of another device have exploded"
        if reason:
            self.guard.answer(reason)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        p = self(batch[0])
        losses = {f"val/autoencoder/{name}": loss for name, loss in self.autoencoder_losses(p).items()}
        # What draws of the prior itself would score in a batch of this size: the value to compare with.
        fresh = self.draw_prior(2 * len(p.x), self.generator())[len(p.x) :]
        baseline = self.divergence(replace(p, z=fresh))
        losses |= {"val/penalty/value": self.divergence(p), "val/penalty/baseline": baseline}
        for name, (said, right) in self.answers(p).items():
            losses[f"val/critic/{name}_explained"] = 1 - (said - right).square().mean() / right.var(correction=0)
            losses[f"val/critic/{name}_spread"] = said.std() / right.std()
        self.log_dict(losses, on_epoch=True, batch_size=len(p.x), sync_dist=True)

    def configure_optimizers(self) -> list[Optimizer]:
        own = {id(parameter) for parameter in (*self.encoder.parameters(), *self.decoder.parameters())}
        penalty = [parameter for parameter in self.penalty.parameters() if parameter.requires_grad]
        own_or_penalty = own | {id(parameter) for parameter in self.penalty.parameters()}
        critic = [each for each in self.parameters() if id(each) not in own_or_penalty and each.requires_grad]

        groups: list[dict[str, Any]] = [{"params": critic}] if critic else []
        if penalty:
            groups.append({"params": penalty} | ({} if self.penalty.lr is None else {"lr": self.penalty.lr}))
        players = [[{"params": [*self.encoder.parameters(), *self.decoder.parameters()]}], groups]
        optimizers = [self.optimizer(player) for player in players if player]
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["initial_lr"] = group["lr"]
        self._own_settings = [_settings(optimizer) for optimizer in optimizers]
        return optimizers

    def on_train_start(self) -> None:
        # The optimizers get this run's settings, which a checkpoint has replaced by those it was written with.
        for optimizer, groups in zip(self.trainer.optimizers, self._own_settings, strict=True):
            for group, own in zip(optimizer.param_groups, groups, strict=True):
                group.update(own)
                if self.cuda_graphs:
                    group |= {"capturable": True, "lr": torch.tensor(float(group["lr"]), device=self.device)}
        self.guard.start(self.device)
        self._recorded = Recorded(self._take_turns, self._seeded, self._count_steps) if self.cuda_graphs else None

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        player = "autoencoder" if optimizer is self.trainer.optimizers[0] else "critic"
        if (limit := self.clip.get(player)) is not None:
            clip_grad_norm_((p for group in optimizer.param_groups for p in group["params"]), limit)

    def on_train_end(self) -> None:
        self._recorded = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.watch()
        checkpoint |= {name: getattr(self, name) for name in COUNTS}
        checkpoint["guard"] = self.guard.state()
        checkpoint["interp_lightning"] = __version__

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name in COUNTS:
            setattr(self, name, checkpoint[name])
        self.guard.restore(checkpoint["guard"])

    @torch.no_grad()
    def reconstruction_error(self, x: Tensor) -> float:
        """Return the mean squared error of reconstructions by the weights as they are, (B, C, H, W) → a number."""
        training = self.training
        self.eval()
        error = (self.decode(self.encode(x)) - x).square().mean().item()
        self.train(training)
        return error

    def roll_back(self, checkpoint: dict[str, Any]) -> None:
        """Take over the weights and the optimizers' state of a checkpoint, with half the learning rates from now on."""
        self.load_state_dict(checkpoint["state_dict"])
        for optimizer, state in zip(self.trainer.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(state)
        self.guard.rolled_back(checkpoint["guard"])
        self.on_train_start()

    @property
    def devices(self) -> int:
        """How many devices share a batch."""
        return self.trainer.world_size if self._trainer is not None and self.training else 1

    def _players(self) -> tuple[LightningOptimizer, LightningOptimizer | None]:
        optimizers = self.optimizers()
        return (optimizers[0], optimizers[1]) if isinstance(optimizers, list) else (optimizers, None)

    def _take_turns(self, x: Tensor) -> list[Turn]:
        """Both players' steps on a batch of images (B, C, H, W). On a GPU nothing in it waits for it."""
        autoencoder, critic = self._players()
        with self.toggled_optimizer(autoencoder):
            p = self(x)
            turns = [self._step(autoencoder, "autoencoder", self.autoencoder_losses(p))]
        if critic is not None:
            with self.toggled_optimizer(critic):
                turns.append(self._step(critic, "critic", self.critic_losses(p.detach())))
        return turns

    def _step(self, optimizer: LightningOptimizer, player: str, losses: dict[str, Tensor]) -> Turn:
        """Take a step unless the gradient is not finite."""
        values = torch.stack(list(losses.values()))
        optimizer.zero_grad()
        self.manual_backward(values.sum())
        finite = self._finite(optimizer, values)
        skipped = self.guard.skips(finite)
        ahead = devices.runs_ahead(self.device) and self.trainer.precision != "16-mixed"
        if ahead and skips_by_itself(optimizer.optimizer):
            optimizer.optimizer.found_inf = skipped  # type: ignore[attr-defined]
            optimizer.step()
        elif not skipped:
            optimizer.step()
        return Turn(player, tuple(losses), torch.cat([values, finite[None]]).detach())

    def _finite(self, optimizer: LightningOptimizer, losses: Tensor) -> Tensor:
        """Whether all of a gradient is finite: ()."""
        if self.trainer.precision == "16-mixed":  # whose gradients overflow now and then; its scaler leaves those out
            return everywhere(losses.isfinite().all())
        # Gradients, unlike losses, are the same on all devices.
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        # The largest of them tells for certain, where squares overflow; but on a CPU it takes nine times as long.
        if not devices.runs_ahead(self.device) and (finite := get_total_norm(gradients, 2.0).isfinite()):
            return finite
        return get_total_norm(gradients, math.inf).isfinite()

    def _seeded(self, generator: torch.Generator) -> torch.Generator:
        """A generator set up for this batch."""
        stream = (TRAINING, self.batches_seen) if self.training else (EVALUATION, 0)
        key = np.random.SeedSequence([self.seed, *stream]).generate_state(1, np.uint64)[0]
        return generator.manual_seed(int(key))

    def _set_learning_rates(self) -> None:
        factor = self.schedule(self.batches_seen / self.trainer.num_training_batches, self.trainer.max_epochs or 1)
        factor *= self.guard.learning_rate_factor
        for group in (group for optimizer in self.trainer.optimizers for group in optimizer.param_groups):
            rate = factor * group["initial_lr"]
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _count_steps(self) -> None:
        """Let Lightning count the steps of a replay, which does not come by there."""
        for optimizer in self._players():
            if optimizer is not None:
                optimizer._on_before_step()
                optimizer._on_after_step()

    def _codes_and_prior(self, p: Pass) -> tuple[Tensor, Tensor]:
        """The global batch's codes and its draws of the prior, in single precision or better: (N, d), (M, d)."""
        z = p.z if p.z.dtype == torch.float64 else p.z.float()
        return gather(z) if self.devices > 1 else z, p.prior.to(z)

    def _materialise_penalty(self) -> None:
        """Let the penalty's lazy layers see the size of a code, before any optimizer asks for their parameters."""
        if not any(map(is_lazy, self.penalty.parameters())):
            return
        codes = self.draw_prior(LAZY_CODES, torch.Generator().manual_seed(0))
        self.penalty.eval()
        with torch.no_grad():
            self.penalty(codes, codes)
        self.penalty.train()


def _settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """What an optimizer was told, for each group of parameters."""
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
