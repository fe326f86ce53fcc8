"""One run from start to end: data, model, trainer, fit, evaluation, figures, results.json."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from interp_lightning.data.base import ImageData, mean_image_error
from interp_lightning.data.digits import Digits
from interp_lightning.display.figures import save, skipping
from interp_lightning.display.grid import training_images
from interp_lightning.errors import DataNotFound
from interp_lightning.evaluation.protocol import Evaluation
from interp_lightning.networks.folding import compile_networks
from interp_lightning.runs.build import build, build_model
from interp_lightning.runs.record import run_title
from interp_lightning.runs.relevance import flat
from interp_lightning.system.machine import prepare_cpu, process_restored
from interp_lightning.system.processes import idle_cores
from interp_lightning.training.budget import set_budget
from interp_lightning.training.callbacks.history import Recorder
from interp_lightning.training.callbacks.milestones import Milestones
from interp_lightning.training.devices import check_recording
from interp_lightning.training.logger import Header, logging_to
from interp_lightning.training.outcome import announce, write_outcome
from interp_lightning.training.rehearsal import check_size, rehearse, try_optimizer
from interp_lightning.training.resume import find_checkpoint, settle
from interp_lightning.training.trainer import Job, build_trainer, fit

log = logging.getLogger(__name__)

# Warnings about things that a user cannot change, or that are intended.
IGNORED = (
    ".*LeafSpec.*",  # Lightning 2.6 inspects its batches in a way that torch 2.14 calls deprecated
    ".*step\\(\\) is running without CUDA graph capture",  # the batches before a recording
    "Checkpoint directory .* exists and is not empty",  # ckpt_path=last resumes a run in place
    "Experiment logs directory .* exists and is not empty",  # and CSV curves, see `training.logger.rewind`
)


def train(cfg: DictConfig, folder: Path, choices: Mapping[str, str], job: Job | None = None) -> None:
    """Train, evaluate and draw one cell; write everything to a folder.

    Args:
        cfg: the configuration, checked by `config.check.check_config`.
        folder: the run's folder, which exists.
        choices: the choice in each group of the configuration, such as {"model": "acai", "penalty": "gan"}.
        job: the run's place in a sweep; None for a run by itself.

    Raises:
        ConfigError: settings, data or a checkpoint cannot work; before any training.
    """
    shared = job is not None and not job.alone
    with process_set_up(cfg.threads if cfg.threads != "auto" else 1 if shared else idle_cores()):
        config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True)) | {"choices": dict(choices)}
        L.seed_everything(cfg.seed, verbose=False)

        data: ImageData = build("data", cfg.data, seed=cfg.seed)
        config["data"] |= data.remembered()
        check_size(cfg, data)
        model = build_model(cfg, data)
        model.check(data.batch_size)
        rehearse(cfg, data)
        if cfg.compile:
            compile_networks(model)
        optimizer = try_optimizer(model)
        evaluation: Evaluation = instantiate(cfg.metrics)
        checkpoint = find_checkpoint(cfg.ckpt_path, folder, config, partial(build_model, cfg, data))
        history = Recorder(folder / "figures")
        trainer = build_trainer(cfg, data, folder, [history, Milestones(evaluation, cfg.milestones)], checkpoint, job)
        if cfg.cuda_graphs:
            check_recording(trainer, optimizer)
            model.cuda_graphs = True

        data = load_data(data)
        set_budget(trainer, cfg.trainer, data, checkpoint)
        model.guard.mean_image_error = mean_image_error(data.train)
        if trainer.is_global_zero:
            evaluation.judge(data)  # now, because its weights may be missing
        if job and job.objective:
            evaluation.check(job.objective, data)
        config["data_used"] = data.name
        changed = settle(checkpoint, config) if checkpoint else []
        model.save_hyperparameters(config, logger=False)
        announce(trainer, model, data, folder, checkpoint, changed)
        if trainer.is_global_zero and checkpoint is None:
            with skipping("data"):
                save({"data": training_images(data)}, folder / "figures")
        header = Header(
            title=run_title(config),
            settings=flat(config) | config["choices"],
            swept=job.swept if job else (),
            yaml=OmegaConf.to_yaml(config),
            images=checkpoint.state["images_seen"] if checkpoint else None,
        )
        with logging_to(trainer.loggers, header):
            fit(trainer, model, data, checkpoint)
            if trainer.is_global_zero:
                write_outcome(trainer, model, data, evaluation, history, config, folder, quiet=job is not None)


@contextmanager
def process_set_up(threads: int) -> Iterator[None]:
    """Set up this process for training: its CPU, its precision, its warnings; restore it at the end.

    With as many threads as cores, two runs on two cores were measured to be three to six times slower than with one
    thread each: threads that wait for one another in short operations keep the cores busy.
    """
    lightning = logging.getLogger("lightning.pytorch")
    level = lightning.level
    captured = warnings.showwarning.__module__ == "logging"
    try:
        with process_restored(), warnings.catch_warnings():
            logging.captureWarnings(True)
            for message in IGNORED:
                warnings.filterwarnings("ignore", message=message)
            lightning.setLevel(logging.WARNING)  # the run's own messages say the same
            torch.set_float32_matmul_precision("high")
            prepare_cpu(threads)
            yield
    finally:
        logging.captureWarnings(captured)
        lightning.setLevel(level)


def load_data(data: ImageData) -> ImageData:
    """Load and verify the images; if they are missing, warn and load the data set's fallback."""
    try:
        data.setup()
    except DataNotFound as missing:
        if data.fallback is None:
            raise
        banner = "!" * 100
        log.warning(f"\n{banner}\n{missing}.\nTRAINING ON data={data.fallback} INSTEAD.\n{banner}")
        data = Digits(batch_size=data.batch_size, seed=data.seed)
        data.setup()
    return data
