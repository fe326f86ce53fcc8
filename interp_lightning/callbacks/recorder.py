"""What a run leaves to look at: its history, its speed, and pictures from the first minute on."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure
from torch import Tensor

from interp_lightning import figures
from interp_lightning.data.base import ImageData, to_unit_range
from interp_lightning.models.base import Autoencoder

FIRST_PICTURES = 20.0  # seconds of training; each further wait is twice as long
ROWS, COLUMNS = 10, 10


class Recorder(L.Callback):
    """Keeps losses and speed, and draws interpolations, reconstructions and prior samples while the model trains.

    Args:
        folder: where the PNG files go.
        title: what each figure says of the run: model, penalty, data.
    """

    def __init__(self, folder: Path, title: str) -> None:
        self.folder, self.title = folder, title
        self.history: dict[str, list[tuple[int, float]]] = {}
        self.images, self.seconds = 0, 0.0
        self._wait = FIRST_PICTURES
        self._started = self._drawn = 0.0

    @property
    def images_per_second(self) -> float:
        """Training images per second of training steps, without validation and drawing."""
        return self.images / self.seconds if self.seconds else 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._drawn = time.monotonic()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._started = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Autoencoder, outputs: Any, batch: Any, batch_idx: int  # type: ignore[override]
    ) -> None:
        self.seconds += time.monotonic() - self._started
        self.images += trainer.datamodule.batch_size  # type: ignore[attr-defined]
        if pl_module.batches_seen % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._remember(trainer, pl_module, "train/")
        if trainer.is_global_zero and time.monotonic() - self._drawn > self._wait:
            self._wait *= 2
            self.draw_images(pl_module, trainer.datamodule, trainer)  # type: ignore[attr-defined]
            self._drawn = time.monotonic()

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: Autoencoder) -> None:  # type: ignore[override]
        if not trainer.sanity_checking:
            self._remember(trainer, pl_module, "val/")

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "images": self.images, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history, self.images, self.seconds = state["history"], state["images"], state["seconds"]

    @torch.inference_mode()
    def draw_images(self, model: Autoencoder, data: ImageData, trainer: L.Trainer) -> None:
        """Draw what the model makes of the same test images each time."""
        training = model.training
        model.eval()
        images, _ = data.test.batch(data.test.all()[: 2 * ROWS])
        x = to_unit_range(images).to(model.device)
        for how in ("lerp", "slerp"):
            self._save(figures.interpolations(model, x, self.title, how), f"interpolation_{how}", model, trainer)
        self._save(figures.reconstructions(model, x, self.title), "reconstructions", model, trainer)
        self._save(figures.prior_samples(model, self.title), "prior_samples", model, trainer)
        model.train(training)

    def draw_summary(self, model: Autoencoder, z: Tensor, labels: Tensor, trainer: L.Trainer) -> None:
        """Draw the codes of the test images and the losses of the whole run."""
        self._save(figures.latent_scatter(z, labels, self.title), "latent_scatter", model, trainer)
        if self.history:
            self._save(figures.loss_curves(self.history, self.title), "loss_curves", model, trainer)

    def _save(self, figure: Figure, name: str, model: Autoencoder, trainer: L.Trainer) -> None:
        self.folder.mkdir(exist_ok=True)
        figure.savefig(self.folder / f"{name}.png")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_figure(name, figure, global_step=model.batches_seen)

    def _remember(self, trainer: L.Trainer, model: Autoencoder, prefix: str) -> None:
        images = model.batches_seen * trainer.datamodule.batch_size  # type: ignore[attr-defined]
        for name, value in _starting_with(prefix, trainer.callback_metrics).items():
            self.history.setdefault(name, []).append((images, float(value)))


def _starting_with(prefix: str, metrics: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in metrics.items() if name.startswith(prefix)}
