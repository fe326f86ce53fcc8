"""logger=tensorboard: curves and pictures, without which a run goes on if they can no longer be written."""

import inspect
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.writer import FileWriter

log = logging.getLogger(__name__)


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, except that a full disk ends the curves and not the run."""

    def __init__(self, save_dir: str | Path, **kwargs: Any) -> None:
        super().__init__(save_dir, **kwargs)
        inspect.signature(SummaryWriter).bind(**self._kwargs)  # which would complain in the middle of the run

    @property
    def log_dir(self) -> str:
        """The folder of the curves. Lightning's replaces `~` and `$NAME` in it, which a run's name may have."""
        version = self.version if isinstance(self.version, str) else f"version_{self.version}"
        return os.path.join(self.root_dir, version, self.sub_dir or "")

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        if self._experiment is None:
            self._experiment = _Writer(log_dir=self.log_dir, **self._kwargs)
        return self._experiment

    def save(self) -> None:
        try:
            super().save()
        except OSError as error:
            log.warning(f"{self.log_dir}/hparams.yaml could not be written ({error.strerror}); the run goes on")


class _Writer(SummaryWriter):
    """Writes until that fails; SummaryWriter raises what its thread met in the middle of whatever comes next."""

    lost = False

    def _get_file_writer(self) -> FileWriter:
        _hush_its_thread()
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
        except Exception as error:  # where TensorFlow is installed, its own kinds and no OSError
            self.lost = True
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            log.warning(
                f"TensorBoard's files in {self.log_dir} could not be written ({reason}); the run goes on without "
                "further curves"
            )


class _Events:
    """An event file, each of whose methods is an attempt."""

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


def _hush_its_thread() -> None:
    """Let TensorBoard's thread end without a traceback; its error comes again where it is dealt with."""
    show = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if type(arguments.thread).__name__ != "_AsyncWriterThread":
            show(arguments)

    hook.hushed = True  # type: ignore[attr-defined]
    if not hasattr(show, "hushed"):
        threading.excepthook = hook
