"""Set up the CPU, and measure free memory."""

import ctypes
import math
import os
import platform
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import torch

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
DOCUMENTED = 2**25  # bytes, the limit of M_MMAP_THRESHOLD in mallopt's manual; newer versions allow more

GIB = 2**30
# Environment variables by which Lightning tells child processes of seeds and determinism.
TOLD = ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "CUBLAS_WORKSPACE_CONFIG")


@contextmanager
def process_restored() -> Iterator[None]:
    """Restore at the end what this process computes with: random states, threads, precision, determinism."""
    numbers = random.getstate(), np.random.get_state(), torch.get_rng_state()
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    deterministic, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    cudnn = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    told = {name: os.environ.get(name) for name in TOLD}
    try:
        yield
    finally:
        for name, value in told.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = cudnn
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
        random.setstate(numbers[0])
        np.random.set_state(numbers[1])
        torch.set_rng_state(numbers[2])
        if gpus is None:
            torch.cuda.manual_seed_all(torch.initial_seed())  # as a GPU's generator starts
        else:
            torch.cuda.set_rng_state_all(gpus)


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Compute with gradients on one CPU thread, in full precision, with seeded random draws; then go back.

    The bits of a result then follow from its inputs, however the process has been set up for other work.
    """
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    flushes = torch.tensor(torch.finfo(torch.float32).tiny).div(2).item() == 0  # torch has no getter
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            torch.manual_seed(seed)
            torch.set_float32_matmul_precision("highest")
            prepare_cpu(1, keep_memory=False)
            yield
        finally:
            torch.set_num_threads(threads)
            torch.set_flush_denormal(flushes)
            torch.set_float32_matmul_precision(precision)


def prepare_cpu(threads: int, *, flush_denormal: bool = True, keep_memory: bool = True) -> None:
    """Set up this process's CPU. Benchmarks switch off single parts to measure them.

    Args:
        threads: number of threads.
        flush_denormal: set denormal numbers to 0, because arithmetic with them is slow.
        keep_memory: keep freed memory in this process instead of returning it to the system.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(flush_denormal)
    if keep_memory:
        _keep_memory()
    if not torch.cuda.is_available():
        # Lightning sets it to 1, by which every step of an optimizer looks for a GPU for a tenth of a millisecond.
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"


def _keep_memory() -> None:
    """Keep freed memory in this process.

    Otherwise each training step gets the pages of every activation from the system and returns them: a step of
    `ae` × `mmd` with the paper's network took a quarter more time.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        _ = libc.mallopt(M_MMAP_THRESHOLD, GIB) or libc.mallopt(M_MMAP_THRESHOLD, DOCUMENTED)
        libc.mallopt(M_TRIM_THRESHOLD, GIB)


def free_memory() -> float:
    """Return the bytes that the machine and this process's control group can still allocate; infinity if unknown."""
    free = math.inf
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = 1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    with suppress(OSError, ValueError):  # no file, or "max", which sets no limit
        most, used = (
            int(Path("/sys/fs/cgroup", name).read_text(encoding="utf-8")) for name in ("memory.max", "memory.current")
        )
        free = min(free, most - used)
    return free
