"""Loggers: TensorBoard curves that a full disk ends without ending the run, and CSV curves that a resumed run extends.

Any other logger of Lightning is one yaml in conf/logger; it is built with `save_dir`, the run's folder.
"""

import csv
import inspect
import logging
import os
import threading
from collections.abc import Callable, Mapping
from functools import singledispatch
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.writer import FileWriter

log = logging.getLogger(__name__)


@singledispatch
def rewind(logger: Logger, batch: int) -> None:
    """Remove the points from a batch on, because a resumed run logs them again.

    A logger without such a function keeps them.
    """


@singledispatch
def log_results(logger: Logger, settings: Mapping[str, Any], metrics: Mapping[str, float], batch: int) -> None:
    """Log a run's settings and the metrics of its evaluation.

    Args:
        logger: where to.
        settings: by dotted name.
        metrics: by name.
        batch: number of batches that the model has been trained on.
    """
    logger.log_hyperparams(dict(settings))
    logger.log_metrics(dict(metrics), batch)


class NoLogger(Logger):
    """Log nothing."""

    name, version = "none", 0

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        pass

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, except that a full disk ends the curves and not the run."""

    purge_step: int | None = None  # TensorBoard hides points of earlier files from this step on

    def __init__(self, save_dir: str | Path, **kwargs: Any) -> None:
        super().__init__(save_dir, **kwargs)
        # SummaryWriter itself would raise during training.
        inspect.signature(SummaryWriter).bind(purge_step=None, **self._kwargs)

    @property
    def log_dir(self) -> str:
        """The folder of the curves. Lightning's expands `~` and `$NAME` in it, which a run's name may contain."""
        version = self.version if isinstance(self.version, str) else f"version_{self.version}"
        return os.path.join(self.root_dir, version, self.sub_dir or "")

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        if self._experiment is None:
            self._experiment = _Writer(log_dir=self.log_dir, purge_step=self.purge_step, **self._kwargs)
        return self._experiment

    def save(self) -> None:
        try:
            super().save()
        except OSError as error:
            log.warning(f"{self.log_dir}/hparams.yaml could not be written ({error.strerror}); the run continues")


@rewind.register
def _(logger: TensorBoard, batch: int) -> None:
    logger.purge_step = batch


@rewind.register
def _(logger: CSVLogger, batch: int) -> None:
    _rewind_csv(logger, batch)


@rank_zero_only
def _rewind_csv(logger: CSVLogger, batch: int) -> None:
    """Log the earlier rows of a CSV file again: Lightning deletes the file when it opens it."""
    path = Path(logger.log_dir, ExperimentWriter.NAME_METRICS_FILE)
    if not path.exists():  # a run in a new folder
        return
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.DictReader(line.replace("\0", "") for line in file)
        rows = [row for row in reader if None not in (*row, *row.values())]  # a kill may have cut the last one
    for row in rows:
        step = row.pop("step", "")
        points: Any = {name: value for name, value in row.items() if value}  # text, written as it is
        if step.isdecimal() and int(step) < batch:
            logger.log_metrics(points, int(step))
    logger.save()


@log_results.register
def _(logger: TensorBoardLogger, settings: Mapping[str, Any], metrics: Mapping[str, float], batch: int) -> None:
    logger.log_hyperparams(dict(settings), dict(metrics))  # its HPARAMS tab requires both in one call


class _Writer(SummaryWriter):
    """Write until the first error. SummaryWriter would raise an error of its thread at an unrelated call."""

    lost = False

    def _get_file_writer(self) -> FileWriter:
        _silence_thread()
        writer: list[FileWriter] = []
        self.attempt(lambda: writer.append(super(_Writer, self)._get_file_writer()))
        if self.lost:
            writer = [FileWriter.__new__(FileWriter)]
            writer[0].event_writer = _Events(None, self)
        elif not isinstance(writer[0].event_writer, _Events):
            writer[0].event_writer = _Events(writer[0].event_writer, self)
        return writer[0]

    def attempt(self, action: Callable[[], None]) -> None:
        """Do something with the files, unless that has failed before."""
        if self.lost:
            return
        try:
            action()
        except Exception as error:  # with TensorFlow installed it is no OSError
            self.lost = True
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            log.warning(
                f"TensorBoard's files in {self.log_dir} could not be written ({reason}); the run continues without "
                "further curves"
            )


class _Events:
    """An event file whose methods never raise."""

    def __init__(self, file: Any, writer: _Writer) -> None:
        self._file, self._writer = file, writer

    def add_event(self, event: Any) -> None:
        self._writer.attempt(lambda: self._file.add_event(event))

    def flush(self) -> None:
        self._writer.attempt(lambda: self._file.flush())

    def close(self) -> None:
        self._writer.attempt(lambda: self._file.close())

    def get_logdir(self) -> str:
        return self._writer.log_dir


def _silence_thread() -> None:
    """Let TensorBoard's thread end without a traceback; `attempt` meets its error again."""
    show = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if type(arguments.thread).__name__ != "_AsyncWriterThread":
            show(arguments)

    hook.silenced = True  # type: ignore[attr-defined]
    if not hasattr(show, "silenced"):
        threading.excepthook = hook
