"""Loggers: what each of them gets. A logger that fails ends with a sentence, and never a run.

Any logger of Lightning is one yaml in conf/logger. If it takes a folder, `save_dir` or `root_dir`, it gets the run's.
"""

import csv
import inspect
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, singledispatch, wraps
from pathlib import Path
from typing import Any

import numpy as np
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from jaxtyping import UInt8
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.utilities import rank_zero_only

from interp_lightning.errors import ConfigError
from interp_lightning.runs.jobs import short
from interp_lightning.system.conf import find
from interp_lightning.system.text import shortened

log = logging.getLogger(__name__)

RESULTS = "test/"  # before the names of the evaluation's numbers
CALLED = ("log_metrics", "log_hyperparams", "log_image", "save", "finalize", "after_save_checkpoint")
WAYS_OUT = {
    "WandbLogger": "logger.offline=true, or ",
    "MLFlowLogger": "logger.tracking_uri=sqlite:///mlflow.db, or ",
}
# MLflow waits minutes for a server by itself.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
LOCAL = (TensorBoardLogger, CSVLogger)  # they open files, and that late

Pixels = UInt8[np.ndarray, "H W channels"]


@dataclass(frozen=True)
class Header:
    """What a run is.

    Args:
        title: its cell and data.
        settings: by dotted name.
        swept: dotted names of the settings in which the jobs of its sweep differ.
        yaml: its whole configuration.
        images: that it has seen before it is resumed; None for a new run.
    """

    title: str
    settings: Mapping[str, Any]
    swept: Sequence[str]
    yaml: str
    images: int | None

    @property
    def name(self) -> str:
        """What distinguishes a job of a sweep, as `lam=0.01,seed=1`; the title of a run by itself."""
        return swept_name({key: self.settings.get(key) for key in self.swept}) or self.title


def swept_name(settings: Mapping[str, Any]) -> str:
    """Name a run by settings, each by the last part of its name if that is clear.

    Example:
        >>> swept_name({"penalty.lam": 0.01, "seed": 1}), swept_name({"penalty.lam": 0.01, "model.lam": 0.1})
        ('lam=0.01,seed=1', 'penalty.lam=0.01,model.lam=0.1')
    """
    return ",".join(f"{name}={value}" for name, value in zip(short([*settings]), settings.values(), strict=True))


def build_loggers(settings: Mapping[str, Any], folder: Path) -> list[Logger]:
    """Build the logger of a configuration, or its `members`.

    Raises:
        ConfigError: a package is missing, or a logger cannot be opened.
    """
    several = settings["_target_"] == f"{__name__}.{build_loggers.__name__}"
    return [_built(part, folder) for part in (settings["members"].values() if several else [settings])]


def _built(settings: Mapping[str, Any], folder: Path) -> Logger:
    """Build a logger whose methods never raise."""
    kind = settings["_target_"].rpartition(".")[2]
    for name, value in PATIENCE.items() if kind == "MLFlowLogger" else ():
        os.environ.setdefault(name, value)
    try:
        logger = instantiate(settings, **_place(settings["_target_"], folder))
    except InstantiationException as error:
        if isinstance(missing := error.__cause__, ModuleNotFoundError):
            package = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}.get(kind, missing.name or "")
            install = f"pip install {package}" if package else shortened(" ".join(str(missing).split()), 200)
            raise ConfigError(
                f"`logger` ({kind}) requires a package that is not installed: {install}, or use logger=tensorboard"
            ) from error
        raise
    if not isinstance(logger, Logger):
        raise ConfigError(
            f"`logger` builds a {type(logger).__name__}, but must build a logger of Lightning; set logger._target_ to "
            "one, or use logger=tensorboard"
        )
    if not isinstance(logger, LOCAL):
        try:
            getattr(logger, "experiment", None)  # a server is asked now, before any long work
        except Exception as error:
            reason = shortened(" ".join(str(error).split()), 200)
            raise ConfigError(
                f"`logger` ({kind}) cannot be opened ({reason}); mend that, or use {WAYS_OUT.get(kind, '')}"
                "logger=tensorboard"
            ) from error
    for name in CALLED:
        if hasattr(logger, name):
            setattr(logger, name, _tolerant(logger, getattr(logger, name)))
    return logger


def _place(target: str, folder: Path) -> dict[str, Path]:
    """Return the argument by which a logger's class takes the run's folder, if it takes one."""
    try:
        parameters = inspect.signature(find(target)).parameters
    except Exception:  # a class in C, or one that cannot be imported: building it raises again and explains it
        return {}
    return {name: folder for name in ("save_dir", "root_dir") if name in parameters}


@contextmanager
def logging_to(loggers: Sequence[Logger], header: Header) -> Iterator[None]:
    """Begin a run in its loggers, and close them at the end, also of a run that fails."""
    for logger in loggers:
        if header.images is not None:  # what is logged before the first batch is logged again
            attempt(logger, rewind, logger, header.images and header.images + 1)
        attempt(logger, begin, logger, header)
    try:
        yield
    finally:
        for logger in loggers:
            attempt(logger, close, logger)


def attempt(logger: Logger, action: Callable[..., Any], *arguments: Any, **others: Any) -> Any:
    """Do something with a logger, unless something has failed before; warn of the first failure."""
    if getattr(logger, "lost", False):
        return None
    try:
        return action(*arguments, **others)
    except Exception as error:  # of any library: a server that is gone, a full disk
        logger.lost = True  # type: ignore[attr-defined]
        reason = getattr(error, "strerror", None) or shortened(" ".join(str(error).split()), 200)
        log.warning(f"{type(logger).__name__} has failed ({reason}); the run continues without it")
        return None


def _tolerant(logger: Logger, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def tolerant(*arguments: Any, **others: Any) -> Any:
        return attempt(logger, method, *arguments, **others)

    return tolerant


@singledispatch
def rewind(logger: Logger, step: int) -> None:
    """Remove the points from a step on, because a resumed run logs them again.

    A logger without such a function keeps them; what a resumed run logs is another run to it.
    """


@singledispatch
def begin(logger: Logger, header: Header) -> None:
    """Log what a run is."""
    logger.log_hyperparams(dict(header.settings))


@singledispatch
def show(logger: Logger, name: str, pixels: Pixels, images: int) -> None:
    """Show a picture, if a logger can.

    Args:
        logger: where.
        name: of the picture, with its group before a slash.
        pixels: (H, W, 3), or (H, W, 1) in grey.
        images: number that the model has been trained on.
    """


def viewers(loggers: Sequence[Logger]) -> list[Logger]:
    """Return the loggers that can show pictures."""
    return [logger for logger in loggers if show.dispatch(type(logger)) is not show.dispatch(Logger)]


@singledispatch
def log_results(logger: Logger, metrics: Mapping[str, float], table: str, images: int) -> None:
    """Log the metrics of a run's evaluation.

    Args:
        logger: where.
        metrics: by name.
        table: the same in Markdown, with their meaning.
        images: number that the model has been trained on.
    """
    logger.log_metrics({f"{RESULTS}{name}": value for name, value in metrics.items()}, images)


@singledispatch
def close(logger: Logger) -> None:
    """Close what a logger keeps open, so that the next run of this process has its own."""


class NoLogger(Logger):
    """Log nothing."""

    name, version = "none", 0

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        pass

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass


@rewind.register
@rank_zero_only
def _(logger: CSVLogger, step: int) -> None:
    """Log the earlier rows of a CSV file again: Lightning deletes the file when it opens it."""
    path = Path(logger.log_dir, ExperimentWriter.NAME_METRICS_FILE)
    if not path.exists():  # a run in a new folder
        return
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.DictReader(line.replace("\0", "") for line in file)
        rows = [row for row in reader if None not in (*row, *row.values())]  # a kill may have cut the last one
    for row in rows:
        at = row.pop("step", "")
        points: Any = {  # text, written as it is
            name: value for name, value in row.items() if value and not name.startswith(RESULTS)
        }
        if points and at.isdecimal() and int(at) < step:
            logger.log_metrics(points, int(at))
    logger.save()


@show.register
def _(logger: WandbLogger, name: str, pixels: Pixels, images: int) -> None:
    logger.log_image(name, [pixels.squeeze(2) if pixels.shape[2] == 1 else pixels], images)


@show.register
def _(logger: MLFlowLogger, name: str, pixels: Pixels, images: int) -> None:
    attempt(logger, partial(logger.experiment.log_image, logger.run_id, pixels, key=name, step=images))


@begin.register
def _(logger: WandbLogger, header: Header) -> None:
    logger.log_hyperparams(dict(header.settings))
    attempt(logger, setattr, logger.experiment, "name", header.name)


@begin.register
def _(logger: MLFlowLogger, header: Header) -> None:
    logger.log_hyperparams(dict(header.settings))
    attempt(logger, logger.experiment.set_tag, logger.run_id, "mlflow.runName", header.name)


@close.register
def _(logger: WandbLogger) -> None:
    attempt(logger, logger.experiment.finish)
