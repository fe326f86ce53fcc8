"""Describe a run: the contents of results.json that do not come from the evaluation, and its title."""

import contextlib
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from interp_lightning import __version__
from interp_lightning.errors import ResultsError
from interp_lightning.runs.checkpoints import read_checkpoint
from interp_lightning.runs.find import checkpoint_file
from interp_lightning.runs.relevance import config_hash
from interp_lightning.runs.results import read_results
from interp_lightning.system.text import printable


def new_results(config: dict[str, Any], budget: dict[str, Any]) -> dict[str, Any]:
    """Return the contents of results.json without the results of the evaluation."""
    return {
        "model": config["choices"]["model"],
        "penalty": config["choices"]["penalty"],
        "data": config["data_used"],
        "data_asked_for": config["choices"]["data"],
        "seed": config["seed"],
        "budget": budget,
        "images_per_second": round(budget["images"] / budget["seconds"], 1) if budget["seconds"] else 0.0,
        "versions": {package: version(package) for package in ("torch", "lightning", "torchvision", "hydra-core")}
        | {"interp_lightning": __version__, "python": sys.version.split()[0]},
        "git_commit": git_commit(),
        "config_hash": config_hash(config),
        "config": config,
    }


def results_so_far(source: Path) -> dict[str, Any]:
    """Return a run's results.json if it belongs to the run's last checkpoint, otherwise `new_results` of that.

    They do not belong together if the run was resumed and has not ended. A checkpoint file has no results.json.
    """
    state = read_checkpoint(checkpoint_file(source))
    config = state["hyper_parameters"]
    if source.is_dir():
        with contextlib.suppress(ResultsError):
            results = read_results(source)
            if describes(results, config, state["batches_seen"]):
                return results
    seconds = sum(each["seconds"] for key, each in state["callbacks"].items() if key.startswith("Recorder"))
    return new_results(config, budget(state, seconds))


def describes(results: Mapping[str, Any], config: Mapping[str, Any], batches: int) -> bool:
    """Return True if results were measured on the weights of this configuration after so many batches."""
    return (results["budget"].get("batches"), results["config_hash"]) == (batches, config_hash(config))


def budget(state: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return the cost of a training, for results.json.

    Args:
        state: a checkpoint's content.
        seconds: time spent in training steps.
    """
    return {
        "epochs": state["epochs_seen"],
        "batches": state["batches_seen"],
        "images": state["images_seen"],
        "seconds": round(seconds, 1),
        "skipped_steps": state["guard"]["skipped"],
        "rollbacks": state["guard"]["rollbacks"],
    }


def run_title(config: dict[str, Any]) -> str:
    """Return a run's title for figures and tables: model × penalty on data."""
    choices = config["choices"]
    substitute = f" (instead of {choices['data']})" if substituted(config) else ""
    return printable(f"{choices['model']} × {choices['penalty']} on {config['data_used']}{substitute}")


def git_commit() -> str | None:
    """Return the commit of the checkout that this code runs from; None for an installed package."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    done = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=checkout, capture_output=True, encoding="utf-8", check=False
    )
    return done.stdout.strip() or None


def substituted(config: dict[str, Any]) -> bool:
    """Return True if a run trained on its fallback because the requested data were not available."""
    return config["data_used"] == config["data"].get("fallback")
