"""One run, top to bottom: data, model, trainer, fit, evaluate, figures, results.json."""

import hashlib
import json
import logging
import shlex
import subprocess
import sys
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from interp_lightning import __version__
from interp_lightning.callbacks.interrupt import Interrupt
from interp_lightning.callbacks.progress import Progress
from interp_lightning.callbacks.recorder import Recorder
from interp_lightning.data.base import ImageData
from interp_lightning.data.digits import Digits
from interp_lightning.errors import CheckpointError, ConfigError, DataNotFound, check_integer
from interp_lightning.evaluate import encode_all, evaluate
from interp_lightning.models.base import Autoencoder

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
    torch.set_num_threads(check_integer("threads", cfg.threads, least=1))
    # Lightning 2.6 looks at its batches in a way that torch 2.14 calls deprecated; nothing a user could do.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # Going on in a run's own folder is what ckpt_path=last is for.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    config["choices"] = {key: str(value) for key, value in HydraConfig.get().runtime.choices.items() if "/" not in key}
    seed = check_integer("seed", cfg.seed, most=2**32 - 1)
    L.seed_everything(seed, verbose=False)

    data: ImageData = instantiate(cfg.data, seed=seed)
    model = build_model(cfg, data)
    model.check(data.batch_size)
    try:
        model.configure_optimizers()
    except (ValueError, TypeError) as error:
        raise ConfigError(f"`optimizer` cannot be set up: {error}; --cfg job prints its settings") from error
    model.save_hyperparameters(config, logger=False)
    checkpoint = find_checkpoint(cfg.ckpt_path, folder, config)
    data = load_data(data)
    cell = f"{config['choices']['model']} × {config['choices']['penalty']}"
    substitute = "" if data.name == config["choices"]["data"] else f" (instead of {config['choices']['data']})"
    title = f"{cell} on {data.name}{substitute}"

    recorder = Recorder(folder / "figures", title, model, data)
    trainer = build_trainer(cfg, model, data, folder, recorder, checkpoint)
    if trainer.is_global_zero:
        log.info(
            f"{title}: {sum(p.numel() for p in model.parameters()):,} parameters, {len(data.train):,} images, "
            f"{trainer.max_epochs} time(s), everything in {folder}"
        )
        if checkpoint is not None:
            log.info(f"Going on after {checkpoint.batches_seen:,} batches, from {checkpoint.path}")
    trainer.fit(
        model, datamodule=data, ckpt_path=None if checkpoint is None else str(checkpoint.path), weights_only=True
    )
    if trainer.limit_val_batches == 0:  # then no callback has saved
        trainer.save_checkpoint(folder / "checkpoints" / "last.ckpt", weights_only=False)
    if not trainer.is_global_zero:
        return

    log.info("Evaluating on the test images …")
    model.to(trainer.strategy.root_device)
    train, test = encode_all(model, data.train), encode_all(model, data.test)
    metrics = evaluate(train, test, data.classes)
    recorder.draw_images(trainer)
    recorder.draw_summary(test.z, test.labels, trainer)

    results = {
        "model": config["choices"]["model"],
        "penalty": config["choices"]["penalty"],
        "data": data.name,
        "data_asked_for": config["choices"]["data"],
        "seed": seed,
        "budget": {"epochs": trainer.current_epoch, "images": recorder.images, "seconds": round(recorder.seconds, 1)},
        "images_per_second": round(recorder.images_per_second, 1),
        "versions": {package: version(package) for package in ("torch", "lightning", "torchvision", "hydra-core")}
        | {"interp_lightning": __version__, "python": sys.version.split()[0]},
        "git_commit": git_commit(),
        "config_hash": config_hash(config),
        "metrics": metrics,
    }
    log.info(f"Done: {metrics}")
    (folder / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    for logger in trainer.loggers:
        logger.log_hyperparams(
            flat(config) | {"data": data.name}, {f"test/{name}": value for name, value in metrics.items()}
        )
        logger.finalize("success")
    report(results, title, folder)


def build_model(cfg: DictConfig, data: ImageData) -> Autoencoder:
    """The model that a configuration describes, for the images of a data set."""
    return instantiate(
        cfg.model,
        network=instantiate(cfg.network, image_shape=data.image_shape, latent_dim=cfg.latent_dim),
        penalty=instantiate(cfg.penalty, _convert_="all"),
        optimizer=instantiate(cfg.optimizer),
        schedule=instantiate(cfg.schedule),
        seed=cfg.seed,
    )


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
    model: Autoencoder,
    data: ImageData,
    folder: Path,
    recorder: Recorder,
    checkpoint: "Checkpoint | None",
) -> L.Trainer:
    """Lightning's Trainer, with everything in the run's folder."""
    checkpoints = folder / "checkpoints"
    callbacks: list[Callback] = [
        recorder,
        # Two callbacks, as one with save_last=True writes last.ckpt only when the best one has changed.
        *(
            ModelCheckpoint(
                checkpoints,
                filename=name,
                monitor=monitor,
                save_on_train_epoch_end=False,  # after validation, which a resumed run would otherwise skip
                enable_version_counter=False,
            )
            for name, monitor in (("best", "val/autoencoder/reconstruction"), ("last", None))
        ),
        Interrupt(checkpoints / "last.ckpt"),
    ]
    if cfg.trainer.enable_progress_bar:
        callbacks.append(Progress(model, data))
    # A continued run draws over the points that came after its checkpoint.
    logger = instantiate(cfg.logger, save_dir=folder, purge_step=checkpoint and checkpoint.batches_seen)
    for key in ("log_every_n_steps", "check_val_every_n_epoch"):
        check_integer(f"trainer.{key}", cfg.trainer[key], least=1)
    if cfg.trainer.limit_train_batches == 0:
        raise ConfigError("`trainer.limit_train_batches` (=0) must be > 0, as there is nothing to learn from otherwise")
    epochs = check_integer(
        "trainer.max_epochs",
        data.epochs if cfg.trainer.max_epochs is None else cfg.trainer.max_epochs,
        least=1,
        way_out="a run can be ended before by trainer.max_time=DD:HH:MM:SS or Ctrl-C",
    )
    trainer: L.Trainer = instantiate(
        cfg.trainer,
        max_epochs=epochs,
        default_root_dir=folder,
        logger=logger,
        callbacks=callbacks,
    )
    if trainer.world_size > 1 and cfg.trainer.strategy == "auto":
        raise ConfigError(f"`trainer.devices` (={cfg.trainer.devices}) must be 1 unless with trainer=ddp; add it")
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


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that this run can go on from."""

    path: Path
    batches_seen: int


def find_checkpoint(ckpt_path: str | None, folder: Path, config: dict[str, Any]) -> Checkpoint | None:
    """The checkpoint to go on from, verified to be readable and of the same model; None to start afresh."""
    if ckpt_path is None:
        return None
    path = folder / "checkpoints" / "last.ckpt" if ckpt_path == "last" else Path(ckpt_path)
    if not path.is_file():
        where = f"no run in {folder.parent} has one" if ckpt_path == "last" else "there is no such file"
        raise CheckpointError(f"`ckpt_path` (={ckpt_path}) names no checkpoint: {where}; leave it out to start afresh")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        theirs, batches_seen = state["hyper_parameters"], state["batches_seen"]
    except Exception as error:  # whichever a damaged file happens to raise: it is refused all the same
        raise CheckpointError(
            f"`ckpt_path` (={path}) is no readable checkpoint of this project ({type(error).__name__}); use another"
        ) from error
    for key in ("model", "penalty", "network"):
        if theirs["choices"][key] != config["choices"][key]:
            raise CheckpointError(
                f"`ckpt_path` (={path}) holds {key}={theirs['choices'][key]}, but this run has "
                f"{key}={config['choices'][key]}; choose the same or start afresh without ckpt_path"
            )
    for key, mine in {"latent_dim": config["latent_dim"], **config["network"]}.items():
        other = theirs["latent_dim"] if key == "latent_dim" else theirs["network"].get(key)
        if other != mine:
            raise CheckpointError(
                f"`ckpt_path` (={path}) holds a model with {key}={other}, but this run has {key}={mine}; set it back "
                "or start afresh without ckpt_path"
            )
    return Checkpoint(path, batches_seen)


def report(results: dict[str, Any], title: str, folder: Path) -> None:
    """Print the numbers and where everything is."""
    table = Table(title=title, title_justify="left")
    table.add_column("metric (test images)")
    table.add_column("value", justify="right")
    for name, value in results["metrics"].items():
        table.add_row(name.replace("_", " "), f"{value:.1%}" if name.endswith("accuracy") else f"{value:.4f}")
    table.add_row("images per second", f"{results['images_per_second']:,.0f}")
    table.add_row("seconds of training", f"{results['budget']['seconds']:,.0f}")
    console = Console()
    console.print(table)
    for what, where in (
        ("Pictures", folder / "figures"),
        ("Numbers", folder / "results.json"),
        ("Go on", folder / "checkpoints" / "last.ckpt"),
    ):
        if where.exists():  # trainer.fast_dev_run leaves no checkpoint
            console.print(f"{what + ':':10}{where}", soft_wrap=True, highlight=False)
    console.print(f"Curves:   tensorboard --logdir {shlex.quote(str(folder.parent))}", soft_wrap=True, highlight=False)


def git_commit() -> str | None:
    """The commit of the checkout that this code runs from; None for an installed package."""
    checkout = Path(__file__).parent.parent
    if not (checkout / ".git").exists():
        return None
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def config_hash(config: dict[str, Any]) -> str:
    """SHA-256 of everything in the configuration but where it reads and writes."""
    relevant = {key: value for key, value in config.items() if key not in ("outputs", "ckpt_path")}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names, as on the command line."""
    settings: dict[str, Any] = {}
    for key, value in config.items():
        settings |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return settings
