"""Two players take alternating steps. The only file that touches optimizers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import lightning as L
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import Optimizer

from interp_lightning import __version__
from interp_lightning.functional import devices
from interp_lightning.parameters import Configurable, Positive, Seed, WayOut
from interp_lightning.steps.cuda_graphs import Recorded
from interp_lightning.steps.distributed import everywhere
from interp_lightning.steps.guard import Guard, Turn, skips_by_itself
from interp_lightning.steps.schedules import Constant, Schedule

TRAINING, EVALUATION = 0, 1  # streams of random numbers
Limit = Annotated[Positive | None, WayOut("use null for no limit")]
PLAYERS = ("autoencoder", "critic")
COUNTS = ("batches_seen", "images_seen", "epochs_seen")  # in every checkpoint


class TwoPlayers(Configurable, L.LightningModule, ABC, group="model", top_level=("guard", "clip", "seed")):
    """An autoencoder against a critic, in alternating steps.

    `forward` makes one pass of a batch. The autoencoder player minimises the sum of `autoencoder_losses` of that pass,
    then the critic player the sum of `critic_losses` of the detached pass. A model without critic parameters takes one
    step per batch.

    Args:
        optimizer: makes an optimizer from parameter groups, for each player.
        schedule: factor on all learning rates over the run; None keeps them constant.
        guard: response to divergence: "stop", "skip" or "rollback"; see `Guard`.
        clip: maximum gradient norm of each player, by "autoencoder" and "critic"; a larger gradient is scaled down to
            it (Pascanu et al. 2013, section 3.2). None, or a missing player, means no limit.
        seed: of all random draws. They depend on nothing else but the number of the batch.
    """

    def __init__(
        self,
        optimizer: Callable[..., Optimizer] = torch.optim.Adam,
        schedule: Schedule | None = None,
        guard: Literal["stop", "skip", "rollback"] = "stop",
        clip: Mapping[Literal["autoencoder", "critic"], Limit] | None = None,
        seed: Seed = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.optimizer = optimizer
        self.schedule = schedule or Constant()
        self.guard = Guard(guard)
        self.clip: Mapping[Any, float | None] = clip or {}
        self.seed = seed
        self.cuda_graphs = False  # record and replay training steps: on one GPU, with fused optimizers
        self.batches_seen = self.images_seen = self.epochs_seen = 0  # in training; only whole epochs count
        self.logs_now = False  # log the losses of this batch; logging every batch would cost time
        self._recorded: Recorded | None = None
        self._norms: dict[str, Tensor] = {}  # of the last gradients before they were scaled down, by player

    @abstractmethod
    def autoencoder_losses(self, p: Any) -> dict[str, Tensor]:
        """Return the weighted terms whose sum encoder and decoder minimise."""

    @abstractmethod
    def critic_losses(self, p: Any) -> dict[str, Tensor]:
        """Return the terms whose sum every other parameter minimises; `p` is detached."""

    @abstractmethod
    def parameter_groups(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the optimizer's parameter groups of the autoencoder and of the critic; the latter may be empty."""

    def generator(self) -> torch.Generator:
        """Seed a generator for this batch: equal on all devices, new in each training step, fixed in evaluation."""
        return self._seeded(torch.Generator())

    def draw(self, make: Callable[[torch.Generator], Tensor], generator: torch.Generator) -> Tensor:
        """Return the random numbers that `make` draws from a generator on the host, on this model's device."""
        if self._recorded is not None and self.training:
            return self._recorded.draw(make, generator, self.device)
        return devices.sent(make(generator), self.device)

    @property
    def devices(self) -> int:
        """Number of devices that share a batch."""
        return self.trainer.world_size if self._trainer is not None and self.training else 1

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        self.logs_now = (self.batches_seen + 1) % every == 0 or self.trainer.is_last_batch
        # Lightning counts batches wrongly after some ways to resume, and logs by its count.
        self.trainer.fit_loop.epoch_loop._batches_that_stepped = self.batches_seen
        factor = self.schedule(self.batches_seen / self.trainer.num_training_batches, self.trainer.max_epochs or 1)
        _set_learning_rates(self.trainer.optimizers, factor * self.guard.learning_rate_factor)
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
            log_images(self)
            for turn in turns:
                self.log_dict({f"train/{turn.player}/{name}": turn.numbers[i] for i, name in enumerate(turn.losses)})
            self.log_dict({f"train/gradient_norm/{player}": norm for player, norm in self._norms.items()})
            rates = dict(zip(PLAYERS, self.trainer.optimizers, strict=False))
            self.log_dict({f"train/learning_rate/{name}": each.param_groups[0]["lr"] for name, each in rates.items()})

    def watch(self) -> None:
        """Respond to divergence on any device: raise Diverged, or set `guard.due` to request a rollback."""
        self.guard.look()
        reason = self.guard.reason
        if self.devices > 1 and not everywhere(torch.tensor(not reason, device=self.device)):
            reason = reason or "the losses of another device have exploded"
        if reason:
            self.guard.answer(reason)

    def configure_optimizers(self) -> list[Optimizer]:
        optimizers = [self.optimizer(groups) for groups in self.parameter_groups() if groups]
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["initial_lr"] = group["lr"]
        self._own_settings = [_settings(optimizer) for optimizer in optimizers]
        return optimizers

    def on_train_start(self) -> None:
        # Restore this run's settings of the optimizers: a checkpoint has replaced them by those it was written with.
        for optimizer, groups in zip(self.trainer.optimizers, self._own_settings, strict=True):
            for group, own in zip(optimizer.param_groups, groups, strict=True):
                group.update(own)
                if self.cuda_graphs:
                    group |= {"capturable": True, "lr": torch.tensor(float(group["lr"]), device=self.device)}
        self.guard.start(self.device)
        self._recorded = Recorded(self._take_turns, self._seeded, self._count_steps) if self.cuda_graphs else None

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        player = PLAYERS[optimizer is not self.trainer.optimizers[0]]
        if (limit := self.clip.get(player)) is not None:
            parameters = (p for group in optimizer.param_groups for p in group["params"])
            self._norms[player] = clip_grad_norm_(parameters, limit).detach()

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

    def roll_back(self, checkpoint: dict[str, Any]) -> None:
        """Restore weights and optimizer states of a checkpoint, and halve the learning rates from now on."""
        self.load_state_dict(checkpoint["state_dict"])
        for optimizer, state in zip(self.trainer.optimizers, checkpoint["optimizer_states"], strict=True):
            optimizer.load_state_dict(state)
        self.guard.rolled_back(checkpoint["guard"])
        self.on_train_start()

    def _take_turns(self, x: Tensor) -> list[Turn]:
        """Take both players' steps on a batch of images (B, C, H, W). On a GPU without a host sync."""
        autoencoder, critic = _players(self.optimizers())
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
        scaled = self.trainer.precision == "16-mixed"  # its gradients overflow now and then; its scaler skips those
        ahead = devices.runs_ahead(self.device)
        finite = everywhere(values.isfinite().all()) if scaled else _is_finite(optimizer, ahead)
        skipped = self.guard.skips(finite)
        if ahead and not scaled and skips_by_itself(optimizer.optimizer):
            optimizer.optimizer.found_inf = skipped  # type: ignore[attr-defined]
            optimizer.step()
        elif not skipped:
            optimizer.step()
        return Turn(player, tuple(losses), torch.cat([values, finite[None]]).detach())

    def _seeded(self, generator: torch.Generator) -> torch.Generator:
        """Seed a generator for this batch."""
        stream = (TRAINING, self.batches_seen) if self.training else (EVALUATION, 0)
        key = np.random.SeedSequence([self.seed, *stream]).generate_state(1, np.uint64)[0]
        return generator.manual_seed(int(key))

    def _count_steps(self) -> None:
        """Let Lightning count the steps of a replay, which bypasses its optimizers."""
        for optimizer in _players(self.optimizers()):
            if optimizer is not None:
                optimizer._on_before_step()
                optimizer._on_after_step()


def log_images(model: TwoPlayers) -> None:
    """Let loggers count images with what is logged now: two players take more steps than one, but see as many."""
    images = torch.tensor(model.images_seen, dtype=torch.float64)  # float32 is exact up to 16.8 million only
    model.log("step", images, reduce_fx="max", sync_dist=not model.training)


def _players(optimizers: Any) -> tuple[LightningOptimizer, LightningOptimizer | None]:
    """Return the autoencoder's optimizer and the critic's, None if there is none."""
    return (optimizers[0], optimizers[1]) if isinstance(optimizers, list) else (optimizers, None)


def _is_finite(optimizer: LightningOptimizer, runs_ahead: bool) -> Tensor:
    """Return 1 if the whole gradient is finite, else 0: (). Unlike losses, it is the same on all devices."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    # The maximum norm is exact where squares overflow, but on a CPU it takes nine times as long.
    if not runs_ahead and (finite := get_total_norm(gradients, 2.0).isfinite()):
        return finite
    return get_total_norm(gradients, math.inf).isfinite()


def _set_learning_rates(optimizers: list[Optimizer], factor: float) -> None:
    """Set each learning rate to a multiple of its initial value, in place on the device if it is a tensor."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        rate = factor * group["initial_lr"]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return an optimizer's settings for each parameter group."""
    return [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
