"""Decide how long a run trains, and check that something is left to do."""

import lightning as L
from omegaconf import DictConfig

from interp_lightning.data.base import ImageData
from interp_lightning.errors import ConfigError
from interp_lightning.system.text import counted
from interp_lightning.training.callbacks.saver import seconds
from interp_lightning.training.resume import Checkpoint


def set_budget(trainer: L.Trainer, settings: DictConfig, data: ImageData, checkpoint: Checkpoint | None) -> None:
    """Set the number of epochs: the one in the trainer's settings, or the data set's own.

    Raises:
        ConfigError: no batches or no time are left to train, or no batches to validate with.
    """
    trainer.fit_loop.max_epochs = 1 if settings.fast_dev_run else settings.max_epochs or data.epochs
    # trainer.fast_dev_run would limit the optimizer steps, and each player takes its own.
    trainer.fit_loop.epoch_loop.max_steps = -1
    _check_batches(trainer, data)
    if checkpoint is not None:
        _check_rest(trainer, settings.max_time, checkpoint)


def _check_batches(trainer: L.Trainer, data: ImageData) -> None:
    """Raise ConfigError if a limit or the number of devices leaves no batches."""
    for name, batches in (("train", len(data.train_dataloader())), ("val", len(data.val_dataloader()))):
        limit = getattr(trainer, f"limit_{name}_batches")
        if isinstance(limit, float) and 0 < limit * batches < 1:
            raise ConfigError(
                f"`trainer.limit_{name}_batches` (={limit}) leaves less than one of {counted(batches, 'batch')}; use a "
                f"number of batches, or a share ≥ {1 / batches:.2g}"
            )
    if 0 < len(data.val) < 2 * trainer.world_size:
        raise ConfigError(
            f"`trainer.devices` (={trainer.world_size} in all) must be ≤ {len(data.val) // 2}, as each validates with "
            f"at least 2 of the {len(data.val)} validation images"
        )


def _check_rest(trainer: L.Trainer, max_time: str | None, checkpoint: Checkpoint) -> None:
    """Raise ConfigError if a checkpoint has used up the budget of epochs or time."""
    if checkpoint.epoch >= (trainer.max_epochs or 1):
        raise ConfigError(
            f"`trainer.max_epochs` (={trainer.max_epochs}) must be ≥ {checkpoint.epoch + 1}, the epoch in which "
            f"{checkpoint.path} was written"
        )
    if max_time is not None and checkpoint.elapsed >= seconds(max_time):
        raise ConfigError(
            f"`trainer.max_time` (={max_time}) must be above {checkpoint.elapsed:,.0f} seconds, the training time of "
            f"{checkpoint.path}; raise it, or remove it"
        )
