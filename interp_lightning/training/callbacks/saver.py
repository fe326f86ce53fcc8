"""Save checkpoints: at the end of each epoch, every few minutes, and before a run stops for any reason."""

import logging
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint

from interp_lightning.errors import Diverged
from interp_lightning.models.base import Autoencoder
from interp_lightning.runs.checkpoints import newest_checkpoint, restore_previous
from interp_lightning.system.text import counted

log = logging.getLogger(__name__)

EVERY = 16  # batches between two synchronisations of several devices
UNITS = (24 * 3600, 3600, 60, 1)  # seconds, of DD:HH:MM:SS


class Interrupted(SystemExit):
    """A signal has stopped the run, and its state is saved; the exit status is 128 + the signal's number."""


class Saver(Checkpoint):
    """Keep last.ckpt up to date, so that it always holds the model that `fit` ends with.

    It is saved at the start, at each epoch's end, every few minutes, when `max_time` is over, and on the first signal
    to stop. (Lightning calls a `Checkpoint` after other callbacks, so that it saves their newest state.)

    Args:
        checkpoint: the file to save to.
        every_minutes: time between two saves within an epoch.
        max_time: limit of training time, over all parts of a resumed run, as DD:HH:MM:SS; None for no limit.
    """

    def __init__(self, checkpoint: Path, every_minutes: float, max_time: str | None = None) -> None:
        self.checkpoint, self.seconds, self.max_time = checkpoint, 60 * every_minutes, max_time
        self.elapsed = 0.0  # seconds of training, including those before this run was resumed
        self._saved_batches = -1
        self._x: torch.Tensor | None = None  # the images of the last batch
        self._saved = self._looked = 0.0
        self._received = 0
        self._stopping: tuple[int, str] | None = None
        self._previous: dict[int, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"elapsed": self.elapsed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.elapsed = state["elapsed"]

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._note)
        self._saved = self._looked = time.monotonic()
        self._saved_batches = pl_module.batches_seen
        if pl_module.batches_seen == 0:  # the run needs a checkpoint from its start
            self._save(trainer, pl_module)

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if self._stopping is not None:
            self._stop(trainer, *self._stopping)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.elapsed, self._looked = self.elapsed + time.monotonic() - self._looked, time.monotonic()
        self._x = batch[0]
        if pl_module.guard.due:
            self._roll_back(trainer, pl_module)
        if trainer.is_last_batch:
            # A run that resumes from just before a validation would omit the validation.
            if not _validates(trainer):
                self._save(trainer, pl_module)
            return
        received, over, due = self._agree(trainer, batch_idx)
        if not (received or over or due):
            return
        self._save(trainer, pl_module)
        if received:  # to stop before the next batch, once loggers have recorded this one
            self._stopping = (
                received,
                f"{counted(trainer.current_epoch, 'epoch')} and {counted(batch_idx + 1, 'batch')}",
            )
        elif over:
            # An uninterrupted run has no validation in the middle of an epoch.
            trainer.limit_val_batches = 0
            self._end(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            self._save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        received, over, _ = self._agree(trainer, EVERY - 1)
        if received:
            self._stop(trainer, received, counted(trainer.current_epoch + 1, "epoch"))
        if over and trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            self._end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if trainer.is_last_batch:
            _finish_epoch(checkpoint["loops"]["fit_loop"], pl_module.epochs_seen)

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if pl_module.batches_seen != self._saved_batches:
            self._save(trainer, pl_module)

    def on_exception(self, trainer: L.Trainer, pl_module: Any, exception: BaseException) -> None:
        if isinstance(exception, Diverged) and trainer.is_global_zero:
            restore_previous(self.checkpoint)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _save(self, trainer: L.Trainer, model: Autoencoder) -> None:
        """Save the state; if training has diverged, roll back or raise Diverged instead."""
        model.watch()
        if model.guard.due:
            self._roll_back(trainer, model)
            return
        if self._x is not None:
            model.guard.error = model.reconstruction_error(self._x)
        trainer.save_checkpoint(self.checkpoint)
        self._saved, self._saved_batches = time.monotonic(), model.batches_seen

    def _roll_back(self, trainer: L.Trainer, model: Autoencoder) -> None:
        """Restore the last good checkpoint and halve the learning rates."""
        reason = model.guard.reason
        path, state, _ = newest_checkpoint(self.checkpoint.parent, good=True)
        model.roll_back(state)
        log.warning(
            f"Training has diverged: {reason}. Restored {path.name}, of batch {state['batches_seen']:,}; all learning "
            f"rates are now {model.guard.learning_rate_factor:g} times as high."
        )

    def _agree(self, trainer: L.Trainer, batch_idx: int) -> tuple[int, bool, bool]:
        """Return (received signal, time is over, save is due), the same on all devices."""
        over = self.max_time is not None and self.elapsed >= seconds(self.max_time)
        received, due = self._received, time.monotonic() - self._saved > self.seconds
        if trainer.world_size == 1:
            return received, over, due
        # A signal reaches the processes at different times, or only one of them: synchronise now and then.
        if (batch_idx + 1) % EVERY:
            return 0, False, False
        numbers = torch.tensor([received, over, due], device=trainer.strategy.root_device)
        received, over, due = trainer.strategy.reduce(numbers, reduce_op="max").tolist()
        return received, bool(over), bool(due)

    def _end(self, trainer: L.Trainer, model: Autoencoder) -> None:
        """End the training; the model is evaluated as it is."""
        trainer.should_stop = True
        if trainer.is_global_zero:
            log.info(
                f"`trainer.max_time` (={self.max_time}) is over after {counted(model.images_seen, 'image')}; to train "
                "longer, resume by ckpt_path=last with a larger one"
            )

    def _stop(self, trainer: L.Trainer, received: int, after: str) -> None:
        if trainer.is_global_zero:
            print(
                f"\nStopped after {after}; everything is in {self.checkpoint}.\n"
                "Resume with the same command and ckpt_path=last, or for a sweep sweep.resume=true.",
                file=sys.stderr,
            )
        raise Interrupted(128 + received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._received = number
        print("\nStopping after this batch; press Ctrl-C again to stop at once.", file=sys.stderr)
        for each in self._previous:
            signal.signal(each, signal.SIG_DFL)


def _validates(trainer: L.Trainer) -> bool:
    """Return True if a validation follows this epoch's last batch."""
    due = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
    return due and trainer.enable_validation and len(trainer.datamodule.val_dataloader()) > 0  # type: ignore[attr-defined]


def _finish_epoch(loop: dict[str, Any], epochs: int) -> None:
    """Change the state of Lightning's loop after an epoch's last batch to the state before the next epoch.

    Lightning resumes exactly from there. From its own state it counts epochs wrongly if the last one had no validation.
    """
    batches, numbers = loop["epoch_loop.batch_progress"], ("ready", "started", "processed", "completed")
    batches["is_last_batch"] = False
    batches["total"] = dict.fromkeys(numbers, batches["total"]["ready"])
    batches["current"] = dict.fromkeys(numbers, 0)
    ready = dict.fromkeys(numbers, epochs) | {"ready": epochs + 1}
    loop["epoch_progress"] = {"total": ready, "current": dict(ready)}


def seconds(time: str) -> int:
    """Convert a time as DD:HH:MM:SS to seconds."""
    return sum(unit * int(part) for unit, part in zip(UNITS, time.split(":"), strict=True))
