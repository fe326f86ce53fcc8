"""What a process asks of the machine that it runs on."""

import ctypes
import platform

import torch

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
GIB = 2**30


def prepare_cpu(threads: int) -> None:
    """Set up this process's CPU: its threads, its memory, and no time for denormal numbers.

    Without the second, every activation of a training step is fetched from the system and given back to it, page by
    page: a step of the default network took a quarter more time.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, GIB)
        libc.mallopt(M_TRIM_THRESHOLD, GIB)
