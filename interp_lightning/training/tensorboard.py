"""logger=tensorboard: curves over images seen, and what a run and a sweep need to be understood at a glance."""

import inspect
import logging
import os
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.writer import FileWriter

from interp_lightning.system.text import file_name, markdown, printable
from interp_lightning.training import logger as loggers
from interp_lightning.training.logger import Header, Pixels

log = logging.getLogger(__name__)

# Beside what was swept, the settings that HPARAMS shows, and the numbers: last points of curves.
SETTINGS = ("model", "penalty", "model.lam", "penalty.lam", "latent_dim", "optimizer.lr", "seed")
NUMBERS = {
    "interpolation/graph/realism": "realism, graph",
    "interpolation/graph/membership": "membership, graph",
    "interpolation/lerp/realism": "realism, lerp",
    "interpolation/lerp/fid": "FID, lerp",
    "val/autoencoder/reconstruction": "MSE",
}
# Cards of CUSTOM SCALARS: regular expressions of the curves that share a chart.
LAYOUT = {
    "Interpolation": {
        "realism of midpoints": ["Multiline", ["(interpolation|sanity)/[^/]+/realism"]],
        "membership of midpoints": ["Multiline", ["(interpolation|sanity)/[^/]+/membership"]],
        "FID of midpoints": ["Multiline", ["(interpolation|sanity)/[^/]+/fid"]],
    },
    "Players": {
        "autoencoder": ["Multiline", ["train/autoencoder/.*"]],
        "critic": ["Multiline", ["train/critic/.*"]],
        "autoencoder, validation": ["Multiline", ["val/autoencoder/.*"]],
        "critic, validation": ["Multiline", ["val/critic/.*"]],
    },
    "Training and validation": {
        "reconstruction": ["Multiline", ["(train|val)/autoencoder/reconstruction"]],
        "penalty": ["Multiline", ["val/penalty/.*"]],
        "gradient norms": ["Multiline", ["train/gradient_norm/.*"]],
        "learning rates": ["Multiline", ["train/learning_rate/.*"]],
    },
}


_KINDS = {
    bool: (api_pb2.DATA_TYPE_BOOL, "bool_value"),
    int: (api_pb2.DATA_TYPE_FLOAT64, "number_value"),
    float: (api_pb2.DATA_TYPE_FLOAT64, "number_value"),
    str: (api_pb2.DATA_TYPE_STRING, "string_value"),
}


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
            self._experiment = Writer(log_dir=self.log_dir, purge_step=self.purge_step, **self._kwargs)
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log numbers. Lightning adds the epoch, of which nobody needs a chart."""
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)

    def save(self) -> None:
        try:
            super().save()
        except OSError as error:
            log.warning(f"{self.log_dir}/hparams.yaml could not be written ({error.strerror}); the run continues")

    @rank_zero_only
    def show_codes(self, codes: Mapping[str, Tensor], images: int) -> None:
        """Show histograms of codes (n, d) by name: of their numbers, and of their lengths."""
        for name, z in codes.items():
            self.experiment.add_histogram(f"latent/numbers, {name}", z.flatten().cpu(), images)
            self.experiment.add_histogram(f"latent/lengths, {name}", z.norm(dim=1).cpu(), images)

    @rank_zero_only
    def project(self, z: Tensor, labels: Tensor, x: Tensor, images: int) -> None:
        """Show codes (n, d) of images (n, C, H, W) in [−1, 1] in the projector."""
        self.experiment.add_embedding(
            z.cpu(), [*map(str, labels.tolist())], x.cpu().float() / 2 + 0.5, images, tag="codes of test images"
        )


@loggers.rewind.register
def _(logger: TensorBoard, step: int) -> None:
    logger.purge_step = step


@loggers.begin.register
@rank_zero_only
def _(logger: TensorBoard, header: Header) -> None:
    logger.hparams.update(header.settings)
    if logger.version == "":
        logger._version = _folder(logger, header)
    writer = logger.experiment
    writer.add_text("configuration", f"{markdown(header.title)}\n\n{indent(header.yaml, '    ')}", header.images or 0)
    writer.add_custom_scalars(LAYOUT)
    shown = list(dict.fromkeys([*header.swept, *SETTINGS]))
    settings = {name: value for name in shown if (value := _plain(header.settings.get(name))) is not None}
    for summary in _session(settings, header.swept):
        writer._get_file_writer().add_summary(summary)


@loggers.show.register
@rank_zero_only
def _(logger: TensorBoard, name: str, pixels: Pixels, images: int) -> None:
    logger.experiment.add_image(name, pixels, images, dataformats="HWC")


@loggers.log_results.register
@rank_zero_only
def _(logger: TensorBoard, metrics: Mapping[str, float], table: str, images: int) -> None:
    """Log the numbers as a text: charts of one point say nothing."""
    logger.experiment.add_text("results", table, images)
    end = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS)
    logger.experiment._get_file_writer().add_summary(_summary(metadata.SESSION_END_INFO_TAG, session_end_info=end))


def _folder(logger: TensorBoard, header: Header) -> str:
    """Return a name for a run's curves: what was swept; for a run that is resumed by itself, the name they have."""
    if header.swept:
        return file_name(printable(header.name))
    resumed = header.images is not None
    before = {file.parent.name for file in Path(logger.log_dir).glob("*/events*")} if resumed else set()
    return before.pop() if len(before) == 1 else ""


def _plain(value: Any) -> str | float | bool | None:
    """Return a value that HPARAMS can show."""
    return value if value is None or type(value) in _KINDS else str(value)


def _session(settings: Mapping[str, str | float | bool], swept: Collection[str]) -> list[Summary]:
    """Return the summaries that make a run one row of HPARAMS.

    Its table sorts settings by `differs`, then by name, but shows display names: a number in the name keeps our order.
    """
    infos = [
        api_pb2.HParamInfo(name=_ordered(name), display_name=name, type=_KINDS[type(value)][0], differs=name in swept)
        for name, value in settings.items()
    ]
    numbers = [
        api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=title) for tag, title in NUMBERS.items()
    ]
    start = plugin_data_pb2.SessionStartInfo()
    for name, value in settings.items():
        setattr(start.hparams[_ordered(name)], _KINDS[type(value)][1], value)
    return [
        _summary(metadata.EXPERIMENT_TAG, experiment=api_pb2.Experiment(hparam_infos=infos, metric_infos=numbers)),
        _summary(metadata.SESSION_START_INFO_TAG, session_start_info=start),
    ]


def _ordered(name: str) -> str:
    """Return a setting's name with its place among `SETTINGS`, which is the same in every run; others come first."""
    return f"{SETTINGS.index(name) + 1 if name in SETTINGS else 0} {name}"


def _summary(tag: str, **content: Any) -> Summary:
    """Return a summary of HPARAMS. `SummaryWriter.add_hparams` would make another run of each, and sort nothing."""
    data = plugin_data_pb2.HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=data.SerializeToString())
    return Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))])


class Writer(SummaryWriter):
    """Write until the first error. SummaryWriter would raise an error of its thread at an unrelated call."""

    lost = False

    def _get_file_writer(self) -> FileWriter:
        _silence_thread()
        writer: list[FileWriter] = []
        self.attempt(lambda: writer.append(super(Writer, self)._get_file_writer()))
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

    def __init__(self, file: Any, writer: Writer) -> None:
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
