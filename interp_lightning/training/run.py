"""One run, top to bottom: data, model, trainer, fit, evaluate, figures, results.json."""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, OmegaConf

from interp_lightning.comparison.tables import shortcomings
from interp_lightning.data.base import ImageData, mean_image_error
from interp_lightning.data.digits import Digits
from interp_lightning.display.tables import report
from interp_lightning.errors import INTERRUPTED, CheckpointError, ConfigError, DataNotFound
from interp_lightning.evaluation.protocol import Evaluation
from interp_lightning.models.base import Autoencoder
from interp_lightning.networks.folding import compile_networks
from interp_lightning.runs.build import build, build_model
from interp_lightning.runs.record import budget, new_results, title
from interp_lightning.runs.relevance import Effect, changes, flat
from interp_lightning.runs.results import write_results
from interp_lightning.runs.sweeps import LAUNCHER, SWEEPER
from interp_lightning.system.console import fail
from interp_lightning.system.disk import replace
from interp_lightning.system.machine import prepare_cpu
from interp_lightning.system.processes import FIRST
from interp_lightning.training.callbacks.critics import Critics
from interp_lightning.training.callbacks.history import Recorder
from interp_lightning.training.callbacks.progress import Progress
from interp_lightning.training.callbacks.saver import Saver, seconds
from interp_lightning.training.checkpoints import AtomicCheckpointIO, Best
from interp_lightning.training.devices import (
    check_devices,
    check_processes,
    check_recording,
    cluster_environment,
    ignore_leftovers,
)
from interp_lightning.training.rehearsal import check_size, rehearse
from interp_lightning.training.resume import Checkpoint, find_checkpoint

log = logging.getLogger(__name__)


def run(cfg: DictConfig) -> None:
    """Train, evaluate and draw one cell; everything that it leaves is in Hydra's output folder.

    Raises:
        ConfigError: for settings, data and checkpoints that cannot work; before any training.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    logging.captureWarnings(True)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # the run says itself what it does
    torch.set_float32_matmul_precision("high")
    # With as many threads as cores, two runs on two cores were measured to be three to six times slower than with one,
    # because threads that wait for one another in short operations keep the cores busy.
    prepare_cpu(cfg.threads)
    # Lightning 2.6 looks at its batches in a way that torch 2.14 calls deprecated; nothing a user could do.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # The batches before a recording are not recorded.
    warnings.filterwarnings("ignore", message=".*step\\(\\) is running without CUDA graph capture")
    # Going on in a run's own folder is what ckpt_path=last is for.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    config["choices"] = {key: str(value) for key, value in HydraConfig.get().runtime.choices.items() if "/" not in key}
    L.seed_everything(cfg.seed, verbose=False)

    data: ImageData = build("data", cfg.data, seed=cfg.seed)
    check_size(cfg, data)
    model = build_model(cfg, data)
    model.check(data.batch_size)
    rehearse(cfg, data)
    if cfg.compile:
        compile_networks(model)
    optimizer = try_optimizer(model)
    evaluation: Evaluation = instantiate(cfg.metrics)
    checkpoint = find_checkpoint(cfg.ckpt_path, folder, config, partial(build_model, cfg, data))
    recorder = Recorder(folder / "figures")
    trainer = build_trainer(cfg, data, folder, recorder, checkpoint)
    if cfg.cuda_graphs:
        check_recording(trainer, optimizer)
        model.cuda_graphs = True

    data = load_data(data)
    trainer.fit_loop.max_epochs = 1 if cfg.trainer.fast_dev_run else cfg.trainer.max_epochs or data.epochs
    # trainer.fast_dev_run would limit the steps, of which each player takes its own.
    trainer.fit_loop.epoch_loop.max_steps = -1
    check_budget(trainer, data, cfg.trainer.max_time, checkpoint)
    model.guard.mean_image_error = mean_image_error(data.train)
    evaluation.judge(data)  # if it is not to be had, now is the time to say so
    if HydraConfig.get().runtime.choices[SWEEPER] != "basic":
        evaluation.check(cfg.sweep.objective, data)
    config["data_used"] = data.name
    changed = changed_settings(checkpoint.config, config) if checkpoint and cfg.ckpt_path == "last" else []
    if checkpoint and changes(checkpoint.config, config, Effect.WEIGHTS):
        checkpoint.state["guard"]["levels"] = {}  # of losses with other weights, or of other data
    model.save_hyperparameters(config, logger=False)
    if trainer.is_global_zero:
        log.info(
            f"{title(config)}: {sum(p.numel() for p in model.parameters()):,} parameters, {len(data.train):,} images, "
            f"{trainer.max_epochs} time(s), everything in {folder}"
        )
        if checkpoint is not None:
            log.info(f"Resuming after {checkpoint.batches_seen:,} batches, from {checkpoint.path}")
        if changed:
            log.warning(f"Resuming with other settings than before: {', '.join(changed)}")
        if checkpoint is not None and cfg.ckpt_path != "last":
            # So that the new run has one from before, whatever happens.
            (folder / "checkpoints").mkdir(exist_ok=True)
            replace(folder / "checkpoints" / "last.ckpt", checkpoint.path.read_bytes())
    with ending_together(trainer):
        trainer.fit(
            model, datamodule=data, ckpt_path=None if checkpoint is None else str(checkpoint.path), weights_only=True
        )
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # whose threads can otherwise abort a process that ends
    if not trainer.is_global_zero:
        return

    log.info("Evaluating on the test images …")
    model.to(trainer.strategy.root_device)
    assessment = evaluation(model, data)
    recorder.draw_images(trainer)
    recorder.draw_summary(assessment, trainer)
    if model.guard.skipped:
        log.warning(f"{model.guard.skipped:,} steps were skipped because of NaN or infinite gradients")
    if assessment.metrics["reconstruction_mse"] > model.guard.mean_image_error:
        log.warning(
            f"This model has not learned: its reconstructions (MSE {assessment.metrics['reconstruction_mse']:.4g}) are "
            f"worse than the mean image ({model.guard.mean_image_error:.4g}); train longer, or change optimizer.lr or λ"
        )
    state: dict[str, Any] = {}
    model.on_save_checkpoint(state)
    results = new_results(config, budget(state, recorder.seconds)) | assessment.results()
    write_results(folder, results)
    for logger in trainer.loggers:
        logger.log_hyperparams(flat(config), {f"test/{name}": value for name, value in results["metrics"].items()})
        logger.finalize("success")
    report(results, folder, shortcomings(folder, results))


@contextmanager
def ending_together(trainer: L.Trainer) -> Iterator[None]:
    """Let Ctrl-C before training end the run with status 130, and every device's process with the first one's.

    Left to Lightning the status would be 1 or, of several devices, 137; and if the first process is killed before the
    devices are connected, nothing would tell the others for half an hour.
    """
    done = threading.Event()
    previous = signal.getsignal(signal.SIGINT)
    if trainer.local_rank == 0:
        signal.signal(signal.SIGINT, lambda *_: fail(INTERRUPTED, 130))
        os.environ[FIRST] = str(os.getpid())  # inherited by the processes that `fit` starts
    elif first := os.environ.get(FIRST):  # not set by torchrun or SLURM, which look after their processes

        def watch() -> None:
            while not done.wait(1):
                if os.getppid() != int(first):
                    os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()
        signal.signal(signal.SIGINT, previous)
        if trainer.local_rank == 0:
            del os.environ[FIRST]


def try_optimizer(model: Autoencoder) -> torch.optim.Optimizer:
    """An optimizer like the model's; raises ConfigError if its settings do not fit, which some show at a step only."""
    try:
        model.configure_optimizers()
        number = torch.nn.Parameter(torch.zeros(1))
        number.grad = torch.zeros(1)
        optimizer = model.optimizer([number])
        optimizer.step()
    except (ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"`optimizer` cannot be set up: {reason}; --cfg job prints its settings") from error
    return optimizer


def check_budget(trainer: L.Trainer, data: ImageData, max_time: str | None, checkpoint: Checkpoint | None) -> None:
    """Raise ConfigError if no batches or no time are left to train, or no batches to validate with."""
    for name, batches in (("train", len(data.train_dataloader())), ("val", len(data.val_dataloader()))):
        limit = getattr(trainer, f"limit_{name}_batches")
        if isinstance(limit, float) and 0 < limit * batches < 1:
            raise ConfigError(
                f"`trainer.limit_{name}_batches` (={limit}) leaves none of {batches} batches; use a number of them, or "
                f"a share ≥ {1 / batches:.2g}"
            )
    if 0 < len(data.val) < 2 * trainer.world_size:
        raise ConfigError(
            f"`trainer.devices` (={trainer.world_size} in all) must be ≤ {len(data.val) // 2}, as each validates with "
            f"at least 2 of the {len(data.val)} validation images"
        )
    if checkpoint is not None and checkpoint.epoch >= (trainer.max_epochs or 1):
        raise ConfigError(
            f"`trainer.max_epochs` (={trainer.max_epochs}) must be ≥ {checkpoint.epoch + 1}, the epoch in which "
            f"{checkpoint.path} was written"
        )
    if checkpoint is not None and max_time is not None and checkpoint.elapsed >= seconds(max_time):
        raise ConfigError(
            f"`trainer.max_time` (={max_time}) must be above {checkpoint.elapsed:,.0f} seconds, for which "
            f"{checkpoint.path} has been trained; raise it, or leave it out"
        )


def changed_settings(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is different from when a run was started that is resumed in its own folder.

    Raises:
        CheckpointError: its data.
    """
    if before["data_used"] != now["data_used"]:
        raise CheckpointError(
            f"`ckpt_path` (=last) resumes a run on data={before['data_used']}, but this one has "
            f"data={now['data_used']}; set it back, or start another run from the file by ckpt_path=FILE"
        )
    return changes(before, now, *(effect for effect in Effect if effect is not Effect.NOTHING))


def load_data(data: ImageData) -> ImageData:
    """Load and verify the images, or those of the data set's fallback where there are none; that is said loudly."""
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


def build_trainer(
    cfg: DictConfig,
    data: ImageData,
    folder: Path,
    recorder: Recorder,
    checkpoint: Checkpoint | None,
) -> L.Trainer:
    """Lightning's Trainer, with everything in the run's folder."""
    checkpoints = folder / "checkpoints"
    callbacks: list[Callback] = [
        recorder,
        Critics(),
        Best(checkpoints, "best", "val/autoencoder/reconstruction"),
        Saver(checkpoints / "last.ckpt", cfg.checkpoint.every_minutes, cfg.trainer.max_time),
    ]
    if cfg.trainer.enable_progress_bar:
        hydra = HydraConfig.get()
        alone = hydra.mode == RunMode.RUN or hydra.runtime.choices[LAUNCHER] == "basic"
        callbacks.append(Progress() if alone else Progress(f"Job {hydra.job.num}", moving=False))
    # A continued run draws over the points that came after its checkpoint.
    logger = instantiate(cfg.logger, save_dir=folder, purge_step=checkpoint and checkpoint.batches_seen)
    check_devices(cfg.trainer)
    ignore_leftovers(cfg.trainer.num_nodes)
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        max_time=None,  # which Saver sees to: Lightning's timer validates in the middle of an epoch, and saves nothing
        default_root_dir=folder,
        logger=logger,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(checkpoint.state if checkpoint else None), *cluster_environment()],
    )
    # Its handler of SIGTERM waits for the other devices, which may never come; Saver has one of its own.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    if trainer.world_size > 1 and cfg.trainer.strategy == "auto":
        raise ConfigError(
            f"`trainer.devices` (={cfg.trainer.devices}) and `trainer.num_nodes` (={cfg.trainer.num_nodes}) must be 1 "
            "unless with trainer=ddp; add it"
        )
    check_processes(trainer)
    if trainer.world_size > 1 and HydraConfig.get().mode == RunMode.MULTIRUN:
        raise ConfigError(
            f"`trainer.devices` (={cfg.trainer.devices}) must be 1 in a multirun, because every further process would "
            "start the whole sweep again; run the points one by one"
        )
    if trainer.world_size > 1 and data.batch_size % (2 * trainer.world_size):
        raise ConfigError(
            f"`data.batch_size` (={data.batch_size}) must be a multiple of {2 * trainer.world_size}, twice the number "
            "of devices that share it"
        )
    return trainer
