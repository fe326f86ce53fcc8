"""The sweeps in conf/sweep: each of their jobs can be composed, and costs what its file says."""

import json
import math
import re
from itertools import product
from pathlib import Path

import pytest
from conftest import TINY, compose_checked
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from interp_lightning.system.conf import CONF, choices

MINUTES = 7  # of a run on MNIST


def swept(choice: str) -> dict[str, list[str]]:
    """The values of each swept key of a preset."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", [f"+sweep={choice}"], return_hydra_config=True)
    assert cfg.hydra.mode == RunMode.MULTIRUN
    return {key: str(values).split(",") for key, values in cfg.hydra.sweeper.params.items()}


@pytest.mark.parametrize("choice", choices("sweep"))
def test_every_job_of_a_preset_is_a_run(choice, tmp_path):
    values = swept(choice)
    for job in product(*values.values()):
        overrides = [f"{key}={value}" for key, value in zip(values, job, strict=True)]
        cfg, chosen = compose_checked(tmp_path, [f"+sweep={choice}", *overrides])
        assert chosen["sweep"] == choice
        assert cfg.sweep.objective == "score_graph_constant"


@pytest.mark.parametrize("choice", choices("sweep"))
def test_a_preset_says_what_it_costs(choice):
    runs = math.prod(map(len, swept(choice).values()))
    assert len(swept(choice)["seed"]) == 3
    text = (CONF / "sweep" / f"{choice}.yaml").read_text().replace("\n# ", " ")
    assert re.search(r"(\d+) runs, about (\d+) minutes", text)[0] == f"{runs} runs, about {runs * MINUTES} minutes"


def test_a_preset_needs_no_m_takes_other_values_and_can_be_resumed(invoke, tmp_path):
    command = [*TINY, "trainer.limit_train_batches=4", "model=ae", "+sweep=penalties", "penalty=none,mmd", "seed=0"]
    status, output = invoke(*command)
    assert status == 0, output
    (folder,) = tmp_path.glob("outputs/penalties/*")
    assert {path.parent.name for path in folder.glob("*/results.json")} == {"0", "1"}
    assert json.loads((folder / "0" / "job.json").read_text())["overrides"][:2] == ["penalty=none", "seed=0"]
    status, output = invoke(*command, "sweep.resume=true")
    assert status == 0, output
    assert output.count("Finished before: ") == 2
    assert Path(output.splitlines()[-1].split()[-1]) == folder / "comparison" / "report.html"
