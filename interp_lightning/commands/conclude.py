"""End a sweep: print and write its ranking, then compare its runs as `compare` does. Imports no torch by itself."""

import dataclasses
import logging
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from interp_lightning.commands import compare
from interp_lightning.commands.explain import reason
from interp_lightning.commands.settings import prepare
from interp_lightning.comparison.ranking import Ranking, rank, ranking_numbers, ranking_table
from interp_lightning.metrics.catalogue import column_title
from interp_lightning.runs import folders
from interp_lightning.runs.folders import NUMBERS, SUMMARY
from interp_lightning.runs.jobs import FINISHED, jobs_table
from interp_lightning.system.disk import replace
from interp_lightning.system.table import as_csv, as_markdown, console, print_table
from interp_lightning.system.text import terminal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)

PAIRS, STEPS = 2, 6  # of the sheet


def conclude(sweep: Path, pictures: bool) -> bool:
    """Print and write the outcome of a sweep; return True if all jobs have finished and their ranking is written.

    A file that cannot be written costs a warning, and nothing of the rest.

    Args:
        sweep: the sweep's folder.
        pictures: False writes the tables only, in a moment.
    """
    ranking = rank(sweep)
    table = ranking_table(ranking)
    print_table(table)
    by_hand = f"python -m interp_lightning compare {shlex.quote(str(sweep))}"
    summary = as_markdown(table, quotes=True) + "\n" + as_markdown(jobs_table(sweep, "Jobs"), quotes=True)
    files = {"Summary": (SUMMARY, summary), "Numbers": (NUMBERS, as_csv(ranking_numbers(ranking)))}
    written = [_write(what, sweep / name, content, by_hand) for what, (name, content) in files.items()]
    if any(sweep.glob("*/tensorboard")):
        _say("Curves", f"tensorboard --logdir {shlex.quote(str(sweep))}")
    if len(ranking.comparison.results) > 1 and not (pictures and _draw(ranking, sweep)):
        _say("Compare", by_hand)
    finished = all(job["status"] == FINISHED for setting in ranking.settings for job in setting.jobs.values())
    return finished and all(written)


def _write(what: str, path: Path, content: str, by_hand: str) -> bool:
    """Write a file of the ranking and say where it is; return False, with a warning, if it cannot be written."""
    try:
        replace(path, content)
    except OSError as error:
        log.warning(
            f"`{path}` cannot be written ({error.strerror}); make room or make it writable, then write the comparison "
            f"again by {by_hand}"
        )
        return False
    _say(what, path)
    return True


def _draw(ranking: Ranking, sweep: Path) -> bool:
    """Write what `compare` writes, and the sheet, to the sweep's folder; return False if there is no report."""
    from interp_lightning.comparison.writing import REPORT

    folder = sweep / compare.FOLDER
    ours = logging.getLogger("interp_lightning")
    level = ours.level
    ours.setLevel(logging.WARNING)  # the runs have said the rest before
    try:
        missing = _compare(ranking, folder, trust=sweep in folders.made)
    except KeyboardInterrupt:
        log.warning("Interrupted: the pictures of this sweep are not complete")
        return False
    except Exception as error:  # the jobs are done, whatever happens to the pictures
        log.warning(f"The runs of this sweep could not be compared: {reason(error)}")
        return False
    finally:
        ours.setLevel(level)
    if REPORT not in missing:
        _say("Report", folder / REPORT)
    return REPORT not in missing


def _compare(ranking: Ranking, folder: Path, trust: bool) -> list[str]:
    """Write tables, figures and report of a sweep's runs; return the names of the files that are missing.

    Args:
        ranking: of the sweep.
        folder: where to write.
        trust: this process has made the sweep, so that classes of the user's own may be built.
    """
    from interp_lightning.comparison.writing import write
    from interp_lightning.display import figures

    comparison = ranking.comparison
    skipped: dict[Path, str] = {}
    folder.mkdir(exist_ok=True)
    models = compare.load_models(comparison, prepare("cpu", threads=1), skipped, trust=trust)
    order = {setting.label: setting.order for setting in ranking.settings}
    models.sort(key=lambda model: order[model[0].label])
    drawn = compare.curves(comparison)
    if models:
        drawn |= figures.draw({"sheet": lambda: _sheet(ranking, models)}) | compare.pairs(models)
    for sentence in skipped.values():
        log.warning(sentence)
    notes = [*comparison.notes, *skipped.values()]
    walks = compare.walk(models, ranking.objective)
    return write(dataclasses.replace(comparison, notes=notes), drawn, folder, walks, ranking.objective)


def _sheet(ranking: Ranking, models: "compare.Models") -> "Figure":
    """Draw the same pairs by every setting in the order of the swept values; by the best if there are too many."""
    from interp_lightning.comparison.figures import FADED, sheet
    from interp_lightning.comparison.walks import facts

    runs = {group.label: run for group, run in models}
    settings = [setting for setting in ranking.best_first() if setting.label in runs][: compare.MOST_SETTINGS]
    x = compare.examples(models, PAIRS)
    strips = {
        f"{setting.label}: {column_title(ranking.objective)} {setting.formatted(ranking.objective)}": compare.strips(
            runs[setting.label], x, STEPS
        )
        for setting in sorted(settings, key=lambda setting: setting.order)
    }
    kinds = list(dict.fromkeys(kind for each in strips.values() for kind in each))
    where = f"left {', right '.join(kinds)}," if len(kinds) > 1 else kinds[0]
    faded = facts(ranking.comparison.groups, ranking.objective).get(FADED)
    best = f", the best {len(settings)} of {len(runs)}" if len(settings) < len(runs) else ""
    title = f"The same pairs by each setting{best}: {where} at constant speed"
    return sheet(strips, title, f"{FADED}: {faded}" if faded else FADED)


def _say(what: str, text: object) -> None:
    console().print(terminal(f"{what + ':':10}{text}"), soft_wrap=True)
