"""Autoencoder interpolation: ACAI, Wasserstein autoencoders and their combinations, on PyTorch Lightning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp_lightning.commands.compare import compare as compare
    from interp_lightning.commands.evaluate import evaluate as evaluate
    from interp_lightning.commands.train import train as train
    from interp_lightning.runs.load import Run as Run
    from interp_lightning.runs.load import load_run as load_run

__version__ = "0.2.0"

# Imported on first use, because they import torch.
_MODULES = {
    "Run": "interp_lightning.runs.load",
    "compare": "interp_lightning.commands.compare",
    "evaluate": "interp_lightning.commands.evaluate",
    "load_run": "interp_lightning.runs.load",
    "train": "interp_lightning.commands.train",
}

__all__ = ["Run", "__version__", "compare", "evaluate", "load_run", "train"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
