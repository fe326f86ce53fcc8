"""Sweeps on other engines: the cores of a machine, a cluster, a search; each with one folder and one summary."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import TINY
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from interp_lightning.config import launchers
from interp_lightning.data.digits import Digits
from interp_lightning.data.lines import Lines
from interp_lightning.errors import ConfigError
from interp_lightning.evaluation.protocol import Evaluation
from interp_lightning.runs import jobs as jobs_on_disk
from interp_lightning.runs import sweeps
from interp_lightning.system import processes

SWEEP = ["-m", *TINY, "model=ae", "trainer.limit_train_batches=4"]
SEARCH = [*SWEEP, "hydra/sweeper=optuna", "sweep.objective=reconstruction_mse"]

# A cluster of this one machine: it does the jobs of an array at once.
SBATCH = """#!/usr/bin/env python3
import os, re, subprocess, sys
script = sys.argv[-1]
for task in range(int(re.search(r"--array=0-([0-9]+)", open(script).read())[1]) + 1):
    ids = {"SLURM_JOB_ID": str(78 + task), "SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": str(task)}
    place = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NTASKS": "1"}
    nodes = {"SLURM_JOB_NAME": "run", "SLURM_NODELIST": "localhost", "SLURM_JOB_NUM_NODES": "1"}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(["bash", script], env=os.environ | ids | place | nodes, **silent)
print("Submitted batch job 77")
"""
SRUN = """#!/bin/bash
while [[ $1 == -* ]]; do
    case $1 in --output | --error) shift ;; esac
    shift
done
exec "$@"
"""
SACCT = """#!/bin/bash
echo "JobID|State|NodeList"
"""
MINE = '''
import os
from pathlib import Path

from interp_lightning.penalties import Penalty


class Kills(Penalty):
    """With λ = 1 it ends a process from training, the first time."""

    def forward(self, z, prior):
        if self.lam == 1 and self.training and z.requires_grad and not Path("killed").exists():
            Path("killed").touch()
            os.kill({process}, {number})
        return z.square().mean()
'''


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> None:
    """SLURM's commands, as far as a sweep needs them."""
    (tmp_path / "bin").mkdir()
    for name, script in {"sbatch": SBATCH, "srun": SRUN, "sacct": SACCT}.items():
        path = tmp_path / "bin" / name
        path.write_text(script)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def kills(tmp_path, monkeypatch) -> Callable[[int, str], None]:
    """A penalty from outside the package that sends a signal."""

    def write(number: int, process: str) -> None:
        (tmp_path / "mine.py").write_text(MINE.format(number=int(number), process=process))
        (tmp_path / "my_conf" / "penalty").mkdir(parents=True)
        (tmp_path / "my_conf" / "penalty" / "kills.yaml").write_text("_target_: mine.Kills\nlam: 0.1\n")
        monkeypatch.syspath_prepend(tmp_path)

    return write


def jobs(folder: Path) -> list[dict]:
    """What became of the jobs of a sweep, by their numbers."""
    return [json.loads((folder / str(n) / "job.json").read_text()) for n in range(len(list(folder.glob("*/job.json"))))]


def only_sweep(tmp_path: Path) -> Path:
    (folder,) = (path.parent for path in tmp_path.glob("outputs/*/*/summary.md"))
    return folder


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "submitit_slurm"])
@pytest.mark.usefixtures("cluster")
def test_every_launcher_does_all_jobs_and_names_the_one_that_failed(launcher, invoke, tmp_path):
    status, output = invoke(*SWEEP, f"hydra/launcher={launcher}", "penalty.lam=0.1,-1,1")
    assert status == 1, output
    assert "Traceback" not in output
    folder = only_sweep(tmp_path)
    assert [job["status"] for job in jobs(folder)] == ["finished", "failed", "finished"]
    assert "| 1 | penalty.lam=-1 | failed | `penalty.lam` (=-1)" in (folder / "summary.md").read_text()
    assert len(list(tmp_path.glob("outputs/**/results.json"))) == 2
    assert "2 of 3 jobs finished" in output
    assert output.count("Report: ") == 1
    for number in "02":
        assert (folder / number / "run.log").is_file()


def test_a_killed_process_of_joblibs_costs_no_finished_job(invoke, kills, tmp_path):
    kills(signal.SIGKILL, "os.getpid()")
    command = ["--config-dir", "my_conf", *SWEEP, "penalty=kills", "penalty.lam=0.1,0.2,1", "hydra/launcher=joblib"]
    command += ["hydra.launcher.n_jobs=2"]
    status, output = invoke(*command)
    assert status == 1
    assert "The process of a job was killed" in output
    assert "Traceback" not in output
    folder = only_sweep(tmp_path)
    *others, killed = [job["status"] for job in jobs(folder)]  # which began when one of the others had finished
    assert killed == "unfinished"
    assert "finished" in others

    status, output = invoke(*command, "sweep.resume=true")
    assert status == 0, output
    assert output.count("Finished before: ") == others.count("finished")
    assert [job["status"] for job in jobs(folder)] == ["finished"] * 3


def test_jobs_of_joblibs_can_read_from_a_disk(invoke, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "data")
    status, output = invoke(*SWEEP, "data._target_=test_data.DigitsOnDisk", "hydra/launcher=joblib", "seed=0,1")
    assert status == 0, output


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            "hydra/sweeper=optuna sweep.objective=fun penalty.lam=interval(0,1)",
            "`sweep.objective` (='fun') must be one of",
        ),
        ("penalty.lam=interval(0,1)", "hydra/sweeper=optuna searches in intervals"),
        (
            "hydra/launcher=submitit_slurm penalty.lam=1,2",
            "hydra/launcher=submitit_slurm requires SLURM, and there is no srun",
        ),
        ("hydra/launcher=joblib hydra.launcher.n_jobs=0 penalty.lam=1,2", "n_jobs == 0 in Parallel has no meaning"),
        ("hydra/launcher=joblib hydra.launcher.n_jobs=many penalty.lam=1,2", "Value 'many' of type 'str'"),
        ("hydra.launcher.n_jobs=2 penalty.lam=1,2", "`hydra.launcher.n_jobs` is no setting of this run; --cfg hydra"),
    ],
)
def test_sweeps_that_cannot_be(settings, sentence, invoke, tmp_path):
    status, output = invoke(*SWEEP, *settings.split())
    assert status == 1
    assert sentence in output
    assert "Traceback" not in output
    assert not list(tmp_path.glob("outputs/*"))


def test_a_search_goes_by_its_objective_and_can_be_resumed(invoke, tmp_path):
    search = [
        *SEARCH,
        "hydra.sweeper.n_trials=4",
        "penalty.lam=tag(log,interval(1e-3,10))",
        "optimizer.lr=choice(0.01,-1)",
    ]
    status, output = invoke(*search)
    folder = only_sweep(tmp_path)
    found = jobs(folder)
    assert {job["status"] for job in found} == {"finished", "failed"}
    assert status == 1  # as in any sweep with a job that failed
    assert "| lam | lr | status | MSE ↓ |" in (folder / "summary.md").read_text()
    assert "Traceback" not in output
    results = [json.loads(path.read_text()) for path in folder.glob("*/results.json")]
    best = min(results, key=lambda each: each["metrics"]["reconstruction_mse"])
    said = yaml.safe_load((folder / "optimization_results.yaml").read_text())
    assert said["best_value"] == best["metrics"]["reconstruction_mse"]
    assert said["best_params"]["penalty.lam"] == best["config"]["penalty"]["lam"]

    status, output = invoke(*search, "sweep.resume=true")
    assert output.count("Finished before: ") == len(results)
    assert [job["overrides"] for job in jobs(folder)] == [job["overrides"] for job in found]
    assert yaml.safe_load((folder / "optimization_results.yaml").read_text()) == said


@pytest.mark.parametrize(("trials", "table"), [(0, False), (2, True)])
def test_a_search_of_which_no_job_finishes_says_so(trials, table, invoke):
    status, output = invoke(*SEARCH, f"hydra.sweeper.n_trials={trials}", "penalty.lam=interval(-2,-1)")
    assert status == 1
    assert "no job has finished; the table has each one's error, and if there is none, hydra.sweeper.n_trials" in output
    assert ("of 2 jobs finished" in output) == table
    assert "Traceback" not in output


def test_a_job_that_a_cluster_starts_again_goes_on(configure, tmp_path):
    cfg = configure(*TINY)
    folder = tmp_path / "sweep" / "0"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / ".hydra").mkdir()
    OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
    assert sweeps.begin(folder, cfg, [])
    assert cfg.ckpt_path is None
    (folder / "checkpoints" / "last.ckpt").touch()
    assert sweeps.begin(folder, cfg, [])
    assert cfg.ckpt_path == "last"
    jobs_on_disk.record_job(folder, [], jobs_on_disk.FINISHED)
    assert not sweeps.begin(folder, cfg, [])


@pytest.mark.parametrize(("choice", "package"), launchers.PACKAGES.items())
def test_what_is_not_installed_is_named(choice, package, invoke):
    kind = package.rsplit("-", 1)[1]

    def before() -> None:
        launchers.set_up()
        ConfigStore.instance().repo["hydra"][kind].pop(f"{choice}.yaml", None)

    status, output = invoke(*SWEEP, f"hydra/{kind}={choice}", "penalty.lam=1,2", before=before)
    assert status == 1
    assert output.strip() == f"hydra/{kind}={choice} is not installed: pip install {package}"


@pytest.mark.parametrize(
    ("objective", "features", "data", "wants"),
    [
        ("fid_midpoints_lerp", None, Digits(16), "metrics.features"),
        ("fid_midpoints_lerp", "auto", Lines(16), "metrics.features"),
        ("lines_smoothness_lerp", "auto", Digits(16), "data=lines"),
        ("score_flow_constant", "auto", Digits(16), "flow in metrics.paths"),
        ("fid_midpoints_graph", "auto", Digits(16), "another kind of path"),
    ],
)
def test_an_objective_that_is_not_measured(objective, features, data, wants):
    with pytest.raises(ConfigError, match=rf"`sweep.objective` \(={objective}\) is not measured .*{wants}"):
        Evaluation(features=features).check(objective, data)


@pytest.mark.parametrize(
    ("objective", "features", "data"),
    [
        ("reconstruction_mse", None, Digits(16)),
        ("latent_w2", None, Lines(16)),
        ("fid_midpoints_lerp", "auto", Digits(16)),
        ("lines_smoothness_lerp", "auto", Lines(16)),
    ],
)
def test_an_objective_that_is_measured(objective, features, data):
    Evaluation(features=features).check(objective, data)


@pytest.mark.parametrize(("objective", "way"), [("fid_prior", "minimize"), ("realism_midpoints_lerp", "maximize")])
def test_a_search_knows_which_way_is_better(objective, way):
    assert launchers.direction(objective) == way


@pytest.mark.parametrize(("load", "idle"), [(0.0, 8), (0.4, 8), (2.7, 5), (7.0, 1), (30.0, 1)])
def test_idle_cores_are_those_without_load(monkeypatch, load, idle):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    assert processes.idle_cores() == idle


def test_jobs_share_the_cores_out(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert [launchers.jobs_at_once(threads) for threads in (1, 2, 3, 8, 9, "auto")] == [8, 4, 2, 1, 1, 8]
    for launcher, batch, trials in (("basic", None, 1), ("joblib", None, 4), ("submitit_local", 4, 4)):
        choices = OmegaConf.create({launchers.LAUNCHER: launcher})
        assert launchers.batch_of_jobs(choices, 2) == batch
        assert launchers.trials_at_once(choices, 2) == trials


def test_sigterm_ends_a_sweep_and_its_processes(invoke, kills):
    kills(signal.SIGTERM, "os.getppid()")
    status, output = invoke(
        "--config-dir", "my_conf", *SWEEP, "penalty=kills", "penalty.lam=1,1", "hydra/launcher=joblib",
        "trainer.limit_train_batches=1.0", "trainer.max_epochs=10000",
    )  # fmt: skip
    assert status == 128 + signal.SIGTERM, output
    assert "Interrupted" in output
    assert "0 of 2 jobs finished" in output
