"""Set up the CPU, and measure cores and memory."""

import ctypes
import math
import platform
from contextlib import suppress
from pathlib import Path

import torch

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3


GIB = 2**30


def prepare_cpu(threads: int) -> None:
    """Set up this process's CPU: its threads, its memory, and no time for denormal numbers."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    keep_memory()


def keep_memory() -> None:
    """Let this process keep what memory it has once had.

    Otherwise every activation of a training step is fetched from the system and given back to it, page by page: a step
    of `ae` × `mmd` with the paper's network took a quarter more time.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, GIB)
        libc.mallopt(M_TRIM_THRESHOLD, GIB)


def free_memory() -> float:
    """Bytes that this process can still take, of the machine's and of its control group's; infinite if not known."""
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
