"""Find out which launcher has started this process, and its rank. Imports no torch."""

import os

FIRST = "INTERP_LIGHTNING_FIRST"  # tells the processes of further devices the process id of the first one's


# Variables by which a launcher tells a process its place among others.
PLACES = ("RANK", "LOCAL_RANK", "GROUP_RANK", "SLURM_PROCID", "SLURM_LOCALID", "JSM_NAMESPACE_RANK")


def rank() -> int:
    """Return the number of this process among those that torchrun, srun or another launcher has started."""
    return max(_number("RANK"), 0) if launched() and "RANK" in os.environ else _srun_rank()


def forget_stray_ranks() -> list[str]:
    """Unset what a launcher has left in the environment of a process that it has not started; return the settings.

    Lightning believes such a variable, and a process that takes itself for the fourth of four writes no files.
    """
    if launched() or _srun_rank() or "SLURM_STEP_ID" in os.environ:
        return []
    return [f"{name}={os.environ.pop(name)}" for name in PLACES if name in os.environ]


def launched() -> bool:
    """Return whether torchrun, Lightning or a launcher like them has started this process, beside others."""
    if os.environ.get("TORCHELASTIC_RUN_ID") or FIRST in os.environ:
        return True
    several = _number("WORLD_SIZE") > 1 and "MASTER_ADDR" in os.environ
    return several and ("LOCAL_RANK" in os.environ or "NODE_RANK" in os.environ)


def _srun_rank() -> int:
    """Return this process's number among the tasks of srun, 0 outside of one."""
    several = _number("SLURM_NTASKS") > 1 and os.environ.get("SLURM_STEP_NUM_TASKS") == os.environ["SLURM_NTASKS"]
    return max(_number("SLURM_PROCID"), 0) if several else 0


def _number(variable: str) -> int:
    """Return an environment variable as a number, −1 if it is none."""
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else -1


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
