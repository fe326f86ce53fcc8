"""Build Lightning's Trainer for a run, and fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig

from interp_lightning.data.base import ImageData
from interp_lightning.errors import ConfigError
from interp_lightning.models.base import Autoencoder
from interp_lightning.system.disk import replace
from interp_lightning.training.callbacks.critics import Critics
from interp_lightning.training.callbacks.progress import Progress
from interp_lightning.training.callbacks.saver import Saver
from interp_lightning.training.checkpoints import AtomicCheckpointIO, Best
from interp_lightning.training.devices import check_devices, check_processes, cluster_environment, ignore_leftovers
from interp_lightning.training.logger import build_loggers
from interp_lightning.training.resume import Checkpoint
from interp_lightning.training.signals import ending_together


@dataclass(frozen=True)
class Job:
    """A run's place in a sweep."""

    number: int
    alone: bool  # no other job runs at the same time
    objective: str | None = None  # the metric that a search optimises
    swept: tuple[str, ...] = ()  # names of the settings in which the jobs of its sweep differ


def build_trainer(
    cfg: DictConfig,
    data: ImageData,
    folder: Path,
    callbacks: Sequence[Callback],
    checkpoint: Checkpoint | None,
    job: Job | None = None,
) -> L.Trainer:
    """Build Lightning's Trainer, with all files in the run's folder.

    Args:
        cfg, data, folder, job: see `training.run.train`.
        callbacks: those of this run; others are added.
        checkpoint: to resume from.

    Raises:
        ConfigError: its settings do not fit this machine, one another, or a sweep.
    """
    checkpoints = folder / "checkpoints"
    every: list[Callback] = [
        *callbacks,
        Critics(),
        Best(checkpoints, "val/autoencoder/reconstruction"),
        Saver(checkpoints / "last.ckpt", cfg.checkpoint.every_minutes, cfg.trainer.max_time),
    ]
    if cfg.trainer.enable_progress_bar:
        every.append(Progress() if job is None or job.alone else Progress(f"Job {job.number}", moving=False))
    check_devices(cfg.trainer)
    ignore_leftovers(cfg.trainer.num_nodes)
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        max_time=None,  # Saver's task: Lightning's timer validates in the middle of an epoch, and saves nothing
        default_root_dir=folder,
        logger=build_loggers(cfg.logger, folder),
        callbacks=every,
        plugins=[AtomicCheckpointIO(checkpoint.state if checkpoint else None), *cluster_environment()],
    )
    # Lightning's handler of SIGTERM waits for the other devices, which may never come; Saver has its own.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    _check_several(trainer, cfg, data, job)
    return trainer


def _check_several(trainer: L.Trainer, cfg: DictConfig, data: ImageData, job: Job | None) -> None:
    """Raise ConfigError if a run cannot use several devices that its settings ask for."""
    several, settings = trainer.world_size > 1, cfg.trainer
    if several and settings.strategy == "auto":
        raise ConfigError(
            f"`trainer.devices` (={settings.devices}) and `trainer.num_nodes` (={settings.num_nodes}) must be 1 "
            "unless with trainer=ddp; add it"
        )
    check_processes(trainer)
    if several and job is not None:
        raise ConfigError(
            f"`trainer.devices` (={settings.devices}) must be 1 in a multirun, because every further process would "
            "start the whole sweep again; run the points one by one"
        )
    if several and data.batch_size % (2 * trainer.world_size):
        raise ConfigError(
            f"`data.batch_size` (={data.batch_size}) must be a multiple of {2 * trainer.world_size}, twice the number "
            "of devices that share it"
        )


def fit(trainer: L.Trainer, model: Autoencoder, data: ImageData, checkpoint: Checkpoint | None) -> None:
    """Train from the start, or from a checkpoint."""
    if checkpoint is not None:
        _adopt(trainer, checkpoint)
    with ending_together(trainer):
        trainer.fit(
            model, datamodule=data, ckpt_path=None if checkpoint is None else str(checkpoint.path), weights_only=True
        )
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # otherwise its threads can abort a process that ends


def _adopt(trainer: L.Trainer, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint from elsewhere to a run's folder."""
    own = Path(trainer.default_root_dir) / "checkpoints"
    if trainer.is_global_zero and checkpoint.path.absolute().parent != own.absolute():
        own.mkdir(exist_ok=True)  # the run needs a checkpoint from its start, whatever happens next
        replace(own / "last.ckpt", checkpoint.path.read_bytes())
