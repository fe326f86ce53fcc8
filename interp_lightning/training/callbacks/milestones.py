"""Show in every logger, several times in a run, how its interpolations get on."""

from collections.abc import Iterator, Mapping

import lightning as L
import torch
from torch import Tensor

from interp_lightning.data.base import ImageData
from interp_lightning.display import figures
from interp_lightning.display.grid import mosaic, pixels_of
from interp_lightning.evaluation.preview import Preview, some_of
from interp_lightning.evaluation.protocol import Evaluation
from interp_lightning.metrics.catalogue import SANITY, parse
from interp_lightning.models.base import Autoencoder
from interp_lightning.paths.base import Path
from interp_lightning.training.logger import NoLogger, Pixels, show, viewers
from interp_lightning.training.tensorboard import TensorBoard

STEPS = 11  # frames of a path
ROWS, COLUMNS = 6, 10  # of samples
CODES = 500  # in histograms, at most
LEAST = 64  # pixels to a side of a picture's images: smaller ones are enlarged


class Milestones(L.Callback):
    """Measure midpoints and show pictures before a run and at equal distances in it: of the same images each time.

    Args:
        evaluation: knows the judge.
        number: of milestones in a run; 0 for none, also before it.
    """

    def __init__(self, evaluation: Evaluation, number: int) -> None:
        self.evaluation, self.number = evaluation, number
        self._reached = -1  # the number of the last milestone

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Autoencoder)
        if all(isinstance(logger, NoLogger) for logger in trainer.loggers):
            self.number = 0
        self._reached = self._passed(trainer, pl_module)
        if self.number and trainer.is_global_zero:
            data: ImageData = trainer.datamodule  # type: ignore[attr-defined]
            self._preview = Preview(data, self.evaluation.judge(data))
            self._x = figures.examples(data)
            self._more = some_of(data.test, data, CODES)
            if not pl_module.batches_seen:
                self._show(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Autoencoder)
        if (passed := self._passed(trainer, pl_module)) > self._reached:
            self._reached = passed
            if trainer.is_global_zero:
                self._show(trainer, pl_module)

    def _passed(self, trainer: L.Trainer, model: Autoencoder) -> int:
        """Return how many milestones a run has passed."""
        return model.batches_seen * self.number // (int(trainer.num_training_batches) * (trainer.max_epochs or 1))

    @torch.no_grad()
    def _show(self, trainer: L.Trainer, model: Autoencoder) -> None:
        training, images = model.training, model.images_seen
        model.eval()
        with figures.skipping("a milestone"):
            paths = self._preview.paths(model)
            numbers = self._preview(model, paths)
            for logger in trainer.loggers if numbers else ():
                logger.log_metrics({_tag(name): value for name, value in numbers.items()}, images)
            shown_by = viewers(trainer.loggers)
            for name, pixels in self._pictures(model, paths) if shown_by else ():
                for logger in shown_by:
                    show(logger, name, pixels, images)
            codes = {"images": model.encode(self._more.to(model.device)), "prior": _prior(model, CODES)}
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoard):
                    logger.show_codes(codes, images)
        model.train(training)

    def _pictures(self, model: Autoencoder, paths: Mapping[str, Path]) -> Iterator[tuple[str, Pixels]]:
        x = self._x.to(model.device)
        x_a, x_b = x.chunk(2)
        for how, path in paths.items():
            between = model.interpolate(x_a, x_b, STEPS, path)
            yield f"paths/{how}", _pixels(torch.cat([x_a[:, None], between, x_b[:, None]], 1))
        rows = torch.stack([x, model.decode(model.encode(x))]).unflatten(1, (2, -1)).transpose(0, 1)
        yield "reconstructions/image above reconstruction", _pixels(rows.flatten(0, 1))
        drawn = model.decode(_prior(model, ROWS * COLUMNS))
        yield "samples/prior", _pixels(drawn.unflatten(0, (ROWS, COLUMNS)))
        for name, (predicted, target) in model.critic_predictions(model(self._more.to(model.device))).items():
            yield f"predictions/{name}", pixels_of(figures.predictions(predicted, target, name))


def _tag(name: str) -> str:
    """Return a number's curve: those of the model first, by path, and those of baselines in a group that comes later.

    Example:
        >>> _tag("realism_midpoints_graph"), _tag("fid_midpoints_blend")
        ('interpolation/graph/realism', 'sanity/blend/fid')
    """
    kind = parse(name)[1]
    group = "sanity" if kind in SANITY else "interpolation"
    return f"{group}/{kind.removeprefix('midpoints_')}/{name.removesuffix(f'_{kind}')}"


def _prior(model: Autoencoder, number: int) -> Tensor:
    """Draw codes from the prior, always with the same noise."""
    noise = torch.randn(number, model.latent_dim, generator=torch.Generator().manual_seed(0))
    return model.penalty.prior(noise.to(model.device))


def _pixels(images: Tensor) -> Pixels:
    """Put images (R, C, channels, H, W) side by side, and enlarge small ones."""
    pixels = (255 * mosaic(images.cpu())).round().byte()
    times = -(-LEAST // images.shape[-1])
    return pixels.repeat_interleave(times, 0).repeat_interleave(times, 1).numpy()
