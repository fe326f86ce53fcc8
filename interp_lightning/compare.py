"""python -m interp_lightning.compare: trained runs side by side."""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from interp_lightning.cli import Settings, command
from interp_lightning.errors import ConfigError
from interp_lightning.folders import find_runs

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from interp_lightning.comparison import Comparison

log = logging.getLogger(__name__)

USAGE = """Compare trained runs: tables, curves over λ, the same pairs by every run, and a report in one HTML file.

  python -m interp_lightning.compare outputs/acai_wasserstein/<time>      all runs of a sweep
  python -m interp_lightning.compare DIR DIR DIR out=comparison           any runs, or folders of runs

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


def work(settings: Settings) -> None:
    """Compare the runs that the settings name."""
    if not settings["run"]:
        raise ConfigError("nothing to compare: name runs, or a folder of runs such as a sweep's")
    runs = find_runs(settings["run"])

    from interp_lightning import comparison_figures, figures
    from interp_lightning.comparison import collect
    from interp_lightning.comparison_tables import as_markdown, write_csv
    from interp_lightning.report import html
    from interp_lightning.runs import prepare
    from interp_lightning.tables import show

    device = prepare(settings["device"], settings["threads"])
    comparison = collect(runs, settings["data"] or None, settings["across_data"])
    folder = Path(settings["out"]) if settings["out"] else _common(runs) / "comparison"
    folder.mkdir(parents=True, exist_ok=True)

    show(comparison)
    write_csv(comparison, folder / "comparison.csv")
    (folder / "comparison.md").write_text(as_markdown(comparison) + "\n", encoding="utf-8")
    drawn = comparison_figures.trade_off(comparison) | comparison_figures.against_lambda(comparison)
    if settings["pictures"]:
        drawn |= _pairs(comparison, settings, device)
    figures.save(drawn, folder)
    (folder / "report.html").write_text(html(comparison, drawn), encoding="utf-8")
    for note in comparison.notes:
        log.warning(note)
    log.info(f"Report:  {folder / 'report.html'}\nTables:  {folder / 'comparison.md'}, {folder / 'comparison.csv'}")


def _pairs(comparison: "Comparison", settings: Settings, device: "torch.device") -> dict[str, "Figure"]:
    """The same pairs of test images by the first run of every group whose model can be loaded."""
    import torch

    from interp_lightning import figures
    from interp_lightning.comparison_figures import side_by_side
    from interp_lightning.runs import load_run

    models, images = [], None
    for group in comparison.groups:
        source = group.counted[0]
        if source.content["data"] != comparison.results[0].content["data"]:
            continue  # the same images are none of its own
        try:
            run = load_run(source.run, root=settings["data.root"] or None, trust=settings["trust"])
            images = figures.examples(run.datamodule) if images is None else images
        except ConfigError as error:
            log.warning(f"No pictures of {group.label}: {error}")
            continue
        models.append((group.label, run.model.to(device)))
    if images is None:
        return {}
    x_a, x_b = images.chunk(2)
    return side_by_side(models, torch.cat([x_a[:PAIRS], x_b[:PAIRS]]))


def _common(runs: list[Path]) -> Path:
    """The folder that all runs lie in; for a single run, the one it lies in."""
    return Path(os.path.commonpath([run.absolute().parent for run in runs]))


if __name__ == "__main__":
    command(USAGE, DEFAULTS, work)
