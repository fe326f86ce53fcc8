"""Saving between the epochs' ends: every few minutes, and when asked to stop."""

import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch

EVERY = 16  # batches between two agreements of several devices


class Interrupted(SystemExit):
    """The run was asked to stop and has saved its state; the exit status is 128 + the signal's number."""


class Saver(L.Callback):
    """Saves the run's state at its start, every few minutes, and before it stops on the first SIGINT or SIGTERM.

    Args:
        checkpoint: the file to save to.
        every_minutes: time between two saves; each epoch's end saves besides.
    """

    def __init__(self, checkpoint: Path, every_minutes: float) -> None:
        self.checkpoint, self.seconds = checkpoint, 60 * every_minutes
        self._saved = 0.0
        self._received = 0
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        if pl_module.batches_seen == 0:  # so that there is one from before, whatever happens
            trainer.save_checkpoint(self.checkpoint)
        self._saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        received, due = self._agree(trainer, batch_idx)
        # What is saved just before a validation goes on after it, so that one would be missing.
        if (received or due) and not _validates(trainer, batch_idx):
            trainer.save_checkpoint(self.checkpoint)
            self._saved = time.monotonic()
            if received:
                self._stop(trainer, received, f"{trainer.current_epoch} epochs and {batch_idx + 1} batches")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._saved = time.monotonic()  # after the validation, as at each epoch's end
        if received := self._agree(trainer, EVERY - 1)[0]:
            self._stop(trainer, received, f"{trainer.current_epoch + 1} epochs")

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _agree(self, trainer: L.Trainer, batch_idx: int) -> tuple[int, bool]:
        """The signal that was received, and whether it is time to save: the same on all devices."""
        received, due = self._received, time.monotonic() - self._saved > self.seconds
        if trainer.world_size == 1:
            return received, due
        # A signal reaches the devices' processes at different times or only one of them: agree now and then.
        if (batch_idx + 1) % EVERY:
            return 0, False
        numbers = torch.tensor([received, due], device=trainer.strategy.root_device)
        received, due = trainer.strategy.reduce(numbers, reduce_op="max").tolist()
        return received, bool(due)

    def _stop(self, trainer: L.Trainer, received: int, after: str) -> None:
        if trainer.is_global_zero:
            print(
                f"\nStopped after {after}; everything is in {self.checkpoint}.\n"
                "Go on with the same command and ckpt_path=last, or for a sweep sweep.resume=true.",
                file=sys.stderr,
            )
        raise Interrupted(128 + received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        print("\nStopping after this batch; press Ctrl-C again to stop at once.", file=sys.stderr)
        for each in self._previous:
            signal.signal(each, signal.SIG_DFL)


def _validates(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether a validation follows this batch."""
    if not trainer.enable_validation or (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1):
        return False
    return trainer.is_last_batch or not (batch_idx + 1) % (trainer.val_check_batch or 1)
