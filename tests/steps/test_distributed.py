"""Two devices do what one does: the same gradients, weights and validation for every cell of the grid."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from conftest import FEW_CELLS
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.strategies import DDPStrategy
from omegaconf import DictConfig
from torch import Tensor
from torch.multiprocessing import start_processes

from interp_lightning.data.digits import Digits
from interp_lightning.data.sources import Batch
from interp_lightning.errors import ConfigError
from interp_lightning.runs.build import build_model
from interp_lightning.training.devices import check_devices, check_processes, check_recording

EPOCHS, BATCHES = 2, 10
QUEUE = "penalty.queue=100"  # no multiple of the batch: what falls out of it depends on the order of the codes


class Double(Digits):
    """Digits in double precision, in which a difference is no matter of rounding."""

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        images, labels = super().on_after_batch_transfer(batch, dataloader_idx)
        return images.double(), labels


class FirstGradients(L.Callback):
    """Keeps both players' gradients of the first batch."""

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if pl_module.batches_seen == 1:
            self.found = {name: p.grad.clone() for name, p in pl_module.named_parameters()}


def train(rank: int, devices: int, port: int, configurations: dict[str, DictConfig], folder: Path) -> None:
    """One device's process: train every configuration and keep what came of it."""
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(devices)}
    results = {}
    for name, cfg in configurations.items():
        data = Double(batch_size=16)
        L.seed_everything(0, verbose=False)
        gradients = FirstGradients()
        trainer = L.Trainer(
            accelerator="cpu", devices=devices, strategy=DDPStrategy(find_unused_parameters=True),
            precision="64-true", max_epochs=EPOCHS, limit_train_batches=BATCHES, num_sanity_val_steps=0,
            callbacks=[gradients], logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        model = build_model(cfg, data)
        trainer.fit(model, datamodule=data)
        results[name] = {
            "gradients": gradients.found,
            "weights": {key: p.detach() for key, p in model.named_parameters()},
            "reconstruction": trainer.callback_metrics["val/autoencoder/reconstruction"],
        }
    torch.save(results, folder / f"{rank}_of_{devices}.pt")
    torch.distributed.destroy_process_group()


def test_two_devices_do_what_one_does(configure, tmp_path):
    configurations = {
        f"{model} × {penalty}": configure(
            f"model={model}", f"penalty={penalty}", "network.depth=2", "latent_dim=20",
            *([QUEUE] if penalty == "wasserstein" else []),
        )
        for model, penalty in FEW_CELLS
    }  # fmt: skip
    configurations["acai with terms for paths"] = configure(
        "model=acai", "network.depth=2", "latent_dim=20", "model.cycle=0.3", "model.smoothness=0.3"
    )
    for devices in (1, 2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        # A fork would inherit the lock of a thread pool that another test has used.
        start_processes(train, (devices, port, configurations, tmp_path), nprocs=devices, start_method="spawn")
    alone = torch.load(tmp_path / "0_of_1.pt")
    for rank in (0, 1):
        for cell, two in torch.load(tmp_path / f"{rank}_of_2.pt").items():
            one = alone[cell]
            assert _distance(two["gradients"], one["gradients"]) < 1e-6, cell
            assert _distance(two["weights"], one["weights"]) < 1e-6, cell
            # of images that two devices cannot share equally
            torch.testing.assert_close(two["reconstruction"], one["reconstruction"], rtol=1e-6, atol=0, msg=cell)


def _distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The largest difference, relative to the largest number."""
    assert a.keys() == b.keys()
    largest = max(float(value.abs().max()) for value in b.values())
    return max(float((a[key] - b[key]).abs().max()) for key in b) / largest


@pytest.mark.parametrize(
    ("options", "there", "message"),
    [
        (["trainer=gpu"], 0, r"`trainer.accelerator` \(=gpu\) is not available"),
        (["trainer=gpu", "trainer.accelerator=cuda"], 0, r"`trainer.accelerator` \(=cuda\) is not available"),
        (
            ["trainer=gpu", "trainer.devices=3"],
            2,
            r"`trainer.devices` \(=3\) must be ≤ 2, the number of this machine's",
        ),
        (["trainer=auto", "trainer.devices=3"], 2, r"`trainer.devices` \(=3\) must be ≤ 2"),
        (
            ["trainer=gpu"],
            1,
            r"`trainer.precision` \(=bf16-mixed\) is not supported by Tesla; use 16-mixed or 32-true",
        ),
    ],
)
def test_gpus_that_there_are_not(options, there, message, configure, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla")
    with pytest.raises(ConfigError, match=message):
        check_devices(configure(*options).trainer)


@pytest.mark.parametrize(
    ("settings", "fused", "message"),
    [
        (
            {"accelerator": CPUAccelerator()},
            True,
            r"requires one NVIDIA GPU; (use trainer=gpu|torch sees none)",
        ),
        ({"world_size": 2}, True, r"requires one NVIDIA GPU"),
        ({"precision": "16-mixed"}, True, r"`trainer.precision` \(=16-mixed\) exclude each other.*use bf16-mixed"),
        ({}, False, r"requires a fused Adam or AdamW; use optimizer=adam, or"),
    ],
)
def test_steps_that_cannot_be_recorded(settings, fused, message):
    trainer = {"accelerator": CUDAAccelerator(), "world_size": 1, "precision": "bf16-mixed"}
    optimizers = [torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], fused=each) for each in (fused, True)]
    with pytest.raises(ConfigError, match=r"`cuda_graphs` \(=true\).*" + message):
        check_recording(SimpleNamespace(**trainer | settings), optimizers[0])
    check_recording(SimpleNamespace(**trainer), optimizers[1])


@pytest.mark.parametrize(
    ("options", "there"),
    [(["trainer=auto"], 0), (["trainer=cpu"], 1), (["trainer=gpu", "trainer.precision=32-true"], 1)],
)
def test_gpus_that_there_are(options, there, configure, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    check_devices(configure(*options).trainer)


def test_nodes_that_nobody_starts():
    trainer = L.Trainer(
        accelerator="cpu", devices=1, num_nodes=2, strategy="ddp", logger=False, enable_checkpointing=False
    )
    with pytest.raises(ConfigError, match=r"`trainer.num_nodes` \(=2\) requires torchrun or srun"):
        check_processes(trainer)


def test_more_processes_than_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    trainer = L.Trainer(accelerator="cpu", devices=3, logger=False, enable_checkpointing=False)
    with pytest.raises(ConfigError, match=r"`trainer.devices` \(=3\) must be ≤ 2, the number of cores"):
        check_processes(trainer)
