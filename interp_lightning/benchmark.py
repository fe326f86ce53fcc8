"""python -m interp_lightning.benchmark: what a training step costs, here and elsewhere, measured side by side."""

import json
import logging
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from interp_lightning import folders  # noqa: F401, which registers what conf/ asks for
from interp_lightning.cli import CONF, Settings, command
from interp_lightning.errors import ConfigError

log = logging.getLogger(__name__)

USAGE = """Measure training steps: this package's loop, the one that one would write, the best bare one, pythae's.

  cells=ae×mmd,…   what to train: model×penalty (or model*penalty), separated by commas
  network=acai     the paper's, or fast
  depth=16         channels of its widest scale
  latent_dim=32    numbers per code
  batch=64         images per step
  rounds=7         how often each side takes its turn; the medians are compared
  batches=8        steps in a turn
  pythae=PYTHON    an interpreter that has pythae, to measure its trainer too (for ae×mmd):
                   python3 -m venv .pythae && .pythae/bin/pip install -e . pythae, then pythae=.pythae/bin/python
  out=FILE         where to write the numbers as JSON; benchmark.json if not given"""

DEFAULTS: Settings = {
    "cells": "ae×none,ae×mmd,acai×wasserstein",
    "network": "acai",
    "depth": 16,
    "latent_dim": 32,
    "batch": 64,
    "rounds": 7,
    "batches": 8,
    "pythae": "",
    "out": "benchmark.json",
}
PACKAGE = Path(__file__).parent.parent  # for an interpreter in which it is not installed
SIDES = {
    "ours": "this package: its Trainer, model, data and callbacks",
    "plain": "the loop that one would write: DataLoader, Adam, contiguous tensors",
    "bare": "the best bare loop: the same folded layers, channels last, fused Adam, one indexing per batch",
    "pythae": "pythae's BaseTrainer",
}


class Side:
    """One way to train, in a process of its own that waits for its turns."""

    def __init__(self, name: str, python: str, settings: dict[str, Any]) -> None:
        self.name, self.speeds, self.peak = name, [], 0.0
        self._process = subprocess.Popen(
            [python, "-m", "interp_lightning.benchmark_sides", json.dumps(settings | {"side": name})],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
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
            raise ConfigError(f"the side `{self.name}` of the benchmark has ended: {reason}")
        return json.loads(answer)


def work(settings: Settings) -> None:
    """Measure all cells that the settings name."""
    from interp_lightning.rules import check_integer

    for key in ("depth", "latent_dim", "rounds", "batches", "threads"):
        check_integer(key, settings[key], least=1)
    check_integer("batch", settings["batch"], least=2)
    cells = [cell.replace("*", "×").split("×") for cell in settings["cells"].split(",")]
    if any(len(cell) != 2 for cell in cells):
        raise ConfigError(f"`cells` (={settings['cells']}) must be model×penalty, separated by commas, such as ae×mmd")
    for model, penalty in cells:
        configuration(settings | {"model": model, "penalty": penalty})  # if there is none, say so now
    measured = [_cell(model, penalty, settings) for model, penalty in cells]
    content = {
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "system": platform.system()},
        "settings": {key: settings[key] for key in DEFAULTS if key not in ("out", "pythae", "cells")}
        | {key: settings[key] for key in ("device", "threads")},
        "cells": measured,
    }
    Path(settings["out"]).write_text(json.dumps(content, indent=2) + "\n")
    log.info(f"Numbers:  {settings['out']}")


def configuration(given: dict[str, Any]) -> DictConfig:
    """The configuration of a run of a cell, without what the other sides lack."""
    overrides = [f"{key}={given[key]}" for key in ("model", "penalty", "network", "latent_dim")]
    overrides += [f"network.depth={given['depth']}", f"data.batch_size={given['batch']}", "trainer.limit_val_batches=0"]
    overrides += ["trainer.enable_progress_bar=false", f"trainer.accelerator={given.get('accelerator', 'auto')}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides)


def _cell(model: str, penalty: str, settings: Settings) -> dict[str, Any]:
    """Measure one cell: every side takes its turn in every round."""
    given = {key: settings[key] for key in ("network", "depth", "latent_dim", "batch", "device", "threads")}
    given |= {"model": model, "penalty": penalty}
    names = [name for name in SIDES if name != "pythae" or (settings["pythae"] and (model, penalty) == ("ae", "mmd"))]
    sides = [Side(name, settings["pythae"] if name == "pythae" else sys.executable, given) for name in names]
    try:
        for side in sides:
            side.turn(2)  # to warm up
        for number in range(settings["rounds"]):
            for side in sides[number % len(sides) :] + sides[: number % len(sides)]:
                side.speeds.append(side.turn(settings["batches"]))
        for side in sides:
            side.end()
    finally:
        for side in sides:
            side.close()
    results = {
        side.name: {"images_per_second": statistics.median(side.speeds), "turns": side.speeds, "peak_mib": side.peak}
        for side in sides
    }
    _show(f"{model} × {penalty}", results)
    return {"model": model, "penalty": penalty, "sides": results}


def _show(title: str, results: dict[str, dict[str, Any]]) -> None:
    """Print one cell's table."""
    from rich.console import Console
    from rich.table import Table

    ours, bare = (results[name]["images_per_second"] for name in ("ours", "bare"))
    table = Table(title=f"{title}: {100 * (1 - ours / bare):.0f} % of our time is outside the bare loop's arithmetic")
    table.add_column("side")
    for column in ("images/s", "ours / it", "peak MiB"):
        table.add_column(column, justify="right")
    for name, result in results.items():
        speed = result["images_per_second"]
        table.add_row(SIDES[name], f"{speed:,.0f}", f"{ours / speed:.2f}", f"{result['peak_mib']:,.0f}")
    Console().print(table)


if __name__ == "__main__":
    command(USAGE, DEFAULTS, work)
