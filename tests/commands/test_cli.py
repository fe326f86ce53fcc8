"""The command line, in processes of its own: help, errors, sweeps, devices, signals, wheels."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import TINY

from interp_lightning.config.resolvers import run_dir, sweep_dir
from interp_lightning.runs.checkpoints import read_checkpoint

REPOSITORY = Path(__file__).parents[2]


def command(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "interp_lightning", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def runs(cwd: Path) -> list[Path]:
    return sorted(path.parent for path in cwd.glob("outputs/**/results.json"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--help"],
            [
                "model: acai, ae",
                "penalty: bhep, cramer_wold, gan, ",
                "data: celeba, cifar10, digits, fashion_mnist",
            ],
        ),
        (["--cfg", "job", "model=ae", "penalty=mmd"], ["models.ae.AE", "kernel: imq"]),
    ],
)
def test_help_and_configuration_do_not_import_torch(arguments, expected, tmp_path):
    code = (
        "import sys\nfrom interp_lightning.commands.train import main\n"
        f"sys.argv[1:] = {arguments!r}\n"
        "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules and 'lightning' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for text in expected:
        assert text in done.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["data=imagenet"], ["`data` (=imagenet) must be one of: celeba, cifar10, digits, fashion_mnist"]),
        (["penalty.lam=-1"], ["`penalty.lam` (=-1) must be ≥ 0; use penalty=none"]),
        (["trainer=gpu", "data=digits"], ["`trainer.accelerator` (=gpu) is not available", "use trainer=auto"]),
    ],
)
def test_errors_are_a_sentence(arguments, expected, invoke, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    status, output = invoke(*arguments)
    assert status == 1
    assert "Traceback" not in output
    assert "Error executing job" not in output
    for text in expected:
        assert text in output


@pytest.mark.parametrize("arguments", [["model=gaia"], [*TINY, "penalty.lam=-1"]])
def test_tracebacks_are_to_be_had(arguments, invoke, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    status, output = invoke(*arguments)
    assert status == 1
    assert "Traceback" in output


def test_two_devices_train_one_model(tmp_path):
    # The child process takes its random port and ranks from the environment, which must not be set already.
    done = command(*TINY, "penalty=gan", "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu",
                   "trainer.limit_train_batches=3", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder,) = runs(tmp_path)
    assert json.loads((folder / "results.json").read_text())["budget"]["images"] == 3 * 64
    assert done.stdout.count("mean squared error") == 1


@pytest.mark.slow
def test_two_nodes_of_torchruns_do_what_one_process_does(tmp_path):
    options = [*TINY, "model=acai", "penalty=wasserstein", "trainer.max_epochs=2", "trainer.limit_train_batches=5"]
    assert command(*options, "name=alone", cwd=tmp_path).returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", f"--node-rank={rank}",
             "--master-addr=127.0.0.1", f"--master-port={port}", "-m", "interp_lightning", *options, "name=nodes",
             "trainer=ddp", "trainer.devices=1", "trainer.num_nodes=2", "trainer.accelerator=cpu"],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, stderr=subprocess.PIPE, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    said = [node.communicate(timeout=300)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], said
    alone, together = sorted(path.parent for path in tmp_path.glob("outputs/*/*/results.json"))
    assert [path.name for path in (tmp_path / "outputs" / "nodes").iterdir()] == [together.name]
    (one, two) = (read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"] for run in (alone, together))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["trainer=ddp", "trainer.devices=1", "trainer.accelerator=cpu"],
            "`trainer.devices` (=1) × `trainer.num_nodes`",
        ),
        (["trainer=cpu"], "`trainer.devices` (=1) × `trainer.num_nodes` (=1) must be 2, the number of processes"),
        (
            ["trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=66"],
            "`data.batch_size` (=66) must be a multiple of 4",
        ),
    ],
)
def test_what_torchrun_has_started_must_fit(options, message, invoke, monkeypatch, tmp_path):
    place = {"TORCHELASTIC_RUN_ID": "it", "WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    status, output = invoke(*TINY, *options)
    assert status == 1
    assert message in output
    assert "Traceback" not in output
    assert not (tmp_path / "outputs").exists()


def test_devices_are_refused_in_a_sweep(invoke, tmp_path):
    status, output = invoke("-m", *TINY, "trainer=ddp", "trainer.accelerator=cpu", "penalty.lam=0.1,1")
    assert status == 1
    assert "`trainer.devices` (=2) must be 1 in a multirun" in output
    assert not runs(tmp_path)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_checkpoint_to_go_on_from(number, status, invoke, tmp_path):
    endless = [option for option in TINY if "max_epochs" not in option]
    process = subprocess.Popen(
        [sys.executable, "-m", "interp_lightning", *endless, "trainer.max_epochs=1000"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while not list(tmp_path.glob("outputs/*/*/checkpoints/last.ckpt")):  # training has begun
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == status, errors
    assert "last.ckpt" in errors
    assert "Traceback" not in errors

    status, output = invoke(*TINY, "ckpt_path=last")
    assert status == 0, output
    (folder,) = runs(tmp_path)
    assert (folder / ".hydra" / "config.yaml").is_file()
    assert len(list(folder.glob(".hydra/continued_*/config.yaml"))) == 1


@pytest.mark.parametrize("devices", [1, 2])
def test_ctrl_c_before_training_ends_every_process(devices, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "interp_lightning", *TINY, "trainer=ddp", f"trainer.devices={devices}",
         "trainer.accelerator=cpu"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        while "everything in" not in process.stderr.readline():  # said just before the devices are connected
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)  # which ends when no process has stderr open any more
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "Interrupted" in errors
    assert "Traceback" not in errors


def test_an_installed_wheel_runs_from_any_folder(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=REPOSITORY, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    zipfile.ZipFile(wheel).extractall(site)
    elsewhere.mkdir()
    done = command(*TINY, "trainer.limit_train_batches=2", cwd=elsewhere, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    assert len(runs(elsewhere)) == 1
    assert json.loads((runs(elsewhere)[0] / "results.json").read_text())["git_commit"] is None


@pytest.mark.parametrize("arguments", ["--help", "--cfg job", "--cfg hydra", "--cfg all", "--info config"])
def test_what_only_prints_leaves_no_folder(arguments, invoke, tmp_path):
    status, output = invoke(*arguments.split())
    assert status == 0, output
    assert "acai" in output
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


@pytest.mark.parametrize("choose", [lambda: run_dir("out", "a", None), lambda: sweep_dir("out", "a", False)])
def test_runs_that_begin_in_the_same_second_lie_in_folders_of_their_own(choose, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len({choose() for _ in range(5)}) == 5
