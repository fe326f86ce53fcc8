"""Say in sentences which numbers of a comparison show nothing, because they do not beat a sanity number."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from interp_lightning.comparison.groups import Comparison, Group, Result, best_of
from interp_lightning.metrics.catalogue import (
    COLUMNS,
    CONSTANT,
    HOW,
    MUST_BEAT,
    column_title,
    conditions,
    idle,
    must_beat,
    parse,
)

WINNERS = {
    **{f"midpoints_{how}": f"midpoints ({how})" for how in HOW},
    **{how + CONSTANT: f"paths ({how})" for how in HOW},
    **{how: f"paths ({how}, own speed)" for how in HOW},
    "reconstructions": "reconstructions",
    "prior": "samples of the prior",
    "prior_mixture": "samples of a Gaussian mixture",
}
FADING = "fading pixels over"
HALF = 0.5  # share of noise that a judge takes for real, above which it is blind
RIVALS = dict.fromkeys(("midpoints_blend", "blend_constant", "blend"), FADING) | {"noise": "noise"}


def verdicts(comparison: Comparison, names: Sequence[str]) -> list[str]:
    """Return sentences about some metrics that say why a cell, or no cell, is marked best."""
    lost: dict[tuple[str, str], list[tuple[str, str]]] = {}  # (condition, column) by duel
    unmarked: dict[tuple[str, str], list[str]] = {}  # columns by (group, reason)
    lossy: dict[str, list[str]] = {}  # columns by the seeds that the best group has lost
    level, mixed = [], []
    shown = comparison.columns(names)
    for name in shown:
        having = comparison.having(name)
        if idle(name):
            continue
        deserving = [group for group in having if comparison.deserves(group, name)]
        if not deserving:
            all_fail = [each for each in conditions(name) if not any(comparison.beats(g, each) for g in having)]
            if all_fail:
                lost.setdefault(_duel(all_fail[0]), []).append((all_fail[0], column_title(name)))
            else:
                mixed.append(column_title(name))
        elif len(having) > 1 and comparison.alike and not math.isnan(comparison.pooled_deviation(name)):
            best = best_of(having, name)
            if best not in deserving:
                failed = next(each for each in conditions(name) if not comparison.beats(best, each))
                unmarked.setdefault((best.label, loses(best, [failed])), []).append(column_title(name))
            if losses := best_of(deserving, name).losses(name, "number"):
                lossy.setdefault(losses, []).append(column_title(name))
            elif not comparison.leading(name):
                level.append(column_title(name))
    sentences = []
    for (winner, rival), pairs in lost.items():
        numbers = _sanity_numbers(comparison.groups[0], [condition for condition, _ in pairs])
        columns = ", ".join(column for _, column in pairs)
        sentences.append(f"No run's {winner} beat {rival} ({numbers}), so nothing is marked best in {columns}.")
    sentences += [
        f"{label} has the best number in {', '.join(columns)}, but is not marked: its {failed}."
        for (label, failed), columns in unmarked.items()
    ]
    sentences += [f"{losses}, so nothing is marked best in {', '.join(columns)}." for losses, columns in lossy.items()]
    if (faded := dict.fromkeys(column_title(name) for name in shown if idle(name))) and len(comparison.groups) > 1:
        sentences.append(f"Nothing is marked best in {', '.join(faded)}: no path is better there than {FADING}.")
    if mixed:
        sentences.append(f"No run beats all that it must in {', '.join(mixed)}, so nothing is marked best there.")
    if level:
        sentences.append(
            f"All are within the spread over seeds in {', '.join(level)}, so nothing is marked best there."
        )
    return sentences


def shortcomings(run: Path, results: dict[str, Any]) -> list[str]:
    """Return sentences about images and paths of a single run that do not beat its sanity numbers.

    Paths count at constant speed only. A judge that takes noise for real is named, and nothing is compared to noise.
    """
    group = Group("", [Result(run, results)])
    comparison = Comparison([group], [])
    noise, sentences = group.sanity("precision_noise"), list[str]()
    blind = noise > HALF
    if blind:
        sentences.append(
            f"Precision, membership and score show little here: the judge takes {noise:.0%} of noise for real. It "
            "needs more images, and labels help."
        )
    lost: dict[tuple[str, str], list[str]] = {}
    for name in comparison.columns([name for every in COLUMNS.values() for name in every]):
        if parse(name)[1] not in HOW and not comparison.beats(group, name):
            lost.setdefault(_duel(name), []).append(name)
    losers: dict[str, list[str]] = {}  # by what they do not beat
    for (winner, rival), names in lost.items():
        if not (blind and rival == RIVALS["noise"]):
            losers.setdefault(f"{rival} ({_sanity_numbers(group, names)})", []).append(winner)
    return sentences + [f"The {', '.join(who)} do not beat {what}." for what, who in losers.items()]


def loses(group: Group, names: Sequence[str]) -> str:
    """Say that a group does not beat its rival in some metrics of the same kind of image or path."""
    winner, rival = _duel(names[0])
    return f"{winner} do not beat {rival} ({_sanity_numbers(group, names)})"


def _sanity_numbers(group: Group, names: Sequence[str]) -> str:
    """List the sanity numbers that some metrics must beat."""
    found = {parse(name)[0]: group.sanity(must_beat(name) or "") for name in names}
    return ", ".join(f"{entry.title} {entry.format(value)}" for entry, value in found.items())


def _duel(name: str) -> tuple[str, str]:
    """Return the kind of image or path that a metric is about, and the rival that it must beat, in words."""
    kind = parse(name)[1]
    return WINNERS[kind], RIVALS[MUST_BEAT[kind]]
