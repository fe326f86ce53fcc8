"""Ctrl-C and SIGTERM: finish the batch, save, say where."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L

EVERY = 16  # batches between two agreements of several devices


class Interrupted(SystemExit):
    """The run was asked to stop and has saved its state; the exit status is 128 + the signal's number."""


class Interrupt(L.Callback):
    """Turns the first SIGINT or SIGTERM into a checkpoint and an orderly end; a second one ends at once.

    Args:
        checkpoint: the file to save to.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self._received = 0
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        received = self._received
        if trainer.world_size > 1:
            # A signal reaches the devices' processes at different times or only one of them: agree now and then.
            due = (batch_idx + 1) % EVERY == 0
            stop = due and trainer.strategy.reduce_boolean_decision(bool(received), all=False)
            received = (received or signal.SIGINT) if stop else 0
        if received:
            trainer.save_checkpoint(self.checkpoint)
            if trainer.is_global_zero:
                print(
                    f"\nStopped after {trainer.current_epoch} epochs and {batch_idx + 1} batches; everything is in "
                    f"{self.checkpoint}.\nGo on with the same command and ckpt_path=last.",
                    file=sys.stderr,
                )
            raise Interrupted(128 + received)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        print("\nStopping after this batch; press Ctrl-C again to stop at once.", file=sys.stderr)
        for each in self._previous:
            signal.signal(each, signal.SIG_DFL)
