"""Measure trained runs again: `python -m interp_lightning evaluate`, and `interp_lightning.evaluate` from Python."""

import itertools
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra import compose
from omegaconf import DictConfig, OmegaConf

from interp_lightning.commands.explain import in_sentences, reason
from interp_lightning.commands.settings import (
    Common,
    Overrides,
    command,
    find_device,
    find_last,
    hydra_initialised,
    prepare,
    setting,
    wants_traceback,
)
from interp_lightning.config.check import check_config
from interp_lightning.errors import ConfigError
from interp_lightning.parameters import checked
from interp_lightning.runs.find import find_runs, has_checkpoints, results_folder, run_folder
from interp_lightning.system.disk import check_writable, replace, within

if TYPE_CHECKING:
    import torch

    from interp_lightning.evaluation.protocol import Assessment, Evaluation
    from interp_lightning.runs.load import Run

log = logging.getLogger(__name__)


@dataclass
class Settings(Common):
    """Measure trained runs again: write all metrics to results.json and draw all figures.

      python -m interp_lightning evaluate run=last                           the newest run, in place
      python -m interp_lightning evaluate run=outputs metrics=full           all runs in a folder
      python -m interp_lightning evaluate run=DIR run=DIR out=DIR            several runs; results elsewhere
      python -m interp_lightning evaluate ckpt=DIR/checkpoints/best.ckpt     another checkpoint than the last

    An error in one run does not stop the others. A folder needs no run= before it.
    """

    run: list[str] = setting(
        [], "a run, a folder of runs such as a sweep's, or last, the newest run; may be given several times", "DIR"
    )
    ckpt: list[str] = setting(
        [], "a checkpoint file; its results go to a folder beside it with the same name; may be given several times",
        "FILE",
    )  # fmt: skip
    out: str = setting("", "where results.json and figures go instead; for several runs, a folder each", "DIR")
    metrics: list[str] = setting(
        [],
        "fast, or full as in the papers; metrics.KEY=… sets restarts (of k-means), images (per set, null for all), "
        "pairs, steps, features, weights, paths (quick, all, or a list)",
        "fast",
        group=True,
    )


def main() -> None:
    """Run the command line."""
    command(Settings, work)


def work(settings: Settings) -> None:
    """Evaluate all runs that the settings name. An error in one run does not stop the others."""
    metrics = _metrics(settings.metrics)
    runs, files = find_runs(find_last(settings.run)), [Path(name) for name in settings.ckpt]
    out = Path(settings.out) if settings.out else None
    if not runs and not files:
        raise ConfigError("nothing to evaluate: name a run by run=DIR or a checkpoint by ckpt=FILE")

    from hydra.utils import instantiate

    device = prepare(settings.device, settings.threads)
    evaluation = instantiate(metrics)
    failed = []
    for source, folder in _targets([*runs, *files], out).items():
        log.info(f"Evaluating {source} …")
        try:
            if not settings.trust:
                for path in (folder, folder / "figures"):
                    within(out or run_folder(source), path)
            evaluate_source(source, folder, evaluation, device, settings.data_root or None, settings.trust)
        except Exception as error:  # any error in a run is a reason to skip this one only
            log.error(f"Skipped {source}: {reason(error)}\n", exc_info=wants_traceback())
            failed.append(source)
    if failed:
        raise ConfigError(f"{len(failed)} of {len(runs) + len(files)} could not be evaluated, for the reasons above")


def evaluate_source(
    source: Path, folder: Path, evaluation: "Evaluation", device: "torch.device", root: str | None, trust: bool
) -> None:
    """Measure one run or checkpoint file, write results.json and figures to a folder, and print the numbers."""
    from interp_lightning.comparison.verdicts import shortcomings
    from interp_lightning.display.tables import print_results
    from interp_lightning.runs.load import load_run

    results = _measure(load_run(source, root=root, trust=trust), evaluation, device, folder)
    print_results(results, folder, shortcomings(folder, results))


@in_sentences
@checked
def evaluate(
    run: "Run | str | Path",
    overrides: Overrides = (),
    out: str | Path | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Measure a trained run and return its results, with the keys of results.json.

    Args:
        run: a `Run` of `train` or `load_run`; or a run's folder, or a checkpoint file.
        overrides: settings of the metrics, such as ["metrics=full", "metrics.pairs=9"].
        out: folder to write results.json and figures to; without it nothing is written.
        device: "cpu", "cuda", or "auto" for the GPU if there is one.

    Raises:
        ConfigError: a setting is wrong, or the run cannot be loaded.

    Example:
        >>> import interp_lightning
        >>> results = interp_lightning.evaluate("outputs/acai_wasserstein/mine", ["metrics=full"])  # doctest: +SKIP
        >>> results["metrics"]["probe_accuracy"]  # doctest: +SKIP
        0.9512
    """
    from hydra.utils import instantiate

    from interp_lightning.runs.load import Run, load_run

    evaluation, place = instantiate(_metrics(overrides)), find_device(device)
    run = run if isinstance(run, Run) else load_run(run)
    before = run.model.device
    try:
        return _measure(run, evaluation, place, None if out is None else Path(out))
    finally:
        run.model.to(before)


def _measure(run: "Run", evaluation: "Evaluation", device: "torch.device", folder: Path | None) -> dict[str, Any]:
    """Measure a run on a device; write results.json and figures to a folder, unless it is None."""
    from interp_lightning.runs.record import results_so_far

    if folder is not None:
        check_writable(folder, folder / "figures")
    evaluation.folder = folder
    assessment = evaluation(run.model.to(device), run.datamodule)
    results = results_so_far(run.source) | assessment.results()
    if folder is not None:
        _write(run, assessment, results, folder)
    return results


def _write(run: "Run", assessment: "Assessment", results: dict[str, Any], folder: Path) -> None:
    """Write results.json and figures to a folder."""
    import torch

    from interp_lightning.display import figures
    from interp_lightning.runs.record import run_title
    from interp_lightning.runs.results import write_results

    _keep_others(folder, results)
    write_results(folder, results)
    x, heading = figures.examples(run.datamodule).to(run.model.device), run_title(run.config)
    with torch.inference_mode():
        drawn = figures.of_model(run.model, x, heading) | figures.of_assessment(
            assessment, run.model, run.datamodule, heading
        )
    figures.save(drawn, folder / "figures")


def _keep_others(folder: Path, results: dict[str, Any]) -> None:
    """Keep a folder's results under another name if they have numbers that new ones lack, and say so.

    Of what has been kept before, only results are overwritten that have no other numbers.
    """
    before = _numbers(folder, "results.json")
    if lost := sorted(before - results["metrics"].keys()):
        names = itertools.chain(["results.before.json"], (f"results.before.{n}.json" for n in itertools.count(2)))
        kept = folder / next(name for name in names if _numbers(folder, name) <= before)
        replace(kept, (folder / "results.json").read_bytes())
        log.warning(
            f"{len(lost)} numbers were not measured this time, such as {lost[0]}; the earlier results are in {kept}"
        )


def _numbers(folder: Path, name: str) -> set[str]:
    """Return the names of the numbers in a file of results; none if it is missing or damaged."""
    from interp_lightning.runs.results import read_results

    try:
        return set(read_results(folder, name)["metrics"])
    except ConfigError:
        return set()


def _metrics(overrides: Sequence[str]) -> DictConfig:
    """Compose conf/metrics with overrides, and check the result."""
    with hydra_initialised():
        cfg = compose("config", list(overrides))
    check_config(cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True)), {})
    return cfg.metrics


def _targets(sources: list[Path], out: Path | None) -> dict[Path, Path]:
    """Return the folder for the results of each run or checkpoint file; below `out` they lie as the sources do.

    Raises:
        ConfigError: the folder is another run's, or two sources share one.
    """
    own = {source: results_folder(source) for source in sources}
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
