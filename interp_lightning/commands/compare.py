"""python -m interp_lightning compare: trained runs side by side."""

import dataclasses
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from interp_lightning.commands.explain import reason
from interp_lightning.commands.settings import Settings, command
from interp_lightning.errors import CheckpointError, CheckpointMissing, ConfigError
from interp_lightning.runs.find import find_runs
from interp_lightning.system.disk import replace, within

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from interp_lightning.comparison.groups import Comparison

log = logging.getLogger(__name__)

USAGE = """Compare trained runs: tables, curves over λ, the same pairs by every run, and a report in one HTML file.

  python -m interp_lightning compare outputs/acai_wasserstein/<time>      all runs of a sweep
  python -m interp_lightning compare DIR DIR DIR out=comparison           any runs, or folders of runs

  DIR …               runs, or folders with runs in them; those that differ by their seed only become one row
  out=DIR             where to write; comparison/ in the folder that the runs have in common, if not given
  data=NAME           only runs on this data set
  across_data=false   true ranks runs of different data sets together
  pictures=true       false leaves out the pairs, for which every run's model is loaded"""

DEFAULTS: Settings = {
    "run": [],
    "out": "",
    "data": "",
    "across_data": False,
    "pictures": True,
}
PAIRS = 4


def main() -> None:
    """Run the command line."""
    command(USAGE, DEFAULTS, work)


def work(settings: Settings) -> None:
    """Compare the runs that the settings name."""
    if not settings["run"]:
        raise ConfigError("nothing to compare: name runs, or a folder of runs such as a sweep's")
    runs = find_runs(settings["run"])

    from interp_lightning.commands.settings import prepare
    from interp_lightning.comparison import figures as comparison_figures
    from interp_lightning.comparison.groups import collect
    from interp_lightning.comparison.report import html
    from interp_lightning.comparison.tables import as_markdown, write_csv
    from interp_lightning.comparison.terminal import show
    from interp_lightning.display import figures

    device = prepare(settings["device"], settings["threads"])
    base = Path(settings["out"]) if settings["out"] else _common(runs)
    folder = base if settings["out"] else base / "comparison"
    if not settings["trust"]:
        within(base, folder)
    skipped: dict[Path, str] = {}  # what is wrong with a run, by its folder
    readable = _readable(runs, skipped)
    if not readable:
        raise ConfigError(" ".join(["there is nothing to compare:", *list(skipped.values())[:3]]))
    comparison = collect(readable, settings["data"] or None, settings["across_data"])
    folder.mkdir(parents=True, exist_ok=True)

    show(comparison)
    drawn = comparison_figures.trade_off(comparison) | comparison_figures.against_lambda(comparison)
    if settings["pictures"]:
        drawn |= _pairs(comparison, settings, device, skipped)
    notes = [*comparison.notes, *skipped.values()]
    comparison = dataclasses.replace(comparison, notes=notes)
    write_csv(comparison, folder / "comparison.csv")
    replace(folder / "comparison.md", as_markdown(comparison) + "\n")
    figures.save(drawn, folder)
    replace(folder / "report.html", html(comparison, drawn))
    for note in notes:
        log.warning(note)
    log.info(f"Report:  {folder / 'report.html'}\nTables:  {folder / 'comparison.md'}, {folder / 'comparison.csv'}")
    if skipped:
        raise ConfigError(f"{len(skipped)} of {len(runs)} runs could not be used, for the reasons above")


def _readable(runs: list[Path], skipped: dict[Path, str]) -> list[Path]:
    """The runs whose results can be read or are missing, as those of an interrupted run are; the others are skipped."""
    from interp_lightning.runs.results import read_results

    readable = []
    for run in runs:
        try:
            if (run / "results.json").is_symlink() or (run / "results.json").exists():
                read_results(run)
            readable.append(run)
        except Exception as error:  # whatever is wrong with a run is no reason to skip the others
            skipped[run] = f"Skipped {run}: {reason(error)}"
    return readable


def _pairs(
    comparison: "Comparison", settings: Settings, device: "torch.device", skipped: dict[Path, str]
) -> dict[str, "Figure"]:
    """The same pairs of test images by the first run of every group whose model can be loaded."""
    import torch

    from interp_lightning.comparison.figures import side_by_side
    from interp_lightning.display import figures
    from interp_lightning.runs.load import load_run

    models, images = [], None
    for group in comparison.groups:
        source = group.counted[0]
        if source.content["data"] != comparison.results[0].content["data"]:
            continue  # the same images are none of its own
        try:
            run = load_run(source.run, root=settings["data.root"] or None, trust=settings["trust"])
            images = figures.examples(run.datamodule) if images is None else images
            model = run.model.to(device)
            with torch.inference_mode():
                decoded = model.decode(model.encode(images[:1].to(device)))
            if decoded.shape != images[:1].shape:
                raise CheckpointError(f"{source.run} makes images of another size than the other runs")
        except CheckpointMissing as error:
            log.warning(f"No pictures of {group.label}: {error}")
            continue
        except Exception as error:
            skipped[source.run] = f"No pictures of {group.label}: {reason(error)}"
            continue
        models.append((group.label, model))
    if images is None or not models:
        return {}
    x_a, x_b = images.chunk(2)
    return side_by_side(models, torch.cat([x_a[:PAIRS], x_b[:PAIRS]]))


def _common(runs: list[Path]) -> Path:
    """The folder that all runs lie in; for a single run, the one it lies in."""
    return Path(os.path.commonpath([run.absolute().parent for run in runs]))
