"""Check that this machine has the devices and processes that a run's settings ask for."""

import logging
import os

import lightning as L
import torch
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig
from torch.optim import Optimizer

from interp_lightning.errors import ConfigError
from interp_lightning.steps.guard import skips_by_itself
from interp_lightning.system.processes import MEETING, RANKS, alone, cores, forget_leftovers, started_by_srun

log = logging.getLogger(__name__)


def check_devices(settings: DictConfig) -> None:
    """Raise ConfigError if a trainer's settings ask for a GPU that is missing, or for a precision that it lacks."""
    name, devices, precision = settings.accelerator, settings.devices, settings.precision
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not there):
        if precision == "16-mixed":
            raise ConfigError("`trainer.precision` (=16-mixed) requires a GPU; on a CPU use bf16-mixed or 32-true")
        if devices != "auto" and not (isinstance(devices, int) and devices > 0):
            raise ConfigError(f"`trainer.devices` (={devices}) must be an integer ≥ 1, or auto, on a CPU")
        return
    if name == "mps" or (name == "gpu" and not there and torch.backends.mps.is_available()):
        return
    if not there:
        raise ConfigError(
            f"`trainer.accelerator` (={name}) is not available, or torch does not see it; use trainer=auto"
        )
    if isinstance(devices, int) and devices > there:
        raise ConfigError(f"`trainer.devices` (={devices}) must be ≤ {there}, the number of this machine's GPUs")
    if precision == "bf16-mixed" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigError(
            f"`trainer.precision` (={precision}) is not supported by {torch.cuda.get_device_name()}; use 16-mixed "
            "or 32-true"
        )


def check_recording(trainer: L.Trainer, optimizer: Optimizer) -> None:
    """Raise ConfigError if training steps with such an optimizer cannot be recorded as CUDA graphs."""
    if not isinstance(trainer.accelerator, CUDAAccelerator) or trainer.world_size > 1:
        way_out = "use trainer=gpu" if torch.cuda.is_available() else "torch sees none here"
        raise ConfigError(f"`cuda_graphs` (=true) requires one NVIDIA GPU; {way_out}, or remove it")
    if trainer.precision == "16-mixed":
        raise ConfigError(
            "`cuda_graphs` (=true) and `trainer.precision` (=16-mixed) exclude each other, because its scaler waits "
            "for the GPU; use bf16-mixed or 32-true"
        )
    if not skips_by_itself(optimizer):
        raise ConfigError("`cuda_graphs` (=true) requires a fused Adam or AdamW; use optimizer=adam, or remove it")


def cluster_environment() -> list[ClusterEnvironment]:
    """Return the plugin that tells Lightning which processes exist, where it would not detect them.

    Raises:
        ConfigError: srun has started several processes in a way that Lightning does not support.
    """
    if TorchElasticEnvironment.detect() or not SLURMEnvironment.detect():
        return []
    if not started_by_srun():
        return [LightningEnvironment()]
    try:
        # Lightning would requeue a SLURM job itself, and resume from a file that it does not verify.
        return [SLURMEnvironment(auto_requeue=False)]
    except RuntimeError as error:
        tasks = os.environ["SLURM_NTASKS"]
        raise ConfigError(
            f"srun has started {tasks} processes by --ntasks (SLURM_NTASKS={tasks}); use --nodes and --ntasks-per-node"
        ) from error


def ignore_leftovers(num_nodes: int) -> None:
    """Remove a launcher's variables from the environment of a process that no launcher has started; log a warning.

    A leftover LOCAL_RANK would silence the logger; with a MASTER_ADDR or WORLD_SIZE, devices would wait for others.
    """
    if num_nodes > 1 or not alone():
        return
    if left := forget_leftovers((*RANKS, *MEETING)):
        log.warning(f"Ignored: {', '.join(left)}, as neither torchrun nor srun has started this process.")
    rank_zero_only.rank = 0  # type: ignore[attr-defined]  # Lightning has read it from them


def check_processes(trainer: L.Trainer) -> None:
    """Raise ConfigError if a trainer's devices are more than the cores, or not as many as processes were started."""
    devices = f"`trainer.devices` (={trainer.num_devices})"
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > cores():
        raise ConfigError(f"{devices} must be ≤ {cores()}, the number of cores that this process may use")
    started = TorchElasticEnvironment.detect() or started_by_srun() or "NODE_RANK" in os.environ
    if trainer.num_nodes > 1 and not started:
        raise ConfigError(
            f"`trainer.num_nodes` (={trainer.num_nodes}) requires torchrun or srun, which start processes on each "
            "node; see docs/devices.md"
        )
    for by, variable in ((TorchElasticEnvironment.detect(), "WORLD_SIZE"), (started_by_srun(), "SLURM_NTASKS")):
        if by and int(os.environ[variable]) != trainer.num_devices * trainer.num_nodes:
            raise ConfigError(
                f"{devices} × `trainer.num_nodes` (={trainer.num_nodes}) must be {os.environ[variable]}, the number of "
                f"processes that were started ({variable}); use trainer=ddp with as many devices and nodes"
            )
