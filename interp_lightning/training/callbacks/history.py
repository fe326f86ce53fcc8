"""Record a run's losses and speed, and draw figures from the first minute on."""

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from matplotlib.figure import Figure

from interp_lightning.data.base import ImageData
from interp_lightning.display import figures
from interp_lightning.display.grid import pixels_of
from interp_lightning.evaluation.assessment import Assessment
from interp_lightning.functional.images import to_unit_range
from interp_lightning.models.base import Autoencoder
from interp_lightning.runs.record import run_title
from interp_lightning.steps.players import PLAYERS
from interp_lightning.training.logger import show, viewers
from interp_lightning.training.tensorboard import TensorBoard

SHOWN = (*PLAYERS, "penalty")  # groups of the curves that are kept
PROJECTED = 2_000  # codes in the projector
SPRITES = 8_192  # pixels to a side of all their images together, at most
FIRST_PICTURES = 20.0  # seconds of training; each further interval is twice as long


class Recorder(L.Callback):
    """Record losses and speed; draw interpolations, reconstructions and prior samples while the model trains.

    Args:
        folder: for the PNG files.
    """

    model: Autoencoder
    data: ImageData

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.history: dict[str, list[tuple[int, float]]] = {}  # (images seen, value) by TensorBoard name
        self.seconds = 0.0  # in training steps
        self._wait = FIRST_PICTURES
        self._started = self._drawn = 0.0

    @property
    def images(self) -> int:
        """Number of training images so far."""
        return self.model.images_seen

    @property
    def images_per_second(self) -> float:
        """Training images per second of training steps, without validation and drawing."""
        return self.images / self.seconds if self.seconds else 0.0

    def setup(self, trainer: L.Trainer, pl_module: Any, stage: str) -> None:
        self.model, self.data = pl_module, trainer.datamodule  # type: ignore[attr-defined]
        self.title = run_title(dict(pl_module.hparams))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._drawn = time.monotonic()
        self._last = self.images, self.seconds  # when the speed was last logged

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._started = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.model.logs_now:
            self._remember(trainer, "train/")  # this waits for a GPU, so that its time counts
        self.seconds += time.monotonic() - self._started
        if self.model.logs_now:
            images, seconds = self._last
            self._last = self.images, self.seconds
            pl_module.log("speed/images_per_second", (self.images - images) / max(self.seconds - seconds, 1e-9))
        if trainer.is_global_zero and time.monotonic() - self._drawn > self._wait:
            self._wait *= 2
            self.draw_images()
            self._drawn = time.monotonic()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._remember(trainer, "val/")

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.history, self.seconds = state["history"], state["seconds"]

    @torch.inference_mode()
    def draw_images(self) -> None:
        """Draw interpolations, reconstructions and samples of the same test images each time."""
        training = self.model.training
        self.model.eval()
        with figures.skipping("the figures of the test images"):
            x = figures.examples(self.data).to(self.model.device)
            self._save(figures.of_model(self.model, x, self.title))
        self.model.train(training)

    @torch.inference_mode()
    def draw_summary(self, assessment: Assessment, trainer: L.Trainer) -> None:
        """Draw the evaluation, and the losses of the whole run."""
        drawn = figures.of_assessment(assessment, self.model, self.data, self.title)
        if self.history:
            drawn |= figures.draw({"loss_curves": partial(figures.loss_curves, self.history, self.title)})
        self._save(drawn)
        shown_by = viewers(trainer.loggers)
        for name, figure in drawn.items() if shown_by else ():
            with figures.skipping(f"{name} in a logger"):
                pixels = pixels_of(figure)
                for logger in shown_by:
                    show(logger, f"summary/{name}", pixels, self.images)
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)]
        if boards:
            with figures.skipping("the projector"):
                self._project(assessment, boards)

    def _project(self, assessment: Assessment, boards: Sequence[TensorBoard]) -> None:
        number = min(PROJECTED, len(self.data.test), (SPRITES // max(self.data.image_shape)) ** 2)
        x = to_unit_range(self.data.test.batch(self.data.test.all()[:number])[0])
        for board in boards:
            board.project(assessment.test.z[:number], assessment.test.labels[:number], x, self.images)

    def _save(self, drawn: dict[str, Figure]) -> None:
        for name, figure in drawn.items():
            with figures.skipping(name):
                figures.save({name: figure}, self.folder)

    def _remember(self, trainer: L.Trainer, prefix: str) -> None:
        for name, value in trainer.callback_metrics.items():
            if name.startswith(prefix) and name.split("/")[1] in SHOWN:
                self.history.setdefault(name, []).append((self.images, float(value)))
