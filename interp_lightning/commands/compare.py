"""Compare trained runs: `python -m interp_lightning compare`, and `interp_lightning.compare` from Python."""

import dataclasses
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from interp_lightning.commands.explain import in_sentences, reason
from interp_lightning.commands.settings import Common, command, find_last, prepare, setting
from interp_lightning.errors import CheckpointError, CheckpointMissing, ConfigError
from interp_lightning.metrics.catalogue import CONSTANT, HEADLINE, parse
from interp_lightning.parameters import WayOut, check_value, checked
from interp_lightning.runs.find import find_runs
from interp_lightning.system.disk import within
from interp_lightning.system.text import counted

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

    from interp_lightning.comparison.groups import Comparison, Group
    from interp_lightning.comparison.walks import Walks
    from interp_lightning.runs.load import Run

    Models = list[tuple[Group, Run]]  # a run of each group

log = logging.getLogger(__name__)

FOLDER = "comparison"
PAIRS = 4
KINDS = (parse(HEADLINE)[1].removesuffix(CONSTANT), "lerp")  # of path, in the report and on the sheet
MOST_SETTINGS = 16  # there


@dataclass
class Settings(Common):
    """Compare trained runs: tables, curves over λ, the same pairs by every run, and a report in one HTML file.

      python -m interp_lightning compare outputs/acai_wasserstein/<time>      all runs of a sweep
      python -m interp_lightning compare DIR DIR DIR out=comparison           any runs, or folders of runs

    Runs that differ only by their seed share a row. A folder needs no run= before it.
    """

    run: list[str] = setting([], "a run, a folder of runs, or last, the newest run; may be given several times", "DIR")
    out: str = setting("", "where to write instead of comparison/ in the folder that contains all runs", "DIR")
    data: str = setting("", "only runs on this data set", "NAME")
    across_data: bool = setting(False, "true ranks runs on different data sets together")
    pictures: bool = setting(True, "false omits the pairs, which require every run's model")


def main() -> None:
    """Run the command line."""
    command(Settings, work)


def work(settings: Settings) -> None:
    """Compare the runs that the settings name."""
    runs = _named(settings.run)

    from interp_lightning.comparison.collect import collect
    from interp_lightning.comparison.tables import tables
    from interp_lightning.comparison.writing import REPORT, write
    from interp_lightning.system.table import print_table

    device = prepare(settings.device, settings.threads)
    base = Path(settings.out) if settings.out else _common(runs)
    folder = base if settings.out else base / FOLDER
    if not settings.trust:
        within(base, folder)
    skipped: dict[Path, str] = {}  # the reason, by run
    readable = _readable(runs, skipped)
    if not readable:
        raise ConfigError(" ".join(["there is nothing to compare:", *list(skipped.values())[:3]]))
    comparison = collect(readable, settings.data or None, settings.across_data)
    folder.mkdir(parents=True, exist_ok=True)

    for table in tables(comparison):
        print_table(table)
    drawn, walks = curves(comparison), None
    if settings.pictures:
        models = load_models(comparison, device, skipped, settings.data_root, settings.trust)
        drawn |= pairs(models)
        walks = walk(models)
    comparison = dataclasses.replace(comparison, notes=[*comparison.notes, *skipped.values()])
    missing = write(comparison, drawn, folder, walks)
    for note in comparison.caveats:
        log.warning(note)
    for what, names in {"Report": [REPORT], "Tables": ["comparison.md", "comparison.csv"]}.items():
        if written := [str(folder / name) for name in names if name not in missing]:
            log.info(f"{what}:  {', '.join(written)}")
    if skipped:
        some = f"{len(skipped)} of {counted(len(runs), 'run')}"
        raise ConfigError(f"{some} could not be used or drawn, for the reasons above")
    if missing:
        raise ConfigError(f"{', '.join(missing)} could not be made, for the reasons above; all else is in {folder}")


@in_sentences
@checked
def compare(
    runs: "Sequence[Run | str | Path] | Run | str | Path", data: str | None = None, across_data: bool = False
) -> list[dict[str, Any]]:
    """Compare trained runs: return a row for each, a plain dictionary with the columns of comparison.csv.

    Runs that differ only by their seed have the same `group`. Problems, such as unlike protocols, are logged as
    warnings.

    Args:
        runs: folders of runs, at any depth, or `Run`s; or only one of them.
        data: only runs on this data set.
        across_data: accept runs on different data sets.

    Raises:
        ConfigError: there is no run with results, or the runs are on different data sets.

    Example:
        >>> import interp_lightning
        >>> rows = interp_lightning.compare(["outputs/acai_wasserstein", "outputs/ae_none"])  # doctest: +SKIP
        >>> min(rows, key=lambda row: row["fid_midpoints_lerp"])["group"]  # doctest: +SKIP
        'acai × wasserstein'
    """
    from interp_lightning.comparison.collect import collect
    from interp_lightning.comparison.tables import all_numbers
    from interp_lightning.runs.load import Run

    runs = [runs] if isinstance(runs, (Run, str, Path)) else runs
    check_value("runs", runs, Annotated[Sequence[Run | str | Path], WayOut("give runs, or folders of runs")])
    found = _named([str(run.folder if isinstance(run, Run) else run) for run in runs])
    comparison = collect(found, data, across_data)
    for note in comparison.caveats:
        log.warning(note)
    table = all_numbers(comparison)
    rows = [dict(zip([column.title for column in table.columns], row.cells, strict=True)) for row in table.rows]
    return [row | {"run": str(row["run"])} for row in rows]


def _named(names: list[str]) -> list[Path]:
    """Return the runs that a user names; raise ConfigError if there are none."""
    if not names:
        raise ConfigError("nothing to compare: name runs, or a folder of runs such as a sweep's")
    return find_runs(find_last(names))


def _readable(runs: list[Path], skipped: dict[Path, str]) -> list[Path]:
    """Return the runs whose results can be read, or are missing as those of an interrupted run; skip the others."""
    from interp_lightning.runs.results import read_results

    readable = []
    for run in runs:
        try:
            if (run / "results.json").is_symlink() or (run / "results.json").exists():
                read_results(run)
            readable.append(run)
        except Exception as error:  # any error in a run is a reason to skip this one only
            skipped[run] = f"Skipped {run}: {reason(error)}"
    return readable


def curves(comparison: "Comparison") -> dict[str, "Figure"]:
    """Draw the figures of a comparison that require no model; skip those that cannot be drawn."""
    from interp_lightning.comparison.figures import against_lambda, trade_off
    from interp_lightning.display.figures import skipping

    drawn: dict[str, Figure] = {}
    for name, draw in {"trade_off": trade_off, "against_λ": against_lambda}.items():
        with skipping(name):
            drawn |= draw(comparison)
    return drawn


def load_models(
    comparison: "Comparison", device: "torch.device", skipped: dict[Path, str], root: str = "", trust: bool = False
) -> "Models":
    """Load the first run of every group whose model can be loaded.

    Args:
        comparison: the groups; those on other data than the first one are left out.
        device: where to put the models.
        skipped: gets a sentence for each run that cannot be used, by run.
        root: the folder of the data files, if they have moved.
        trust: see `load_run`.
    """
    import torch

    from interp_lightning.display import figures
    from interp_lightning.runs.load import load_run

    models: Models = []
    images: torch.Tensor | None = None
    for group in comparison.groups:
        source = group.counted[0]
        if source.content["data"] != comparison.results[0].content["data"]:
            continue  # its test images are others
        try:
            run = load_run(source.run, root=root or None, trust=trust)
            images = figures.examples(run.datamodule)[:1] if images is None else images
            model = run.model.to(device)
            with torch.inference_mode():
                decoded = model.decode(model.encode(images.to(device)))
            if decoded.shape != images.shape:
                raise CheckpointError(f"{source.run} makes images of another size than the other runs")
        except CheckpointMissing as error:
            log.warning(f"No pictures of {group.label}: {error}")
            continue
        except Exception as error:
            skipped[source.run] = f"No pictures of {group.label}: {reason(error)}"
            continue
        models.append((group, run))
    return models


def pairs(models: "Models") -> dict[str, "Figure"]:
    """Draw the same pairs of test images by every model; return an empty dictionary if they cannot be drawn."""
    from interp_lightning.comparison.figures import side_by_side
    from interp_lightning.display.figures import skipping

    if models:
        with skipping("pairs"):
            return side_by_side([(group.label, run.model) for group, run in models], examples(models, PAIRS))
    return {}


def examples(models: "Models", number: int) -> "torch.Tensor":
    """Return pairs of test images, (2·number, C, H, W): the first ends, then the second ones."""
    import torch

    from interp_lightning.display import figures

    x_a, x_b = figures.examples(models[0][1].datamodule).chunk(2)
    return torch.cat([x_a[:number], x_b[:number]])


def walk(models: "Models", objective: str = HEADLINE) -> "Walks | None":
    """Decode the report's paths between pairs of test images, of the best settings if there are too many.

    A setting whose paths cannot be made is left out with a warning. Return None if nothing is left.

    Args:
        models: a run of each group. If it has no kept graph, although it was measured on one, the note says so.
        objective: the number below each setting's name, which also decides which ones are the best.
    """
    from interp_lightning.comparison.groups import best_first
    from interp_lightning.comparison.walks import FRAMES, Walks, choose, facts, not_kept
    from interp_lightning.display import figures

    groups = {group.label: group for group, _ in models}
    ranked = [group.label for group in best_first([*groups.values()], objective)]
    labels, note = choose([*groups], ranked, MOST_SETTINGS)
    found: dict[str, dict[str, torch.Tensor]] = {}
    for group, run in models:
        if group.label in labels:
            with figures.skipping(f"The paths of {group.label}"):
                x = examples(models, PAIRS)
                found[group.label] = {how: each[:, 1:-1] for how, each in strips(run, x, FRAMES).items()}
    notes = [note, *(not_kept([groups[label] for label in found if how not in found[label]], how) for how in KINDS)]
    note = " ".join(filter(None, notes))
    return Walks(x, found, facts([*groups.values()], objective), note) if found else None


def strips(run: "Run", x: "torch.Tensor", steps: int) -> "dict[str, torch.Tensor]":
    """Return paths between pairs of images (2n, C, H, W), by kind: the headline's, if it was kept, and lerp.

    They are at constant speed, with both images themselves at their ends: (n, steps + 2, C, H, W).
    """
    import torch

    from interp_lightning.display import figures
    from interp_lightning.evaluation.protocol import Evaluation

    measured = run.config["metrics"]
    evaluation = Evaluation(features=measured["features"], weights=measured["weights"])
    evaluation.folder = run.folder
    with torch.no_grad():
        look = evaluation.look(run.model, run.datamodule)
        kinds = {how: evaluation.kept(how, run.model, run.datamodule) for how in KINDS}
        x = x.to(run.model.device)
        return {how: figures.strips(run.model, x, steps, path, look) for how, path in kinds.items() if path is not None}


def _common(runs: list[Path]) -> Path:
    """Return the folder that contains all runs."""
    return Path(os.path.commonpath([run.absolute().parent for run in runs]))
