"""Load a trained model from a run's folder."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from interp_lightning import __version__
from interp_lightning.data.base import ImageData
from interp_lightning.data.digits import Digits
from interp_lightning.errors import CheckpointError, ResultsError, of_own_code
from interp_lightning.models.base import Autoencoder
from interp_lightning.parameters import checked
from interp_lightning.runs.build import build, build_model
from interp_lightning.runs.checkpoints import read_checkpoint
from interp_lightning.runs.find import checkpoint_file, run_folder
from interp_lightning.runs.foreign import SizeLimit, build_ours, check_foreign
from interp_lightning.runs.record import describes, run_title, substituted
from interp_lightning.runs.results import read_results
from interp_lightning.system.disk import within
from interp_lightning.system.machine import process_restored
from interp_lightning.system.text import printable

HEADLINE = (
    "score_graph_constant",
    "realism_graph_constant",
    "membership_graph_constant",
    "reconstruction_mse",
    "lines_mean_distance_lerp",
)
ROOM = 10**8  # elements of tensors that a small model may create while it is built


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A trained run."""

    model: Autoencoder  # on the CPU, in evaluation mode
    datamodule: ImageData  # its splits load themselves on first access
    config: dict[str, Any]
    source: Path  # what was loaded: a run's folder for its last checkpoint, otherwise a checkpoint file

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return run_folder(self.source)

    @property
    def results(self) -> dict[str, Any] | None:
        """The content of results.json; None if it is missing or was measured on another checkpoint."""
        if not (self.folder / "results.json").exists():
            return None
        results = read_results(self.folder)
        return results if describes(results, self.config, self.model.batches_seen) else None

    def __repr__(self) -> str:
        metrics: dict[str, float] = {}
        with contextlib.suppress(ResultsError):
            metrics = (self.results or {}).get("metrics", {})
        numbers = ", ".join(f"{name}={metrics[name]:.4g}" for name in HEADLINE if name in metrics)
        return f"<Run {run_title(self.config)} in {self.folder}: {numbers or 'no results'}>"


@checked
@process_restored()
def load_run(folder: str | Path, checkpoint: str = "last", root: str | None = None, trust: bool = False) -> Run:
    """Load a trained model with its data and configuration.

    Args:
        folder: a run's folder, or a checkpoint file.
        checkpoint: the checkpoint of a folder, "last", "previous" or "best".
        root: the folder of the data files, if they have moved since training.
        trust: build classes from outside this package, such as a penalty of your own. This runs their code: use it
            only for runs whose origin you know.

    Raises:
        CheckpointError: the checkpoint is missing, damaged or from another program; a link leads out of the folder;
            the configuration names code from outside this package.

    Example:
        >>> import interp_lightning
        >>> run = interp_lightning.load_run("outputs/acai_wasserstein/mine")  # doctest: +SKIP
        >>> run  # doctest: +SKIP
        <Run acai × wasserstein on mnist in outputs/acai_wasserstein/mine: reconstruction_mse=0.02148>
    """
    path = checkpoint_file(Path(folder), checkpoint)
    if Path(folder).is_dir() and not trust:
        within(Path(folder), path)
    state = read_checkpoint(path)
    config, make = state["hyper_parameters"], build if trust else build_ours
    writer = printable(state.get("interp_lightning"))[:40]
    way_out = "use another checkpoint" if writer == __version__ else f"evaluate it with interp_lightning {writer}"
    try:
        if not trust:
            check_foreign(config, path)
        data = _data(config, root, make)
        data.trained_on, data.chosen = config["data_used"], bool(root)
        data.may_fetch = bool(root) or trust or _stays_here(config["data"].get("root", ""))
        weights = sum(value.numel() for value in state["state_dict"].values() if isinstance(value, torch.Tensor))
        with contextlib.nullcontext() if trust else SizeLimit(ROOM + 8 * weights):
            model = build_model(OmegaConf.create(config) if trust else config, data, make)
        model.on_load_checkpoint(state)
        model.load_state_dict(state["state_dict"])
    except CheckpointError:
        raise
    except Exception as error:  # settings and weights of another version can raise anything
        if sentence := of_own_code(error):
            raise CheckpointError(f"{path}: {sentence}") from error
        reason = printable(" ".join(str(error.__cause__ or error).split()))
        raise CheckpointError(
            f"{path} does not fit interp_lightning {__version__} ({reason[:300]}); {way_out}"
        ) from error
    broken = [name for name, value in model.state_dict().items() if not _finite(value)]
    if broken:
        raise CheckpointError(f"{path} holds NaN or infinite weights ({broken[0]}, …); use an earlier checkpoint")
    return Run(model.eval(), data, config, Path(folder) if checkpoint == "last" else path)


def _data(config: dict[str, Any], root: str | None, make: Callable[..., Any]) -> ImageData:
    """Build the data set that the run trained on: the one in its configuration, or the substitute."""
    if substituted(config):
        return Digits(config["data"]["batch_size"], config["seed"])
    settings = config["data"] | {"fallback": None} | ({"root": root} if root and "root" in config["data"] else {})
    return make("data", settings, seed=config["seed"])


def _stays_here(root: str) -> bool:
    """Return True if a path in a run's configuration is below the current folder, so that data may be saved there."""
    return not Path(root).is_absolute() and ".." not in Path(root).parts and not root.startswith("~")


def _finite(value: Any) -> bool:
    return not isinstance(value, torch.Tensor) or bool(value.isfinite().all())
