"""Log how a run starts, and write how it ends."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L

from interp_lightning.comparison.verdicts import shortcomings
from interp_lightning.data.base import ImageData
from interp_lightning.display.tables import print_results, results_markdown
from interp_lightning.evaluation.protocol import Evaluation
from interp_lightning.models.base import Autoencoder
from interp_lightning.runs.record import budget, new_results, run_title
from interp_lightning.runs.results import write_results
from interp_lightning.system.text import counted
from interp_lightning.training.callbacks.history import Recorder
from interp_lightning.training.logger import log_results
from interp_lightning.training.resume import Checkpoint

log = logging.getLogger(__name__)


def announce(
    trainer: L.Trainer,
    model: Autoencoder,
    data: ImageData,
    folder: Path,
    checkpoint: Checkpoint | None,
    changed: Sequence[str],
) -> None:
    """Log the cell, the budget, the folder, and the checkpoint that the run resumes from."""
    if not trainer.is_global_zero:
        return
    parameters = sum(parameter.numel() for parameter in model.parameters())
    log.info(
        f"{run_title(dict(model.hparams))}: {parameters:,} parameters, {len(data.train):,} images, "
        f"{counted(trainer.max_epochs or 0, 'epoch')}, everything in {folder}"
    )
    if checkpoint is not None:
        log.info(f"Resuming after {counted(checkpoint.batches_seen, 'batch')}, from {checkpoint.path}")
    if changed:
        log.warning(f"Resuming with other settings than before: {', '.join(changed)}")


def write_outcome(
    trainer: L.Trainer,
    model: Autoencoder,
    data: ImageData,
    evaluation: Evaluation,
    history: Recorder,
    config: dict[str, Any],
    folder: Path,
    quiet: bool,
) -> None:
    """Evaluate a trained model; draw all figures, write results.json, and print the numbers unless `quiet`."""
    log.info("Evaluating on the test images …")
    model.to(trainer.strategy.root_device)
    evaluation.folder = folder
    assessment = evaluation(model, data)
    _warn(model, assessment.metrics["reconstruction_mse"])
    state: dict[str, Any] = {}
    model.on_save_checkpoint(state)
    results = new_results(config, budget(state, history.seconds)) | assessment.results()
    write_results(folder, results)  # before pictures, which may fill a disk
    history.draw_images()
    history.draw_summary(assessment, trainer)
    for logger in trainer.loggers:
        log_results(logger, results["metrics"], results_markdown(results), model.images_seen)
        logger.finalize("success")
    if not quiet:
        print_results(results, folder, shortcomings(folder, results))


def _warn(model: Autoencoder, error: float) -> None:
    """Warn about skipped steps, and about a model that is worse than the mean training image."""
    if model.guard.skipped:
        log.warning(f"Skipped {counted(model.guard.skipped, 'step')} because of NaN or infinite gradients")
    if error > model.guard.mean_image_error:
        log.warning(
            f"This model has not learned: its reconstructions (MSE {error:.4g}) are worse than the mean image "
            f"({model.guard.mean_image_error:.4g}); train longer, or change optimizer.lr or λ"
        )
