"""python -m benchmarks.steps: what a training step costs, here and elsewhere, measured side by side."""

import json
import logging
import os
import platform
import statistics
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from interp_lightning.commands.settings import Settings, command
from interp_lightning.config.check import check_config
from interp_lightning.errors import ConfigError
from interp_lightning.parameters import check_choice, check_integer
from interp_lightning.runs import folders  # noqa: F401, which registers what conf/ asks for
from interp_lightning.system.conf import CONF

log = logging.getLogger(__name__)

USAGE = """Measure training steps: this package's loop, the one that one would write, the best bare one, pythae's.

  cells=ae×mmd,…   what to train: model×penalty (or model*penalty), separated by commas
  network=acai     the paper's, or fast
  depth=16,…       channels of its widest scale
  latent_dim=32,…  numbers per code
  batch=64,…       images per step
  precision=…      32-true, or bf16-mixed
  sides=ours,…     what to measure, of: ours (with which the others are compared), compiled, recorded, plain, bare,
                   pythae; all that can be if not given; each is a process that takes a gigabyte of memory
  without=…        further sides, this package without one of what makes it fast each: folding, channels_last, in_place,
                   fused, memory, denormals, data; or all
  rounds=7         how often each side takes its turn; the medians are compared
  batches=8        steps in a turn
  pythae=PYTHON    an interpreter that has pythae, to measure its trainer too (for ae×mmd):
                   python3 -m venv .pythae && .pythae/bin/pip install -e . pythae, then pythae=.pythae/bin/python
  out=FILE         where to write the numbers as JSON; benchmark.json if not given"""

DEFAULTS: Settings = {
    "cells": "ae×none,ae×mmd,acai×wasserstein",
    "network": "acai",
    "depth": "16",
    "latent_dim": "32",
    "batch": "64",
    "precision": "32-true",
    "sides": "",
    "without": "",
    "rounds": 7,
    "batches": 8,
    "pythae": "",
    "out": "benchmark.json",
}
PRECISIONS = ("32-true", "bf16-mixed")
LISTS = {"depth": 1, "latent_dim": 1, "batch": 2}  # settings of which there may be several, and their least values
PACKAGE = Path(__file__).parent.parent  # for an interpreter in which it is not installed
SIDES = {
    "ours": "this package: its Trainer, model, data and callbacks",
    "compiled": "the same with compile=true",
    "recorded": "the same with cuda_graphs=true",
    "plain": "the loop that one would write: DataLoader, Adam, contiguous tensors",
    "bare": "the best bare loop: the same folded layers, channels last, fused Adam, one indexing per batch; on a GPU "
    "each step a CUDA graph",
    "pythae": "pythae's BaseTrainer",
}
TRICKS = {  # by which this package is fast, and what a side without one of them has instead
    "folding": "each layer computed by itself",
    "channels_last": "contiguous tensors",
    "in_place": "activations in memory of their own",
    "fused": "Adam not fused",
    "memory": "memory given back to the system",
    "denormals": "denormal numbers kept",
    "data": "images one by one, by a DataLoader",
}
WITHOUT = "without "  # so begins the name of such a side


class Side:
    """One way to train, in a process of its own that waits for its turns."""

    def __init__(self, name: str, python: str, settings: dict[str, Any]) -> None:
        self.name, self.speeds, self.peak = name, [], 0.0
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.sides", json.dumps(settings | {"side": name})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
            env=os.environ | {"OMP_NUM_THREADS": str(settings["threads"]), "PYTHONPATH": str(PACKAGE)},
        )  # fmt: skip

    speeds: list[float]  # images/s, of each turn

    def turn(self, batches: int) -> float:
        """Images per second of so many steps."""
        return self._ask(batches)["images_per_second"]

    def end(self) -> None:
        """Take the peak of its memory, in MiB."""
        self.peak = self._ask(0)["peak_mib"]

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _ask(self, batches: int) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{batches}\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            _, errors = self._process.communicate()
            reason = errors.strip().splitlines()[-1] if errors.strip() else f"exit status {self._process.returncode}"
            reason = reason.removeprefix(f"{ConfigError.__module__}.{ConfigError.__name__}: ")
            raise ConfigError(f"the side `{self.name}` of the benchmark has ended: {reason}")
        return json.loads(answer)


def work(settings: Settings) -> None:
    """Measure all cells that the settings name."""
    for key in ("rounds", "batches", "threads"):
        check_integer(key, settings[key], least=1)
    lists = {key: _integers(key, settings[key], least) for key, least in LISTS.items()}
    cells = [cell.split("×") for cell in _names(settings["cells"].replace("*", "×"))]
    if any(len(cell) != 2 for cell in cells):
        raise ConfigError(f"`cells` (={settings['cells']}) must be model×penalty, separated by commas, such as ae×mmd")
    names = _names(settings["sides"]) or list(SIDES)
    for name in names:
        check_choice("sides", name, tuple(SIDES))
    tricks = _names(settings["without"])
    for trick in tricks:
        check_choice("without", trick, ("all", *TRICKS))
    tricks = list(TRICKS) if "all" in tricks else tricks
    check_choice("precision", settings["precision"], PRECISIONS)
    if "pythae" in names and settings["sides"] and not settings["pythae"]:
        raise ConfigError("`sides` (=pythae) wants an interpreter that has it, by pythae=PYTHON; --help says how")
    from interp_lightning.commands.settings import prepare  # which takes a second

    device = prepare(settings["device"], settings["threads"]).type  # if it is not there, say so now
    if device != "cuda":
        if "recorded" in names and settings["sides"]:
            raise ConfigError("`sides` (=recorded) wants an NVIDIA GPU, which records CUDA graphs; leave it out")
        names = [name for name in names if name != "recorded"]
    names += [f"{WITHOUT}{trick}" for trick in tricks]
    out = Path(settings["out"])
    if out.is_dir() or not os.access(out.absolute().parent, os.W_OK):
        raise ConfigError(f"`out` (={out}) must be a file in a folder that can be written to")
    points = [
        settings | {"model": model, "penalty": penalty} | dict(zip(lists, values, strict=True))
        for model, penalty in cells
        for values in product(*lists.values())
    ]
    for point in points:  # if one cannot work, say so now
        _check(point)
    measured = [_measure(point, names) for point in points]
    content = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.system()},
        "settings": {key: settings[key] for key in ("network", "precision", "rounds", "batches", "device", "threads")},
        "cells": measured,
    }
    out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    log.info(f"Numbers:  {out}")


def configuration(given: dict[str, Any]) -> DictConfig:
    """The configuration of a run of a cell, without what the other sides lack."""
    overrides = [f"{key}={given[key]}" for key in ("model", "penalty", "network", "latent_dim")]
    overrides += [f"network.depth={given['depth']}", f"data.batch_size={given['batch']}", "trainer.limit_val_batches=0"]
    overrides += [f"trainer.precision={given['precision']}", "trainer.enable_progress_bar=false"]
    overrides += [f"trainer.accelerator={given.get('accelerator', 'auto')}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides)


def _check(point: dict[str, Any]) -> None:
    """Raise ConfigError if a cell cannot be trained at its size."""
    from interp_lightning.data.mnist import MNIST
    from interp_lightning.runs.build import build_model
    from interp_lightning.training.rehearsal import check_size

    cfg = configuration(point)
    check_config(cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True)), {})
    data = MNIST(cfg.data.batch_size)  # whose images' shape the sides' have
    check_size(cfg, data)
    build_model(cfg, data).check(cfg.data.batch_size)


def _names(text: str) -> list[str]:
    """What is separated by commas, each once."""
    return list(dict.fromkeys(text.split(","))) if text else []


def _integers(key: str, text: str, least: int) -> list[int]:
    """Numbers separated by commas."""
    try:
        return [check_integer(key, int(each), least=least) for each in _names(text)]
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"`{key}` (={text}) must be integers, separated by commas, such as {DEFAULTS[key]}") from None


def _measure(point: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Measure one cell at one size: every side takes its turn in every round."""
    kept = ("model", "penalty", "network", *LISTS, "precision", "device", "threads")
    given = {key: point[key] for key in kept}
    if not point["pythae"] or (point["model"], point["penalty"], point["precision"]) != ("ae", "mmd", PRECISIONS[0]):
        names = [name for name in names if name != "pythae"]
    sides = [Side(name, point["pythae"] if name == "pythae" else sys.executable, given) for name in names]
    try:
        for side in sides:
            side.turn(2)  # to warm up
        for number in range(point["rounds"]):
            for side in sides[number % len(sides) :] + sides[: number % len(sides)]:
                side.speeds.append(side.turn(point["batches"]))
        for side in sides:
            side.end()
    finally:
        for side in sides:
            side.close()
    results = {
        side.name: {"images_per_second": statistics.median(side.speeds), "turns": side.speeds, "peak_mib": side.peak}
        for side in sides
    }
    _show(point, results)
    return {key: given[key] for key in ("model", "penalty", *LISTS)} | {"sides": results}


def _show(point: dict[str, Any], results: dict[str, dict[str, Any]]) -> None:
    """Print one cell's table."""
    from rich.console import Console
    from rich.table import Table

    speeds = {name: result["images_per_second"] for name, result in results.items()}
    title = f"{point['model']} × {point['penalty']}, " + ", ".join(f"{key} {point[key]}" for key in LISTS)
    if {"ours", "bare"} <= speeds.keys():
        title += (
            f": {100 * (1 - speeds['ours'] / speeds['bare']):.0f} % of our time is outside the bare loop's arithmetic"
        )
    table = Table(title=title)
    table.add_column("side")
    for column in ("images/s", "ours / it", "peak MiB"):
        table.add_column(column, justify="right")
    for name, speed in speeds.items():
        ratio = f"{speeds['ours'] / speed:.2f}" if "ours" in speeds else "–"
        what = SIDES.get(name) or f"this package, but {TRICKS[name.removeprefix(WITHOUT)]}"
        table.add_row(what, f"{speed:,.0f}", ratio, f"{results[name]['peak_mib']:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    command(USAGE, DEFAULTS, work)
