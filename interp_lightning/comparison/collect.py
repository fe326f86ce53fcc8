"""Read the results of several runs, and group them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from interp_lightning.comparison.groups import Comparison, Group, Result
from interp_lightning.comparison.labels import labels
from interp_lightning.errors import ResultsError
from interp_lightning.runs.results import read_results
from interp_lightning.system.text import counted

UNLIKE = (
    "the runs were measured by different protocols, see results.json (python -m interp_lightning evaluate run=… "
    "measures all with the same metrics=…)"
)
ONE_SEED = "each setting has one seed (train several, such as -m seed=0,1,2)"
UNFINISHED = 0.9  # share of another run's images below which a run did not get the same training


def collect(
    runs: Sequence[Path], data: str | None = None, across_data: bool = False, named: Mapping[Path, str] | None = None
) -> Comparison:
    """Read the results of runs and group them; skip a run without readable results, and note that.

    Args:
        runs: folders of runs.
        data: skip runs on other data sets.
        across_data: rank runs on different data sets together.
        named: the label of each run's group; by default a group is the runs that differ by their seed only.

    Raises:
        ResultsError: there are no results, or they are of different data sets.
    """
    notes, results = [], []
    for run in runs:
        try:
            results.append(Result(run, read_results(run), (run / "results.json").stat().st_mtime))
        except ResultsError as error:
            notes.append(f"Skipped: {error}.")
    there = sorted({result.content["data"] for result in results})
    if data is not None:
        results = [result for result in results if result.content["data"] == data]
    if not results:
        known = f" on data={data}, only on {', '.join(there)}" if there else ""
        raise ResultsError(
            " ".join([f"there are no results to compare in {counted(len(runs), 'run')}{known}.", *notes[:3]])
        )
    used = Counter(result.content["data"] for result in results)
    if len(used) > 1 and not across_data:
        counts = ", ".join(f"{number} on {name}" for name, number in used.items())
        raise ResultsError(
            f"results of different data sets cannot be ranked together ({counts}); choose one with data={min(used)}, "
            "or rank them anyway with across_data=true"
        )
    protocols = {(r.content["data"], json.dumps(r.content["protocol"], sort_keys=True)) for r in results}
    alike = len(protocols) == len(used)
    groups = _groups(results) if named is None else _groups_named(results, named)
    one_seed = len(groups) > 1 and all(len(group.counted) == 1 for group in groups)
    doubt = UNLIKE if not alike else ONE_SEED if one_seed else ""
    return Comparison(groups, [*notes, *_caveats(groups)], alike, doubt)


def _groups(results: Sequence[Result]) -> list[Group]:
    together: dict[str, list[Result]] = {}
    for result in results:
        together.setdefault(result.key(), []).append(result)
    members = list(together.values())
    return [Group(*each) for each in zip(labels([each[0] for each in members]), members, strict=True)]


def _groups_named(results: Sequence[Result], named: Mapping[Path, str]) -> list[Group]:
    together: dict[str, list[Result]] = {}
    for result in results:
        together.setdefault(named[result.run], []).append(result)
    return [Group(label, members) for label, members in together.items()]


def _caveats(groups: Sequence[Group]) -> list[str]:
    """Return sentences that limit how far groups of runs can be compared."""
    notes = []
    for group in groups:
        seeds = Counter(result.content["seed"] for result in group.results)
        if again := [seed for seed, runs in seeds.items() if runs > 1]:
            notes.append(
                f"{group.label}: {group.size}. Of the runs with seed {', '.join(map(str, again))} only the newest "
                "counts: repeating a seed says nothing about the spread over seeds."
            )
        images = [result.content["budget"]["images"] or 0 for result in group.counted]
        if min(images) < UNFINISHED * max(images):
            notes.append(
                f"{group.label}: its runs have seen from {min(images):,} to {max(images):,} images, so they differ by "
                "more than their seed; resume those that were interrupted, or compare the others only."
            )
    single = [len(group.counted) == 1 for group in groups]
    if any(single) and not all(single):
        notes.append("Settings with one seed are judged by the spread of the others, which is weak evidence.")
    return notes
