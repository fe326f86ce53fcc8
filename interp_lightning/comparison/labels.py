"""Name runs by the settings in which they differ."""

from collections import Counter
from collections.abc import Collection, Sequence

from interp_lightning.comparison.groups import Result
from interp_lightning.system.text import printable, shortened

MOST_OF_A_VALUE, MOST_OF_A_LABEL = 40, 160  # characters
MOST_COLUMNS = 6  # of settings beside one another


def labels(members: Sequence[Result], without: Collection[str] = ()) -> list[str]:
    """Return a unique label for each of several runs: model × penalty, and the settings in which it differs.

    Args:
        members: a run of each group.
        without: settings that are shown elsewhere, such as on an axis.
    """
    several_data = len({result.content["data"] for result in members}) > 1
    found = []
    for result in members:
        alike = [other for other in members if other.cell == result.cell]
        named = []
        for key, value in result.settings.items():
            others = alike if key.startswith(("model.", "penalty.")) else members
            known = key in without or key.endswith("_target_") or (several_data and key.startswith("data"))
            if not known and any(other.settings.get(key, value) != value for other in others):
                named.append(_named(members, result, key))
        on = f" on {result.content['data']}" if several_data else ""
        found.append(_label(", ".join([result.cell + on, *named])))
    for label in [label for label, times in Counter(found).items() if times > 1]:
        same = [at for at, other in enumerate(found) if other == label]
        keys = list(dict.fromkeys(key for at in same for key in members[at].settings if key not in without))
        differ = [key for key in keys if len({members[at].settings.get(key) for at in same}) > 1]
        for at in same:
            named = [_named([members[other] for other in same], members[at], key) for key in differ]
            found[at] = _label(", ".join([label, *filter(None, named)]))
    return _numbered(found)


def varied(members: Sequence[Result]) -> dict[str, list[str]]:
    """Return the settings in which runs differ: each run's value, "" if it has none, by dotted name.

    Settings of a part, such as penalty.lam, count only if they differ between runs with the same part. Return an empty
    dictionary if the settings do not tell all runs apart, or if they are too many for columns of a table.

    Args:
        members: a run of each group.
    """
    facts = [_facts(result) for result in members]
    found = {}
    for key in dict.fromkeys(key for each in facts for key in each):
        part = key.partition(".")[0]
        values: dict[str | None, set[str]] = {}
        for each in facts:
            if key in each:
                values.setdefault(None if part == key else each.get(part), set()).add(each[key])
        if any(len(different) > 1 for different in values.values()):
            found[key] = [each.get(key, "") for each in facts]
    unique = len({*zip(*found.values(), strict=True)}) == len(members)
    return found if unique and len(found) <= MOST_COLUMNS else {}


def _facts(result: Result) -> dict[str, str]:
    """Return a run's data, model, penalty and settings; a class by its yaml file."""
    content = result.content
    facts = {key: content[key] for key in ("data", "model", "penalty")}
    for key, value in result.settings.items():
        group, _, last = key.rpartition(".")
        if last == "_target_":
            facts.setdefault(group, str(content["config"]["choices"].get(group)))
        elif not key.startswith("data"):
            facts[key] = str(value)
    return facts


def _named(members: Sequence[Result], result: Result, key: str) -> str:
    """Return a setting as key=value; name a class by its yaml file if that distinguishes the members."""
    group, _, last = key.rpartition(".")
    if last == "_target_":
        choices = [str(each.content["config"]["choices"].get(group)) for each in members]
        classes = [each.settings.get(key) for each in members]
        if len(set(choices)) == len(set(zip(choices, classes, strict=True))):
            return f"{group}={result.content['config']['choices'].get(group)}"
    return f"{key}={shortened(str(result.settings[key]), MOST_OF_A_VALUE)}" if key in result.settings else ""


def _label(text: str) -> str:
    return shortened(printable(text), MOST_OF_A_LABEL)


def _numbered(texts: Sequence[str]) -> list[str]:
    """Append a number to each text that occurred before."""
    unique: list[str] = []
    for text in texts:
        number, one = 1, text
        while one in unique:
            number += 1
            one = f"{text} ({number})"
        unique.append(one)
    return unique
