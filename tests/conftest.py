"""Shared by all tests: composed configurations, runs in this process, small models."""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
import typechecks  # noqa: F401, before the modules that it checks
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hypothesis import settings
from hypothesis import strategies as st
from lightning.fabric.utilities import registry
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf, open_dict
from torchvision.datasets import MNIST as TorchvisionMNIST

from interp_lightning import __main__ as program
from interp_lightning.commands.settings import read_settings
from interp_lightning.config import launchers, resolvers  # noqa: F401, register names that conf/ uses
from interp_lightning.config.check import check_config
from interp_lightning.functional import devices
from interp_lightning.models.acai import ACAI
from interp_lightning.models.ae import AE
from interp_lightning.models.base import Autoencoder
from interp_lightning.networks.fast import FastNetwork
from interp_lightning.penalties.base import Penalty
from interp_lightning.system.conf import CONF, choices, find, read
from interp_lightning.training.callbacks.history import Recorder
from interp_lightning.training.run import train

# No timing stands in a test, and a red build is red again.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

torch.set_num_threads(1)  # as in a run
# Shells have what runs in their background ignore it, and so would all that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

IMAGE_SHAPE = (1, 32, 32)
QUICK = ["metrics.restarts=1", "metrics.images=100", "metrics.pairs=8", "metrics.steps=4"]  # for any command
TINY = [
    "data=digits",
    "data.batch_size=64",
    "trainer=cpu",
    "network.depth=4",
    "trainer.enable_progress_bar=false",
    "trainer.max_epochs=1",
    "milestones=0",
    "metrics.features=null",
    *QUICK,
]


def call(module: Any, *arguments: str) -> None:
    """Do a command line's work in this process."""
    module.work(read_settings(list(arguments), module.Settings))


# New yaml files get their tests by being there.
MODELS, PENALTIES = choices("model"), choices("penalty")
CELLS = [
    (model, penalty)
    for model in MODELS
    for penalty in PENALTIES
    if penalty == "none" or find(read(CONF / "model" / f"{model}.yaml")["_target_"]).takes_penalty
]


# One cell for each model and each penalty, where every cell would take too long.
HEADLINE = ("acai", "wasserstein")
FEW_CELLS = [cell for cell in CELLS if cell[0] == HEADLINE[0] or cell[1] == HEADLINE[1] or cell == ("vqvae", "none")]


def on_a_gpu(test: Any) -> Any:
    """Mark a test for `.ci/gpu`."""
    return pytest.mark.gpu(pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")(test))


FEW_KILLS = 20


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=FEW_KILLS, help="of a run in test_resume.py; more are for every cell")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "killed_cell" in metafunc.fixturenames:
        many = metafunc.config.getoption("kills") > FEW_KILLS
        metafunc.parametrize("killed_cell", CELLS if many else [("acai", "wasserstein")], ids=" × ".join)


@pytest.fixture(autouse=True)
def _denormal_numbers() -> None:
    """Undo what runs in this process have set: Hypothesis wants the numbers that it draws to exist."""
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's cache out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TorchvisionMNIST, "mirrors", ["file:///nowhere/"])


@pytest.fixture(autouse=True)
def _blank_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make figures small and blank, as drawing is half of the time of a tiny run; not in tests marked `pictures`."""
    if not request.node.get_closest_marker("pictures"):
        make = Figure.__init__
        monkeypatch.setattr(Figure, "__init__", lambda self, *args, **kwargs: make(self, *args, **kwargs | {"dpi": 5}))
        monkeypatch.setattr(Figure, "draw", lambda self, renderer: None)


def at_batch(patch: pytest.MonkeyPatch, number: int, do: Callable[[L.Trainer], object], job: str = "") -> None:
    """Do something once, at the end of that batch (of that job), by a callback that comes as an installed package's."""
    waiting = [do]

    class AtBatch(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, model: Any, *_: Any) -> None:
            if model.batches_seen == number and Path(trainer.default_root_dir).name.endswith(job):
                while waiting:
                    waiting.pop()(trainer)

    entries = [*registry.entry_points(group="lightning.pytorch.callbacks_factory")]
    entries.append(SimpleNamespace(name="tests", load=lambda: AtBatch))
    patch.setattr(registry, "entry_points", lambda group: entries)


def run_ahead(patch: pytest.MonkeyPatch, ahead: bool = True) -> None:
    """Treat this CPU as a device that the host does not wait for; only a GPU is one."""
    patch.setattr(devices, "runs_ahead", lambda device: ahead)


def draw(trainer: L.Trainer) -> None:
    """Draw the pictures of a running training now; they would come after twenty seconds."""
    next(each for each in trainer.callbacks if isinstance(each, Recorder)).draw_images()


def damage(file: Path, data: st.DataObject) -> None:
    """Change a byte of a file, or cut its end off, as Hypothesis chooses."""
    content = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[at] ^= data.draw(st.integers(1, 255))
    else:
        del content[at:]
    file.write_bytes(content)


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., DictConfig]:
    """Compose the configuration that a command line would."""
    return lambda *overrides: compose_checked(tmp_path, overrides)[0]


def compose_checked(outputs: Path, overrides: Iterable[str]) -> tuple[DictConfig, dict[str, str]]:
    """Compose and check a configuration; return it and the choice in each group."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", [*overrides, f"outputs={outputs}"], return_hydra_config=True)
    choices = {key: str(value) for key, value in cfg.hydra.runtime.choices.items() if "/" not in key}
    with open_dict(cfg):
        del cfg["hydra"]
    check_config(OmegaConf.to_container(cfg, resolve=True), choices)
    return cfg, choices


def train_in(folder: Path, overrides: Iterable[str]) -> Path:
    """Train in this process, in a folder; return the folder."""
    cfg, choices = compose_checked(folder.parent, overrides)
    folder.mkdir(exist_ok=True)
    train(cfg, folder, choices)
    return folder


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., Path]:
    """Run a tiny experiment in this process and return its folder."""
    return lambda *overrides, folder="run": train_in(tmp_path / folder, [*TINY, *overrides])


@pytest.fixture
def invoke(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """What a command line does in a process of its own: its exit status, and all that it printed."""

    def call(*arguments: str, before: Callable[[], None] = lambda: None) -> tuple[int, str]:
        pid = os.fork()  # torch is imported already, which makes it quick
        if pid == 0:
            status = 99
            try:
                os.chdir(tmp_path)
                output = os.open("output", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
                os.dup2(output, 1)
                os.dup2(output, 2)
                sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
                sys.argv = ["interp_lightning", *arguments]
                before()
                status = _exit_status(program.main)
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status)
        _, result = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(result), (tmp_path / "output").read_text()

    return call


def _exit_status(work: Callable[[], None]) -> int:
    """As the interpreter would end after it."""
    try:
        work()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three tiny runs on digits and one on lines, by their name; tests must not write into them."""
    runs = {}
    for name, overrides in {
        "ae": ["model=ae", "penalty=none"],
        "acai": ["model=acai", "penalty=wasserstein"],
        "seed": ["model=acai", "penalty=wasserstein", "seed=1"],
        "lines": ["model=ae", "penalty=none", "data=lines", "trainer.limit_train_batches=4"],
    }.items():
        runs[name] = train_in(tmp_path_factory.mktemp(name) / "run", [*TINY, "metrics.features=auto", *overrides])
    return runs


def small_model(kind: type[Autoencoder] = ACAI, *, penalty: Penalty, latent_dim: int = 4, **kwargs: Any) -> Autoencoder:
    torch.manual_seed(0)
    return kind(network=FastNetwork(IMAGE_SHAPE, latent_dim, depth=2), penalty=penalty, **kwargs)


__all__ = ["ACAI", "AE", "CELLS", "IMAGE_SHAPE", "MODELS", "PENALTIES", "TINY", "choices", "small_model"]
