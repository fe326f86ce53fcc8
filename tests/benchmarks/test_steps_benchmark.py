"""The benchmark measures the sides that it names. No test checks a timing."""

import ctypes
import json
import re
import subprocess
import sys

import pytest
import recorder
import torch

from benchmarks import sides, steps
from interp_lightning.data.sources import InMemory
from interp_lightning.networks.folding import Folding
from interp_lightning.steps import cuda_graphs
from interp_lightning.system import machine

SMALL = {"network": "fast", "depth": "2", "latent_dim": "2", "batch": "4", "rounds": 2, "batches": 1, "device": "cpu"}
SMALL |= {"sides": "ours,plain,bare"}


@pytest.mark.parametrize(("cell", "precision"), [("ae×mmd", "32-true"), ("acai*gan", "bf16-mixed")])
def test_every_side_takes_its_turns(cell, precision, tmp_path, capsys):
    out = tmp_path / "it.json"
    steps.measure(steps.Settings(**SMALL | {"cells": cell, "precision": precision, "out": str(out)}))
    (measured,) = json.loads(out.read_text())["cells"]
    assert f"{measured['model']} × {measured['penalty']}" in capsys.readouterr().out
    assert list(measured["sides"]) == ["ours", "plain", "bare"]
    for side in measured["sides"].values():
        assert len(side["turns"]) == 2
        assert min(side["turns"]) > 0
        assert side["peak_mib"] > 50


def test_sizes_and_sides_are_lists(tmp_path):
    out = tmp_path / "it.json"
    sizes = {"latent_dim": "2,3,2", "batch": "2,4", "sides": "ours,ours", "cells": "ae×none,ae*none"}
    steps.measure(steps.Settings(**SMALL | sizes | {"out": str(out)}))
    measured = json.loads(out.read_text())["cells"]
    assert [(cell["latent_dim"], cell["batch"]) for cell in measured] == [(2, 2), (2, 4), (3, 2), (3, 4)]
    assert all(list(cell["sides"]) == ["ours"] for cell in measured)


def test_a_side_without_an_optimisation(tmp_path, capsys):
    out = tmp_path / "it.json"
    given = {"cells": "acai×gan", "sides": "ours", "without": "fused,data", "out": str(out)}
    steps.measure(steps.Settings(**SMALL | given))
    (measured,) = json.loads(out.read_text())["cells"]
    assert list(measured["sides"]) == ["ours", "without fused", "without data"]
    assert "Adam not fused" in capsys.readouterr().out


def test_all_names_every_optimisation():
    names = steps.sides_of(steps.Settings(**SMALL | {"sides": "ours", "without": "all"}))
    assert names == ["ours", *(f"without {trick}" for trick in steps.TRICKS)]


LIBC = ctypes.CDLL(None)


class Allocated(ctypes.Structure):
    """What glibc's mallinfo2 returns."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
    )]  # fmt: skip


def keeps_memory() -> bool:
    """Large blocks come from the heap, which keeps them; glibc counts those that come from the system as hblks."""
    LIBC.mallinfo2.restype, LIBC.malloc.restype = Allocated, ctypes.c_void_p
    before = LIBC.mallinfo2().hblks
    block = ctypes.c_void_p(LIBC.malloc(machine.GIB - 2**20))  # more than is free in the heap
    after = LIBC.mallinfo2().hblks
    LIBC.free(block)
    LIBC.malloc_trim(0)
    return after == before


@pytest.mark.skipif(not hasattr(LIBC, "mallinfo2"), reason="no glibc")
@pytest.mark.parametrize("without", ["nothing", *steps.TRICKS])
def test_a_side_lacks_exactly_one_optimisation(without, tmp_path):
    LIBC.mallopt(machine.M_MMAP_THRESHOLD, 2**17)  # as it starts; other tests have set it
    given = {"model": "acai", "penalty": "none", "network": "fast", "depth": 2, "latent_dim": 2, "batch": 4}
    given |= {"precision": "32-true", "threads": 1, "accelerator": "cpu", "side": f"without {without}"}
    _, model, data = sides.assemble(given, tmp_path)
    layers = list(model.modules())
    weight = next(p for p in model.parameters() if p.dim() == 4 and p.shape[1] > 1)  # with one channel it is both
    (autoencoder, *_) = model.configure_optimizers()
    there = {
        "folding": any(isinstance(layer, Folding) for layer in layers),
        "channels_last": weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous(),
        "in_place": any(isinstance(layer, torch.nn.LeakyReLU) and layer.inplace for layer in layers),
        "fused": autoencoder.defaults["fused"],
        "memory": keeps_memory(),
        "denormals": torch.tensor(1e-40) * 1 == 0,
        "data": isinstance(data.load()[0], InMemory),
    }
    assert there == {trick: trick != without for trick in steps.TRICKS}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("cells=ae", r"`cells` (=ae) must be model×penalty"),
        ("cells=ae×nothing", "Could not find 'penalty/nothing'"),
        ("batch=64,1", "`batch` (=1) must be ≥ 2"),
        ("sides=pythae", "`sides` (=pythae) requires an interpreter with pythae; add pythae=PYTHON"),
        ("out=/nowhere/it.json", "`out` (=/nowhere/it.json) must be a file in a folder with write permission"),
        ("out=/", "`out` (=/) must be a file"),
        ("depth=deep", "`depth` (=deep) must be integers, separated by commas, such as 16"),
        ("sides=theirs", "`sides` (='theirs') must be one of: ours, compiled, recorded, plain, bare, pythae"),
        ("sides=ours,recorded", "`sides` (=recorded) requires an NVIDIA GPU"),
        ("without=all,tricks", "`without` (='tricks') must be one of: all, folding, "),
        ("precision=8", "`precision` (='8') must be one of: 32-true, bf16-mixed"),
        ("latent_dim=1000000000", "out of memory"),
        ("rounds=0", "`rounds` (=0) must be ≥ 1"),
        ("round=2", "round"),
    ],
)
def test_a_bad_setting_ends_in_one_sentence(settings, message, monkeypatch):
    small = [f"{key}={value}" for key, value in SMALL.items()]
    monkeypatch.setattr(sys, "argv", ["steps.py", *small, settings])
    with pytest.raises(SystemExit, match=re.escape(message)) as caught:
        steps.main()
    assert "\n" not in str(caught.value)


def test_a_side_that_fails_is_named():
    given = SMALL | {"cells": "ae×mmd", "sides": "pythae", "pythae": sys.executable}
    with pytest.raises(steps.ConfigError, match=r"the side `pythae` of the benchmark has ended: .*'pythae'"):
        steps.measure(steps.Settings(**given))


def test_help():
    asked = subprocess.run([sys.executable, "-m", "benchmarks.steps", "--help"], capture_output=True, text=True)
    assert asked.returncode == 0
    for name in steps.Settings.__dataclass_fields__:
        assert f"  {name}=" in asked.stdout


def test_the_bare_loop_on_a_gpu_is_recorded(monkeypatch):
    """As far as a CPU can tell: the same work, on other images each time."""
    recorder.install(monkeypatch)
    weight, seen = torch.ones(1), []

    def step(items: torch.Tensor) -> None:
        weight.mul_(items.sum())

    recorded = sides._recorded(step, torch.tensor([1, 1]))
    assert weight == 2**cuda_graphs.WARM_UP
    for items in ([1, 2], [2, 3]):
        recorded(torch.tensor(items))
        seen.append(weight.item())
    assert seen == [8 * 3, 8 * 3 * 5]
