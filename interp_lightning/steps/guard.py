"""Detect divergence: NaN and infinite gradients, and exploding losses. Stop, skip steps, or roll back."""

import logging
import math
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Self

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from interp_lightning.errors import Diverged

log = logging.getLogger(__name__)

MODES = ("stop", "skip", "rollback")
ROLLBACKS = 5  # in one run; then it stops
WAY_OUT = "the run's checkpoints are from before: resume by ckpt_path=last with a smaller optimizer.lr or λ"
OR_ROLLBACK = ", or with guard=rollback, which halves the learning rates by itself"

RECONSTRUCTION = "reconstruction"
RECENT = 0.1  # weight of a new loss in its moving average: about ten batches
LEARNED = 0.8  # times the error of the mean image: a model below it has learned something
PATIENCE = 1_000  # batches to become better than the mean image before a warning
EXPLODED = 100  # times the lowest level so far: divergence
UNEASY = 3  # times that level: not a checkpoint to roll back to
LEAST = 1.0  # a sum of losses below it is never an explosion


@dataclass(frozen=True)
class Turn:
    """The outcome of a player's turn, on its device."""

    player: str
    losses: tuple[str, ...]
    numbers: Tensor  # (len(losses) + 1,): their values and, last, 1 if the gradient was finite, else 0

    def clone(self) -> Self:
        return replace(self, numbers=self.numbers.clone())


@dataclass
class Level:
    """A moving average of a loss over about ten batches, and its minimum so far."""

    now: float
    lowest: float

    def add(self, loss: float) -> None:
        """Add the loss of the next batch."""
        self.now += RECENT * (loss - self.now)
        self.lowest = min(self.lowest, self.now)


class Guard:
    """Skip steps on the device; detect divergence on the host.

    Training has diverged if a gradient is NaN or infinite, if a player's losses rise to 100 times their lowest level
    (and above 1), or if reconstructions become worse than the mean training image after they have been better. Levels
    are moving averages over ten batches, so that one bad batch is not a divergence.

    Args:
        mode: "stop" skips the first step whose gradient is not finite and all later ones, and raises Diverged;
            "skip" skips and counts such steps, and raises Diverged if losses explode;
            "rollback" requests a rollback to the last good checkpoint (`due`) and halves the learning rates, at most
            five times; then it raises Diverged.
    """

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.mean_image_error = math.inf  # loss of the mean training image as reconstruction
        self.skipped = 0  # steps
        self.rollbacks = 0
        self.reason = ""  # of the divergence on this device
        self.due = False  # a rollback is requested
        self.error = 0.0  # of reconstructions with the current weights, which no loss has shown yet
        self._unread: list[tuple[int, Turn]] = []  # by the number of their batch
        self._levels: dict[str, Level] = {}

    @property
    def learning_rate_factor(self) -> float:
        return 0.5**self.rollbacks

    @property
    def calm(self) -> bool:
        """All losses are near their lowest levels, so that these weights are worth a rollback to them."""
        for name, level in self._levels.items():
            now = max(level.now, self.error) if name == RECONSTRUCTION else level.now
            if not now <= max(UNEASY * level.lowest, 0.0 if name == RECONSTRUCTION else LEAST):
                return False
        return not self.reason and math.isfinite(self.error)

    def start(self, device: torch.device) -> None:
        """Reset at the start of a training."""
        self._unread.clear()
        self.reason, self.due = "", False
        self._stopped = torch.zeros((), device=device)  # 1 once all further steps are skipped

    def skips(self, finite: Tensor) -> Tensor:
        """Return 1 to skip a step, 0 to take it; decided on the device, without a host sync.

        Args:
            finite: 1 if the gradient is finite, else 0, ().
        """
        skipped = torch.maximum(self._stopped, 1 - finite.float())
        if self.mode == "stop":
            self._stopped.copy_(skipped)
        return skipped

    def note(self, batch: int, turns: list[Turn]) -> None:
        """Store the turns of a batch until the next `look`; the first batch is number 1."""
        self._unread += [(batch, turn) for turn in turns]

    def look(self) -> None:
        """Read the turns since the last call, and set `reason` if losses of this device have exploded.

        Raises:
            Diverged: a gradient was not finite, on all devices, and the mode is "stop".
        """
        unread, self._unread = self._unread, []
        numbers = iter(torch.cat([turn.numbers for _, turn in unread]).tolist() if unread else [])
        for batch, turn in unread:
            *losses, finite = islice(numbers, len(turn.numbers))
            if finite:
                self.reason = self.reason or self._exploded(batch, turn, losses)
            elif self.mode == "skip":
                self._count_skipped(_broken(batch, turn, losses))
            else:
                self.answer(_broken(batch, turn, losses))

    def answer(self, reason: str) -> None:
        """Respond to a divergence that all devices know of: raise Diverged, or request a rollback."""
        if self.mode != "rollback" or self.rollbacks == ROLLBACKS:
            after = f", after {ROLLBACKS} rollbacks" if self.mode == "rollback" else ""
            way_out = WAY_OUT + OR_ROLLBACK * (self.mode != "rollback")
            raise Diverged(f"training has diverged{after}: {reason}; {way_out}")
        self.reason, self.due = reason, True

    def rolled_back(self, state: dict[str, Any]) -> None:
        """Continue from a restored checkpoint, with half the learning rates."""
        self._unread.clear()
        self.restore(state | {"skipped": self.skipped, "rollbacks": self.rollbacks + 1})
        self.reason, self.due = "", False

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint, as plain numbers."""
        levels = {name: [level.now, level.lowest] for name, level in self._levels.items()}
        return {"skipped": self.skipped, "rollbacks": self.rollbacks, "calm": self.calm, "levels": levels}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.skipped, self.rollbacks = state["skipped"], state["rollbacks"]
        self._levels = {name: Level(*numbers) for name, numbers in state["levels"].items()}

    def _exploded(self, batch: int, turn: Turn, losses: list[float]) -> str:
        """Return a sentence if a player's losses have exploded in a batch, else ""."""
        level = self._add(turn.player, sum(losses))
        if level.now > max(LEAST, EXPLODED * level.lowest):
            return (
                f"the losses of the {turn.player} (={level.now:.4g} around batch {batch:,}) are more than {EXPLODED} "
                f"times as high as they have been (={level.lowest:.4g})"
            )
        if RECONSTRUCTION in turn.losses:
            level = self._add(RECONSTRUCTION, losses[turn.losses.index(RECONSTRUCTION)])
            if level.lowest < LEARNED * self.mean_image_error and level.now > self.mean_image_error:
                return (
                    f"reconstructions (loss {level.now:.4g} around batch {batch:,}) are worse than the mean image "
                    f"({self.mean_image_error:.4g}), after they have been better ({level.lowest:.4g})"
                )
            if batch == PATIENCE and self.mean_image_error <= level.lowest:
                log.warning(
                    f"This model is not learning: after {PATIENCE:,} batches its reconstructions (loss "
                    f"{level.now:.4g}) are still worse than the mean image ({self.mean_image_error:.4g}); stop it by "
                    "Ctrl+C, then change optimizer.lr, λ or the seed"
                )
        return ""

    def _add(self, name: str, loss: float) -> Level:
        level = self._levels.setdefault(name, Level(loss, loss))
        level.add(loss)
        return level

    def _count_skipped(self, what: str) -> None:
        self.skipped += 1
        if self.skipped in (1, 10, 100) or self.skipped % 1_000 == 0:
            log.warning(f"Skipped step number {self.skipped:,}: {what}")


def _broken(batch: int, turn: Turn, losses: list[float]) -> str:
    """Name the numbers of a turn that are not finite."""
    broken = [
        f"train/{turn.player}/{name} (={loss})"
        for name, loss in zip(turn.losses, losses, strict=True)
        if not math.isfinite(loss)
    ]
    what = f"{' and '.join(broken) or f'the gradient of the {turn.player}'} at batch {batch:,} "
    return what + ("are not finite numbers" if len(broken) > 1 else "is not a finite number")


def skips_by_itself(optimizer: Optimizer) -> bool:
    """Return True if an optimizer skips a step when its `found_inf`, a tensor on its device, is 1, as in torch.amp.

    Fused SGD claims to, but if it skips its first step, its momentum is uninitialised memory.
    """
    return isinstance(optimizer, Adam) and getattr(optimizer, "_step_supports_amp_scaling", False)
