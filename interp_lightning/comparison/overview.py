"""The first thing to read of a comparison: its main numbers, and one sentence about the best setting."""

import math
import statistics
from collections.abc import Iterator, Mapping

from interp_lightning.comparison.groups import Comparison, Group, best_of
from interp_lightning.comparison.verdicts import FADING, loses
from interp_lightning.metrics.catalogue import HEADLINE, WAYS, conditions, idle, parse, title
from interp_lightning.system.text import counted

NUMBERS = (
    HEADLINE,
    "realism_graph_constant",
    "membership_graph_constant",
    "fid_midpoints_lerp",
    "reconstruction_mse",
)
BESIDE = ("real images", WAYS["blend"])  # the rows of sanity numbers


def main_numbers(comparison: Comparison, objective: str) -> list[str]:
    """Return the names of the numbers to show first: the objective, and others that at least one run has."""
    return [objective, *(name for name in comparison.columns(NUMBERS) if name != objective)]


def main_anchors(comparison: Comparison, objective: str) -> dict[str, list[str]]:
    """Return the main numbers of real images and of pixels faded over, a row by title."""
    found = comparison.anchors(main_numbers(comparison, objective))
    return {name: found[name] for name in BESIDE if name in found}


def seconds(group: Group) -> float:
    """Return the mean time of training over seeds; NaN if no run has it."""
    known = [each for result in group.counted if (each := result.content["budget"]["seconds"]) is not None]
    return statistics.mean(known) if known else math.nan


def conclusion(comparison: Comparison, objective: str, names: Mapping[str, str], mark: str = "") -> str:
    """Say in one sentence which setting is best, and how certain that is; "" if no run has the objective.

    Args:
        comparison: the settings.
        objective: the number that decides.
        names: to show, by label.
        mark: how the table marks the best.
    """
    having = comparison.having(objective)
    if not having:
        return ""
    leading = comparison.leading(objective)
    best = best_of(leading or having, objective)
    number = f"{best.formatted(objective)} over {counted(len(best.values(objective)), 'seed')}"
    said = f"{names[best.label]}, {number}"
    level = [_with_losses(group, objective) for group in leading if group is not best]
    if level:
        ending = f"; within the spread over seeds of it: {'; '.join(level)}."
    elif leading:
        ending = ", further ahead of all others than the spread over seeds."
    else:
        ending = "; ".join(["", *_doubts(comparison, best, objective)]) + "."
    if leading:
        return f"Best by {title(objective)}{mark and f' ({mark})'}: {said}{ending}"
    extreme = "highest " if parse(objective)[0].higher_is_better else "lowest "
    start = f"{extreme if len(having) > 1 else ''}{title(objective)}"
    return f"{start[0].upper()}{start[1:]}: {said}{ending}"


def _with_losses(group: Group, name: str) -> str:
    """Return a setting's label, with the seeds that have failed."""
    losses = group.losses(name)
    return f"{group.label} ({losses})" if losses else group.label


def _doubts(comparison: Comparison, best: Group, objective: str) -> Iterator[str]:
    """Yield clauses that say why the best number makes no setting the best one."""
    failed = [name for name in conditions(objective) if not comparison.beats(best, name)]
    if failed:
        yield f"its {loses(best, failed[:1])}"
    if losses := best.losses(objective):
        yield losses
    if idle(objective):
        yield f"no path is better there than {FADING}"
    elif len(comparison.having(objective)) > 1:
        if comparison.doubt:
            yield f"uncertain, because {comparison.doubt}"
        elif math.isnan(comparison.pooled_deviation(objective)):
            yield "uncertain, because the spread over seeds is unknown"
        elif not (failed or losses):
            yield "all are within the spread over seeds"
