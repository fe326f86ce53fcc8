"""python -m interp_lightning evaluate: measure trained runs again."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from interp_lightning.commands.explain import reason
from interp_lightning.commands.settings import TRACEBACK, Settings, command
from interp_lightning.config.check import check_config
from interp_lightning.config.files import CONF
from interp_lightning.errors import ConfigError
from interp_lightning.runs.find import find_runs, has_checkpoints
from interp_lightning.system.disk import within

if TYPE_CHECKING:
    import torch

    from interp_lightning.evaluation.protocol import Evaluation

log = logging.getLogger(__name__)

USAGE = """Measure trained runs again: all metrics into results.json, all figures anew.

  python -m interp_lightning evaluate run=outputs/acai_wasserstein/<time>      in the run's own folder
  python -m interp_lightning evaluate run=DIR run=DIR metrics=full out=DIR     several, elsewhere
  python -m interp_lightning evaluate ckpt=DIR/checkpoints/best.ckpt           another checkpoint than the last

  run=DIR         a run, or a folder of runs such as a sweep's; may be given several times
  ckpt=FILE       a checkpoint by itself; its results go into a folder beside it that is named like it
  out=DIR         where results.json and figures go instead; with several runs, a folder in it for each
  metrics=fast    how thoroughly: fast, or full (everything, as in the papers)
  metrics.KEY=…   restarts (of k-means), images (per set, null is all), pairs, steps, features, weights"""

DEFAULTS: Settings = {
    "run": [],
    "ckpt": [],
    "out": "",
    "metrics": (),
}


def main() -> None:
    """Run the command line."""
    command(USAGE, DEFAULTS, work)


def work(settings: Settings) -> None:
    """Evaluate all runs that the settings name; one that fails does not stop the others."""
    metrics = _metrics(settings["metrics"])
    runs, files, out = find_runs(settings["run"]), [Path(name) for name in settings["ckpt"]], settings["out"]
    if not runs and not files:
        raise ConfigError("nothing to evaluate: name a run by run=DIR or a checkpoint by ckpt=FILE")

    from hydra.utils import instantiate

    from interp_lightning.commands.settings import prepare
    from interp_lightning.runs.find import run_folder

    device = prepare(settings["device"], settings["threads"])
    evaluation = instantiate(metrics)
    failed = []
    for source, folder in _targets([*runs, *files], Path(out) if out else None).items():
        log.info(f"Evaluating {source} …")
        try:
            if not settings["trust"]:
                for path in (folder, folder / "figures"):
                    within(Path(out) if out else run_folder(source), path)
            evaluate(source, folder, evaluation, device, settings["data.root"] or None, settings["trust"])
        except Exception as error:  # whatever is wrong with a run is no reason to skip the others
            log.error(f"Skipped {source}: {reason(error)}\n", exc_info=TRACEBACK)
            failed.append(source)
    if failed:
        raise ConfigError(f"{len(failed)} of {len(runs) + len(files)} could not be evaluated, for the reasons above")


def evaluate(
    source: Path, folder: Path, evaluation: "Evaluation", device: "torch.device", root: str | None, trust: bool
) -> None:
    """Measure one run, or one checkpoint file, and write results.json and figures into a folder."""
    import torch

    from interp_lightning.comparison.tables import shortcomings
    from interp_lightning.display import figures
    from interp_lightning.display.tables import report
    from interp_lightning.runs.load import load_run
    from interp_lightning.runs.record import results_so_far, title
    from interp_lightning.runs.results import write_results

    run = load_run(source, root=root, trust=trust)
    (folder / "figures").mkdir(parents=True, exist_ok=True)  # if that cannot be, now is the time to say so
    for target in (folder, folder / "figures"):
        if not os.access(target, os.W_OK):
            raise ConfigError(f"`{target}` cannot be written to; name a folder of yours by out=…")
    assessment = evaluation(run.model.to(device), run.datamodule)
    results = results_so_far(source) | assessment.results()
    write_results(folder, results)
    x, heading = figures.examples(run.datamodule).to(device), title(run.config)
    with torch.inference_mode():
        drawn = figures.of_model(run.model, x, heading) | figures.of_assessment(assessment, heading)
    figures.save(drawn, folder / "figures")
    report(results, folder, shortcomings(folder, results))


def _metrics(overrides: tuple[str, ...]) -> DictConfig:
    """The evaluation that conf/metrics and the command line describe, checked."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", list(overrides))
    check_config(cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True)), {})
    return cfg.metrics


def _targets(sources: list[Path], out: Path | None) -> dict[Path, Path]:
    """Where the results of each run or checkpoint file go: below `out` they lie as the sources do.

    Raises:
        ConfigError: that is the folder of another run, or of two of them.
    """
    own = {
        source: source if source.is_dir() else source.parent / source.name.removesuffix(".ckpt") for source in sources
    }
    targets = own
    if out is not None:
        common = os.path.commonpath([folder.absolute() for folder in own.values()])
        targets = {source: out / folder.absolute().relative_to(common) for source, folder in own.items()}
    writers = {target.resolve(): source for source, target in targets.items()}
    for source, target in targets.items():
        if writers[target.resolve()] != source:
            raise ConfigError(
                f"results of {source} and {writers[target.resolve()]} would both go to {target}; name one"
            )
        if target != source and (has_checkpoints(target) or target.is_file()):
            what = "a file" if target.is_file() else "another run"
            raise ConfigError(f"results of {source} would go to {target}, which is {what}; name a new folder by out=…")
    return targets
