"""One bar for the whole run: percentage, ETA, images per second, losses."""

import sys
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm
from tqdm.std import Bar

from interp_lightning.models.base import Autoencoder
from interp_lightning.steps.players import PLAYERS

FIRST = "reconstruction"  # the loss shown first: every model has it
COLUMNS = 80  # of a terminal without a known width
NARROWEST, WIDEST = 5, 40  # columns of the bar itself


class Progress(ProgressBar):
    """Show a tqdm bar over all images of the budget. In a file or a pipe, print a line every half minute.

    Args:
        title: text before the bar.
        moving: False prints lines on a terminal, too; several runs would draw over one another.
    """

    def __init__(self, title: str = "Training", moving: bool = True) -> None:
        super().__init__()
        self._title = title
        self._moving = moving and sys.stderr.isatty()
        self._bar: Line | None = None
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
        self._bar = Line(
            desc=self._title,
            total=batches * self._images if batches else None,
            initial=pl_module.images_seen,
            dynamic_ncols=self._moving,
            ncols=None if self._moving else sys.maxsize,
            mininterval=0.2 if self._moving else 30,
            file=sys.stderr,
        )

    def on_train_batch_end(  # type: ignore[override]
        self, trainer: L.Trainer, pl_module: Autoencoder, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is None:
            return
        if pl_module.logs_now:
            self._bar.epoch = f"{trainer.current_epoch + 1}/{trainer.max_epochs}"
            self._bar.losses = {
                name: float(value)
                for player in PLAYERS
                for name, value in trainer.callback_metrics.items()
                if name.startswith(f"train/{player}/")
            }
        self._bar.update(self._images)

    def print(self, *args: Any, **kwargs: Any) -> None:
        tqdm.write(" ".join(map(str, args)), file=sys.stderr)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Line(tqdm):
    """A tqdm bar that writes each part whole, or omits it if the terminal is too narrow."""

    epoch = ""
    losses: Mapping[str, float] = {}  # by their TensorBoard names

    def __str__(self) -> str:
        return self._line(**self.format_dict)

    def _line(
        self, n: int, total: int | None, elapsed: float, initial: int, prefix: str,
        ncols: int | None, ascii: bool | str, **others: Any,
    ) -> str:  # fmt: skip
        width = ncols or COLUMNS
        rate = (n - initial) / max(elapsed, 1e-9)  # of all the time so far: milestones would make a recent one leap
        losses = {name.rsplit("/", 1)[1]: f"{value:.4g}" for name, value in self.losses.items()}
        parts = [  # the most important ones first
            f" ETA {self.format_interval((total - n) / rate) if total and rate else '?'}",
            f", {self.format_sizeof(n)}/{self.format_sizeof(total) if total else '?'} images",
            *([f", epoch={self.epoch}"] if self.epoch else []),
            f", {self.format_sizeof(rate)} images/s",
        ]
        details = [f", {name}={losses[name]}" for name in sorted(losses, key=lambda name: name != FIRST)]
        head, has_bar = f"{n / total:4.0%}" if total else "   ?", bool(total and self.dynamic_ncols)
        labelled = f"{prefix} {head}"
        if len(labelled + "".join(parts[:2])) <= width:
            head = labelled
        shown = _fitting(parts, width - len(head))
        if len(shown) == len(parts):
            shown += _fitting(details, width - len(head + "".join(shown)) - has_bar * (NARROWEST + len("||")))
        tail = "".join(shown)
        spare = min(width - len(head + tail) - len("||"), WIDEST)
        if total and has_bar and spare >= NARROWEST:
            head += f"|{Bar(n / total, spare, charset=Bar.ASCII if ascii is True else Bar.UTF)}|"
        return head + tail


def _fitting(parts: Sequence[str], width: int) -> list[str]:
    """Return the first parts that fit into a width together."""
    lengths = accumulate(map(len, parts))
    return [part for part, length in zip(parts, lengths, strict=True) if length <= width]
