"""A process knows which launcher has started it, and does not believe variables that were left over."""

import os

import pytest

from interp_lightning.system.processes import RANKS, alone, forget_leftovers, rank

STEP = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, None),
        ({"RANK": "3", "LOCAL_RANK": "3"}, None),
        ({"RANK": "3", "WORLD_SIZE": "1", "MASTER_ADDR": "localhost", "LOCAL_RANK": "3"}, None),
        ({"RANK": "3", "TORCHELASTIC_RUN_ID": "x"}, 3),
        ({"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "localhost", "LOCAL_RANK": "3"}, 3),
        ({"SLURM_PROCID": "3"}, None),
        (STEP, None),  # in the shell of an allocation
        (STEP | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
        (STEP | {"SLURM_STEP_NUM_TASKS": "4"}, 3),
        (STEP | {"SLURM_STEP_NUM_TASKS": "4", "SLURM_JOB_NAME": "bash"}, None),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, 0),  # a batch script of one task
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "3"}, None),
        ({"SLURM_NTASKS": "nine", "SLURM_PROCID": "-1"}, None),
    ],
)
def test_a_rank_is_believed_if_a_launcher_gave_it(variables, expected, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "TORCHELASTIC_")) or name in RANKS]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert alone() == (expected is None)
    assert rank() == (expected or 0)
    stray = [f"{name}={value}" for name, value in variables.items() if name in RANKS and expected is None]
    assert sorted(forget_leftovers(RANKS)) == sorted(stray)
    assert not stray or not any(name in os.environ for name in RANKS)
