"""The package from Python, as in a notebook."""

import json
import logging
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

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
    return handlers, root.handlers[:], root.level, warnings.showwarning, torch.get_num_threads(), variables


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
    runs = [interp_lightning.train([*QUICK, f"seed={seed}"]) for seed in (0, 1)]
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
        (["model=vqvae"], r"`model` \(=vqvae\) must be one of: acai, ae"),
        (["modle=ae"], r"did you mean `model=…`\?"),
        (["seed=0,1"], r"Ambiguous value for argument 'seed=0,1'"),
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


def test_ctrl_c_saves_and_raises_keyboard_interrupt(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = state_of_the_process()
    with monkeypatch.context() as patch:
        at_batch(patch, 1, lambda _: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            interp_lightning.train([*QUICK, "trainer.max_epochs=2"])
    assert state_of_the_process() == before
    run = interp_lightning.train([*QUICK, "trainer.max_epochs=2", "ckpt_path=last"])
    assert [run.folder.absolute()] == [path.parent for path in Path.cwd().glob("outputs/*/*/results.json")]
    assert run.results["budget"]["batches"] == 4
