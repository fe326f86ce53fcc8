"""What keeps training from going on with numbers that are none, and from doing so in silence."""

import logging
import math
from dataclasses import dataclass, replace
from itertools import islice
from typing import Self

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from interp_lightning.errors import Diverged

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Turn:
    """What a player's turn came to, on the device that took it."""

    player: str
    losses: tuple[str, ...]
    numbers: Tensor  # (len(losses) + 1,): their values and, last, whether the gradient was finite, 1 or 0

    def clone(self) -> Self:
        return replace(self, numbers=self.numbers.clone())


class Guard:
    """Decides, on the device, which steps are left out, and says so when somebody looks, for which the host waits.

    Args:
        mode: "stop" leaves out the first step whose gradient is not finite and all that follow, and raises Diverged;
            "skip" leaves out such steps and counts them.
    """

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.skipped = 0  # steps left out
        self._unread: list[tuple[int, Turn]] = []  # by the number of their batch

    def start(self, device: torch.device) -> None:
        """Begin a training."""
        self._unread.clear()
        self._stopped = torch.zeros((), device=device)  # 1 once all further steps are left out

    def leaves_out(self, finite: Tensor) -> Tensor:
        """1 if a step is to be left out whose gradient is finite or not, else 0: (), () → (), on the device."""
        left_out = torch.maximum(self._stopped, 1 - finite.float())
        if self.mode == "stop":
            self._stopped.copy_(left_out)
        return left_out

    def note(self, batch: int, turns: list[Turn]) -> None:
        """Keep a batch's turns until they are looked at; the first batch's number is 1."""
        self._unread += [(batch, turn) for turn in turns]

    def look(self) -> None:
        """Look at the turns since the last time.

        Raises:
            Diverged: if a gradient was not finite, unless such steps are only to be left out.
        """
        unread, self._unread = self._unread, []
        numbers = iter(torch.cat([turn.numbers for _, turn in unread]).tolist() if unread else [])
        for batch, turn in unread:
            *losses, finite = islice(numbers, len(turn.numbers))
            if not finite:
                self._say(batch, turn, losses)

    def _say(self, batch: int, turn: Turn, losses: list[float]) -> None:
        broken = [
            f"train/{turn.player}/{name} (={loss})"
            for name, loss in zip(turn.losses, losses, strict=True)
            if not math.isfinite(loss)
        ]
        what = f"{' and '.join(broken) or f'the gradient of the {turn.player}'} at batch {batch:,} "
        what += "are no finite numbers" if len(broken) > 1 else "is no finite number"
        if self.mode == "stop":
            raise Diverged(
                f"training has diverged: {what}; the run's checkpoints are from before: go on from "
                "one by ckpt_path=… with a smaller optimizer.lr or λ, or leave such steps out by guard=skip"
            )
        self.skipped += 1
        if self.skipped in (1, 10, 100) or self.skipped % 1_000 == 0:
            log.warning(f"Step left out, number {self.skipped:,}: {what}")


def skips_by_itself(optimizer: Optimizer) -> bool:
    """Whether an optimizer leaves out a step if its `found_inf`, a tensor on its device, is 1, as torch.amp has it.

    A fused SGD is said to, but after a first step that it left out its momentum is whatever was in memory.
    """
    return isinstance(optimizer, Adam) and getattr(optimizer, "_step_supports_amp_scaling", False)
