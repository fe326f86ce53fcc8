"""The package from Python, as in a notebook."""

import json
import logging
import os
import random
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, at_batch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import interp_lightning
from interp_lightning.errors import ConfigError

QUICK = [*TINY, "model=ae", "penalty=none", "trainer.limit_train_batches=2"]


def state_of_the_process() -> tuple:
    """Return all that a run changes in its process and must restore."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    root = logging.getLogger()
    variables = {name for name in os.environ if name.startswith(("HYDRA_", "INTERP_LIGHTNING_"))}
    told = {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "CUBLAS_WORKSPACE_CONFIG")}
    numbers = repr((random.getstate(), np.random.get_state())), torch.get_rng_state().tolist()
    computing = torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    strict = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    return handlers, root.handlers[:], root.level, warnings.showwarning, variables, told, numbers, computing, strict


def test_names_are_listed_and_load_torch_only_when_used():
    code = (
        "import sys, interp_lightning as il\n"
        "assert {'train', 'load_run', 'evaluate', 'compare', 'Run'} <= set(dir(il)) & set(il.__all__)\n"
        "assert 'torch' not in sys.modules and 'hydra' not in sys.modules\n"
        "assert il.load_run.__name__ == 'load_run' and 'torch' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_training_twice_in_one_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = state_of_the_process()
    own = ["trainer.deterministic=true", "trainer.benchmark=true"]
    runs = [interp_lightning.train([*QUICK, *own, f"seed={seed}"]) for seed in (0, 1)]
    interp_lightning.load_run(runs[0].folder)
    assert state_of_the_process() == before
    assert not GlobalHydra.instance().is_initialized()
    assert not HydraConfig.initialized()
    assert len({run.folder for run in runs}) == 2
    for seed, run in enumerate(runs):
        assert run.config["seed"] == seed
        assert run.results == json.loads((run.folder / "results.json").read_text())
        assert repr(run).startswith(f"<Run ae × none on digits in {run.folder}: reconstruction_mse=")
        assert (run.folder / ".hydra" / "config.yaml").is_file()
        assert "Evaluating on the test images" in (run.folder / "run.log").read_text()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["penalty.lam=-1"], r"`penalty.lam` \(=-1\) must be"),
        (["model=gaia"], r"`model` \(=gaia\) must be one of: acai, ae"),
        (["modle=ae"], r"did you mean `model=…`\?"),
        (["seed=0,1"], r"Ambiguous value for argument 'seed=0,1'"),
        (["hydra.mode=MULTIRUN"], r"`hydra.mode` \(=MULTIRUN\) is for sweeps; run them from a shell by -m"),
        ([3], r"`overrides\[\d+\]` \(=3\) must be text; give settings as on the command line"),
        (["trainer=ddp"], r"`trainer.strategy` must be auto in Python"),
    ],
)
def test_a_wrong_setting_raises_our_sentence_and_leaves_nothing(overrides, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = state_of_the_process()
    with pytest.raises(ConfigError, match=sentence):
        interp_lightning.train([*QUICK, *overrides])
    assert state_of_the_process() == before
    assert not GlobalHydra.instance().is_initialized()
    assert not list(tmp_path.iterdir())


def test_ctrl_c_saves_and_raises_keyboard_interrupt(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = state_of_the_process()
    with monkeypatch.context() as patch:
        at_batch(patch, 1, lambda _: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            interp_lightning.train([*QUICK, "trainer.max_epochs=2"])
    assert "Stopped after 0 epochs and 1 batch; everything is in" in capsys.readouterr().err
    assert state_of_the_process() == before
    run = interp_lightning.train([*QUICK, "trainer.max_epochs=2", "ckpt_path=last"])
    assert [run.folder.absolute()] == [path.parent for path in Path.cwd().glob("outputs/*/*/results.json")]
    assert run.results["budget"]["batches"] == 4


@pytest.mark.parametrize("wrong", [None, 3, b"outputs", [None], [3], {"a": "b"}], ids=str)
def test_arguments_of_a_wrong_type_get_a_sentence(wrong):
    for function, name in (
        (interp_lightning.train, "overrides"),
        (interp_lightning.load_run, "folder"),
        (interp_lightning.evaluate, "folder"),
        (interp_lightning.compare, "runs"),
        (lambda value: interp_lightning.evaluate("run", value), "overrides"),
    ):
        with pytest.raises(ConfigError, match=rf"^`{name}[^`]*` \(=.*\) must be (a list|text)"):
            function(wrong)


def test_one_text_is_one_folder_to_compare_but_no_list_of_settings():
    with pytest.raises(ConfigError, match=r"^nowhere is not a folder"):
        interp_lightning.compare("nowhere")
    with pytest.raises(ConfigError, match="must be a list, each text; give settings as on the command line, such as"):
        interp_lightning.train("model=acai")
