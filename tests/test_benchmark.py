"""The benchmark measures what it says; no timing is looked at here."""

import json
import sys

import pytest
from hydra.errors import MissingConfigException

from interp_lightning import benchmark
from interp_lightning.cli import COMMON
from interp_lightning.errors import ConfigError

SMALL = {"network": "fast", "depth": 2, "latent_dim": 2, "batch": 4, "rounds": 2, "batches": 1, "device": "cpu"}


@pytest.mark.parametrize("cell", ["ae×mmd", "acai*gan"])
def test_every_side_takes_its_turns(cell, tmp_path, capsys):
    out = tmp_path / "it.json"
    benchmark.work(benchmark.DEFAULTS | COMMON | SMALL | {"cells": cell, "out": str(out)})
    (measured,) = json.loads(out.read_text())["cells"]
    assert f"{measured['model']} × {measured['penalty']}" in capsys.readouterr().out
    assert list(measured["sides"]) == ["ours", "plain", "bare"]
    for side in measured["sides"].values():
        assert len(side["turns"]) == 2
        assert min(side["turns"]) > 0
        assert side["peak_mib"] > 50


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cells": "ae"}, r"`cells` \(=ae\) must be model×penalty"),
        ({"batch": 1}, r"`batch` \(=1\) must be an integer ≥ 2"),
        ({"rounds": 0}, r"`rounds` \(=0\) must be an integer ≥ 1"),
        ({"pythae": sys.executable, "cells": "ae×mmd"}, r"the side `pythae` of the benchmark has ended: .*'pythae'"),
    ],
)
def test_bad_settings(settings, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        benchmark.work(benchmark.DEFAULTS | COMMON | SMALL | settings)


def test_an_unknown_cell():
    with pytest.raises(MissingConfigException, match="Could not find 'penalty/nothing'"):
        benchmark.work(benchmark.DEFAULTS | COMMON | SMALL | {"cells": "ae×nothing"})
