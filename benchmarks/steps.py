"""Measure training steps: this package's loop beside others, on the same machine, taking turns.

python -m benchmarks.steps --help
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, cast

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from interp_lightning.config import launchers, resolvers  # noqa: F401, register names that conf/ uses
from interp_lightning.config.check import check_config
from interp_lightning.errors import ConfigError, chain
from interp_lightning.system.conf import CONF

USAGE = """Measure training steps: this package's loop, a loop written by hand, the best bare loop, pythae's.

  cells=ae×mmd,…   cells to train: model×penalty (or model*penalty), separated by commas
  network=acai     the paper's, or fast
  depth=16,…       channels of its widest scale
  latent_dim=32,…  numbers per code
  batch=64,…       images per step
  precision=…      32-true, or bf16-mixed
  sides=ours,…     contenders: ours (the reference), compiled, recorded, plain, bare, pythae; by default all that this
                   machine can run; each is a process that takes a gigabyte of memory
  without=…        further sides, this package without one optimisation each: folding, channels_last, in_place, fused,
                   memory, denormals, data; or all
  rounds=7         turns of each side; the table shows the medians
  batches=8        steps per turn
  device=auto      cpu, cuda, or auto
  threads=1        threads of the CPU
  pythae=PYTHON    an interpreter with pythae, to measure its trainer too (for ae×mmd):
                   python3 -m venv .pythae && .pythae/bin/pip install -e . pythae, then pythae=.pythae/bin/python
  out=FILE         JSON file for the numbers; benchmark.json by default"""


@dataclass
class Settings:
    """Settings of the benchmark, as key=value on the command line. Several values are separated by commas."""

    cells: str = "ae×none,ae×mmd,acai×wasserstein"
    network: str = "acai"
    depth: str = "16"
    latent_dim: str = "32"
    batch: str = "64"
    precision: str = "32-true"
    sides: str = ""
    without: str = ""
    rounds: int = 7
    batches: int = 8
    device: str = "auto"
    threads: int = 1
    pythae: str = ""
    out: str = "benchmark.json"


PRECISIONS = ("32-true", "bf16-mixed")
LISTS = {"depth": 1, "latent_dim": 1, "batch": 2}  # settings with several values, and the least of each
REPOSITORY = Path(__file__).parent.parent  # for an interpreter without this package
SIDES = {
    "ours": "this package: its Trainer, model, data and callbacks",
    "compiled": "the same with compile=true",
    "recorded": "the same with cuda_graphs=true",
    "plain": "a loop written by hand: DataLoader, Adam, contiguous tensors",
    "bare": "the best bare loop: the same folded layers, channels last, fused Adam, one indexing per batch; on a GPU "
    "each step a CUDA graph",
    "pythae": "pythae's BaseTrainer",
}
TRICKS = {  # optimisations of this package, and the replacement in a side without one of them
    "folding": "each layer computed by itself",
    "channels_last": "contiguous tensors",
    "in_place": "activations in memory of their own",
    "fused": "Adam not fused",
    "memory": "memory returned to the system",
    "denormals": "denormal numbers kept",
    "data": "images one by one, by a DataLoader",
}
WITHOUT = "without "  # prefix of such a side's name


class Side:
    """One contender in a process of its own, which waits for its turns."""

    speeds: list[float]  # images per second, one for each turn

    def __init__(self, name: str, python: str, settings: dict[str, Any]) -> None:
        self.name, self.speeds, self.peak = name, [], 0.0
        path = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.sides", json.dumps(settings | {"side": name})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
            env=os.environ | {"OMP_NUM_THREADS": str(settings["threads"]), "PYTHONPATH": os.pathsep.join(path)},
        )  # fmt: skip

    def turn(self, batches: int) -> float:
        """Train on a number of batches; return images per second."""
        return self._ask(batches)["images_per_second"]

    def end(self) -> None:
        """Let the process end, and record its peak memory in MiB."""
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


def measure(settings: Settings) -> None:
    """Measure all cells that the settings name, print a table for each, and write the numbers.

    Raises:
        ConfigError: a setting cannot work, or a side has ended.
    """
    names = sides_of(settings)
    cells = [cell.split("×") for cell in _split(settings.cells.replace("*", "×"))]
    if any(len(cell) != 2 for cell in cells):
        raise ConfigError(f"`cells` (={settings.cells}) must be model×penalty, separated by commas, such as ae×mmd")
    lists = {key: _integers(key, getattr(settings, key), least) for key, least in LISTS.items()}
    points = [
        asdict(settings) | {"model": model, "penalty": penalty} | dict(zip(lists, values, strict=True))
        for model, penalty in cells
        for values in product(*lists.values())
    ]
    for point in points:
        _check(point)
    content = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.system()},
        "settings": {key: getattr(settings, key) for key in ("network", "precision", "rounds", "batches", "threads")}
        | {"device": _device(settings)},
        "cells": [_measure(point, names) for point in points],
    }
    Path(settings.out).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"Numbers:  {settings.out}")


def configuration(given: dict[str, Any]) -> DictConfig:
    """Compose the configuration of a run of a cell, without validation and progress bar."""
    overrides = [f"{key}={given[key]}" for key in ("model", "penalty", "network", "latent_dim")]
    overrides += [f"network.depth={given['depth']}", f"data.batch_size={given['batch']}", "trainer.limit_val_batches=0"]
    overrides += [f"trainer.precision={given['precision']}", "trainer.enable_progress_bar=false"]
    overrides += [f"trainer={given.get('accelerator', 'auto')}", "trainer.max_epochs=1000"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides)


def sides_of(settings: Settings) -> list[str]:
    """Check the settings that do not depend on a cell; return the names of the sides to measure."""
    for key in ("rounds", "batches", "threads"):
        if getattr(settings, key) < 1:
            raise ConfigError(f"`{key}` (={getattr(settings, key)}) must be ≥ 1")
    names, tricks = _split(settings.sides) or list(SIDES), _split(settings.without)
    for key, given, allowed in (
        ("sides", names, tuple(SIDES)),
        ("without", tricks, ("all", *TRICKS)),
        ("precision", [settings.precision], PRECISIONS),
        ("device", [settings.device], ("auto", "cpu", "cuda")),
    ):
        for each in given:
            if each not in allowed:
                raise ConfigError(f"`{key}` (={each!r}) must be one of: {', '.join(allowed)}")
    if "pythae" in names and settings.sides and not settings.pythae:
        raise ConfigError("`sides` (=pythae) requires an interpreter with pythae; add pythae=PYTHON, see --help")
    if _device(settings) != "cuda":
        if "recorded" in names and settings.sides:
            raise ConfigError("`sides` (=recorded) requires an NVIDIA GPU, which records CUDA graphs; omit it")
        names = [name for name in names if name != "recorded"]
    out = Path(settings.out)
    if out.is_dir() or not os.access(out.absolute().parent, os.W_OK):
        raise ConfigError(f"`out` (={out}) must be a file in a folder with write permission")
    return names + [f"{WITHOUT}{trick}" for trick in (TRICKS if "all" in tricks else tricks)]


def _device(settings: Settings) -> str:
    """Return the device to train on: "cuda" or "cpu"."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`device` (=cuda) is not available on this machine; use device=cpu")
    return "cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu"


def _check(point: dict[str, Any]) -> None:
    """Raise ConfigError if a cell cannot be trained at its size."""
    from interp_lightning.data.mnist import MNIST
    from interp_lightning.runs.build import build_model
    from interp_lightning.training.rehearsal import check_size

    cfg = configuration(point)
    check_config(cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True)), {})
    data = MNIST(cfg.data.batch_size)  # its images have the shape of the sides' images
    check_size(cfg, data)
    build_model(cfg, data).check(cfg.data.batch_size)


def _split(text: str) -> list[str]:
    """Split text at commas, and drop repetitions."""
    return list(dict.fromkeys(text.split(","))) if text else []


def _integers(key: str, text: str, least: int) -> list[int]:
    """Convert numbers separated by commas; raise ConfigError for other text or a number below the least."""
    try:
        numbers = [int(each) for each in _split(text)]
    except ValueError:
        raise ConfigError(f"`{key}` (={text}) must be integers, separated by commas, such as 16") from None
    for number in numbers:
        if number < least:
            raise ConfigError(f"`{key}` (={number}) must be ≥ {least}")
    return numbers


def _measure(point: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Measure one cell at one size: every side takes one turn per round."""
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


def main() -> None:
    """Run the command line."""
    if {"-h", "--help"} & {*sys.argv}:
        print(USAGE)
        return
    try:
        given = OmegaConf.merge(OmegaConf.structured(Settings), OmegaConf.from_cli())
        measure(cast(Settings, OmegaConf.to_object(given)))
    except (ConfigError, OmegaConfBaseException, HydraException) as error:
        sentence = next((str(link) for link in chain(error) if isinstance(link, ConfigError)), str(error))
        raise SystemExit(" ".join(sentence.split())) from error


if __name__ == "__main__":
    main()
