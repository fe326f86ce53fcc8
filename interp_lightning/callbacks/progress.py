"""One bar for the whole run: images, ETA, images per second, losses."""

import sys
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm

from interp_lightning.models.base import Autoencoder


class Progress(ProgressBar):
    """A tqdm bar over all images of the budget. In a file or a pipe it prints a line every half minute.

    Args:
        title: what stands before it.
        moving: False prints lines on a terminal, too, where several runs would draw over one another.
    """

    def __init__(self, title: str = "Training", moving: bool = True) -> None:
        super().__init__()
        self._title = title
        self._moving = moving and sys.stderr.isatty()
        self._bar: tqdm | None = None
        self._images = 0  # per batch
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        if not self._enabled or not trainer.is_global_zero:
            return
        self._images = trainer.datamodule.batch_size  # type: ignore[attr-defined]
        batches = int(trainer.num_training_batches) * trainer.max_epochs if trainer.max_epochs else None
        self._bar = tqdm(
            desc=self._title,
            total=batches * self._images if batches else None,
            initial=pl_module.images_seen,
            unit=" images",
            unit_scale=True,
            dynamic_ncols=True,
            mininterval=0.2 if self._moving else 30,
            file=sys.stderr,
        )

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, pl_module: Autoencoder, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is None:
            return
        if pl_module.logs_now:
            losses = {
                name.rsplit("/", 1)[1]: f"{float(value):.4f}"
                for name, value in trainer.callback_metrics.items()
                if name.startswith("train/")
            }
            self._bar.set_postfix(epoch=f"{trainer.current_epoch + 1}/{trainer.max_epochs}", **losses, refresh=False)
        self._bar.update(self._images)

    def print(self, *args: Any, **kwargs: Any) -> None:
        tqdm.write(" ".join(map(str, args)), file=sys.stderr)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
