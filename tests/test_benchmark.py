"""The benchmark measures what it says; no timing is looked at here."""

import json
import re
import sys

import lightning
import pytest
import recorder
import torch
from hydra.errors import InstantiationException, MissingConfigException

from benchmarks import sides as benchmark_sides
from benchmarks import steps as benchmark
from interp_lightning.commands.explain import explain
from interp_lightning.commands.settings import COMMON
from interp_lightning.data.sources import InMemory
from interp_lightning.errors import ConfigError
from interp_lightning.networks.folding import Folding
from interp_lightning.steps import cuda_graphs
from interp_lightning.system import machine

SMALL = {"network": "fast", "depth": "2", "latent_dim": "2", "batch": "4", "rounds": 2, "batches": 1, "device": "cpu"}
SMALL |= {"sides": "ours,plain,bare"}


@pytest.mark.parametrize(("cell", "precision"), [("ae×mmd", "32-true"), ("acai*gan", "bf16-mixed")])
def test_every_side_takes_its_turns(cell, precision, tmp_path, capsys):
    out = tmp_path / "it.json"
    benchmark.work(benchmark.DEFAULTS | COMMON | SMALL | {"cells": cell, "precision": precision, "out": str(out)})
    (measured,) = json.loads(out.read_text())["cells"]
    assert f"{measured['model']} × {measured['penalty']}" in capsys.readouterr().out
    assert list(measured["sides"]) == ["ours", "plain", "bare"]
    for side in measured["sides"].values():
        assert len(side["turns"]) == 2
        assert min(side["turns"]) > 0
        assert side["peak_mib"] > 50


def test_sizes_and_sides_are_to_be_chosen(tmp_path):
    out = tmp_path / "it.json"
    sizes = {"latent_dim": "2,3,2", "batch": "2,4", "sides": "ours,ours", "cells": "ae×none,ae*none"}
    benchmark.work(benchmark.DEFAULTS | COMMON | SMALL | sizes | {"out": str(out)})
    measured = json.loads(out.read_text())["cells"]
    assert [(cell["latent_dim"], cell["batch"]) for cell in measured] == [(2, 2), (2, 4), (3, 2), (3, 4)]
    assert all(list(cell["sides"]) == ["ours"] for cell in measured)


def test_what_makes_it_fast_is_measured_one_by_one(tmp_path, capsys):
    out = tmp_path / "it.json"
    benchmark.work(
        benchmark.DEFAULTS | COMMON | SMALL | {"cells": "acai×gan", "sides": "ours", "without": "all", "out": str(out)}
    )
    (measured,) = json.loads(out.read_text())["cells"]
    assert list(measured["sides"]) == ["ours", *(f"without {trick}" for trick in benchmark.TRICKS)]
    assert "Adam not fused" in capsys.readouterr().out


@pytest.mark.parametrize("without", ["nothing", *benchmark.TRICKS])
def test_what_makes_it_fast_is_there_but_for_one(without, monkeypatch):
    """Of all that makes it fast, exactly what is named is missing."""
    there = {}

    class Trained(Exception):
        pass

    def fit(trainer, model, datamodule):
        layers = {type(layer): layer for layer in model.modules()}
        weight = next(p for p in model.parameters() if p.dim() == 4 and p.shape[1] > 1)  # of one channel it is both
        there["folding"] = "forward" in vars(Folding) and Folding.forward is not torch.nn.Sequential.forward
        there["channels_last"] = weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
        there["in_place"] = layers[torch.nn.LeakyReLU].inplace
        there["fused"] = model.configure_optimizers()[0].defaults["fused"]
        there["data"] = isinstance(datamodule.load()[0], InMemory)
        raise Trained

    for target, name, _ in benchmark_sides.REPLACED.values():
        monkeypatch.setattr(target, name, getattr(target, name))  # put back in the end
    monkeypatch.setattr(machine, "keep_memory", lambda: there.update(memory=True))
    monkeypatch.setattr(torch, "set_flush_denormal", lambda flush: there.update(denormals=flush))
    monkeypatch.setattr(lightning.Trainer, "fit", fit)
    there |= {"memory": False, "denormals": False}
    given = {"model": "ae", "penalty": "none", "network": "fast", "depth": 2, "latent_dim": 2, "batch": 4}
    given |= {"precision": "32-true", "threads": 1, "accelerator": "cpu"}
    with pytest.raises(Trained):
        benchmark_sides.ours(given | {"side": f"without {without}"}, None)
    assert there == {trick: trick != without for trick in benchmark.TRICKS}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cells": "ae"}, r"`cells` \(=ae\) must be model×penalty"),
        ({"batch": "64,1"}, r"`batch` \(=1\) must be ≥ 2"),
        ({"sides": "pythae"}, r"`sides` \(=pythae\) wants an interpreter that has it, by pythae=PYTHON"),
        ({"out": "/nowhere/it.json"}, r"`out` \(=/nowhere/it.json\) must be a file in a folder that can be written to"),
        ({"out": "/"}, r"`out` \(=/\) must be a file"),
        ({"depth": "deep"}, r"`depth` \(=deep\) must be integers, separated by commas, such as 16"),
        ({"sides": "theirs"}, r"`sides` \(='theirs'\) must be one of: ours, compiled, recorded, plain, bare, pythae"),
        ({"sides": "ours,recorded"}, r"`sides` \(=recorded\) wants an NVIDIA GPU"),
        ({"without": "all,tricks"}, r"`without` \(='tricks'\) must be one of: all, folding, "),
        ({"precision": "8"}, r"`precision` \(='8'\) must be one of: 32-true, bf16-mixed"),
        ({"batch": "60000", "sides": "ours"}, r"the side `ours` .* has ended: `data.batch_size` \(=60000\) must be"),
        ({"network": "acai", "latent_dim": "16,33"}, r"`latent_dim` \(=33\) must be a multiple of 16"),
        ({"latent_dim": "1000000000"}, r"out of memory; use a smaller"),
        ({"rounds": 0}, r"`rounds` \(=0\) must be ≥ 1"),
        (
            {"pythae": sys.executable, "cells": "ae×mmd", "sides": "pythae"},
            r"the side `pythae` of the benchmark has ended: .*'pythae'",
        ),
    ],
)
def test_bad_settings(settings, message, tmp_path):
    with pytest.raises((ConfigError, InstantiationException)) as caught:
        benchmark.work(benchmark.DEFAULTS | COMMON | SMALL | settings)
    assert re.search(message, explain(caught.value) or "")


def test_an_unknown_cell():
    with pytest.raises(MissingConfigException, match="Could not find 'penalty/nothing'"):
        benchmark.work(benchmark.DEFAULTS | COMMON | SMALL | {"cells": "ae×nothing"})


def test_the_bare_loop_on_a_gpu_is_recorded(monkeypatch):
    """As far as a CPU can tell: the same work, on other images each time."""
    monkeypatch.setattr(cuda_graphs, "record", recorder.record)
    monkeypatch.setattr(cuda_graphs, "aside", lambda work: work())
    weight, seen = torch.ones(1), []

    def step(items: torch.Tensor) -> None:
        weight.mul_(items.sum())

    recorded = benchmark_sides._recorded(step, torch.tensor([1, 1]))
    assert weight == 2**cuda_graphs.WARM_UP
    for items in ([1, 2], [2, 3]):
        recorded(torch.tensor(items))
        seen.append(weight.item())
    assert seen == [8 * 3, 8 * 3 * 5]
