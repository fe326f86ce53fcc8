"""Find out which launcher has started this process, and its rank. Imports no torch."""

import os
from collections.abc import Sequence

FIRST = "INTERP_LIGHTNING_FIRST"  # tells the processes of further devices the process id of the first one's

# A launcher tells each process its rank by these variables, …
RANKS = ("RANK", "LOCAL_RANK", "GROUP_RANK", "SLURM_PROCID", "SLURM_LOCALID", "JSM_NAMESPACE_RANK")
# … and by these how to reach the others. For a run on several nodes a user may set them by hand.
MEETING = ("NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def rank() -> int:
    """Return this process's rank among those that torchrun, srun or another launcher has started; 0 without one."""
    if launched() and "RANK" in os.environ:
        return max(_number("RANK"), 0)
    return _number("SLURM_PROCID") if started_by_srun() else 0


def alone() -> bool:
    """Return True if no launcher has started this process."""
    return not launched() and not started_by_srun()


def launched() -> bool:
    """Return True if torchrun, Lightning or a similar launcher has started this process beside others."""
    if os.environ.get("TORCHELASTIC_RUN_ID") or FIRST in os.environ:
        return True
    several = _number("WORLD_SIZE") > 1 and "MASTER_ADDR" in os.environ
    return several and ("LOCAL_RANK" in os.environ or "NODE_RANK" in os.environ)


def started_by_srun() -> bool:
    """Return True if srun has started this process as one of SLURM_NTASKS.

    In the shell of an allocation (salloc, sbatch) SLURM_NTASKS says how many processes srun *would* start; there this
    process is the only one. A batch script of one task counts as started by srun. Lightning takes job names like
    "bash" for a shell, and so does this.
    """
    if os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return False
    tasks = _number("SLURM_NTASKS")
    return 0 <= _number("SLURM_PROCID") < tasks and str(tasks) == os.environ.get("SLURM_STEP_NUM_TASKS", "1")


def forget_leftovers(names: Sequence[str]) -> list[str]:
    """Unset a launcher's variables if none has started this process; return them as NAME=value.

    Lightning believes such a variable: a process that takes itself for the fourth of four writes no files.
    """
    return [f"{name}={os.environ.pop(name)}" for name in names if name in os.environ] if alone() else []


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def idle_cores() -> int:
    """Return the number of cores that this process may use and that were idle in the last minute, at least 1."""
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, cores() - round(busy))


def _number(variable: str) -> int:
    """Return an environment variable as an integer, −1 if it is not a number."""
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else -1
