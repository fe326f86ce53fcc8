"""Collect the names of all settings from conf/, and suggest one for a wrong name. Imports no torch."""

import difflib
from functools import cache
from typing import Any

from interp_lightning.system.conf import CONF, read


@cache
def top() -> dict[str, Any]:
    """Return the settings in conf/config.yaml itself, with their defaults."""
    return {key: value for key, value in read(CONF / "config.yaml").items() if key not in ("defaults", "hydra")}


@cache
def groups() -> list[str]:
    """Return the groups of which a run has one choice each."""
    return [name for name, choice in _defaults().items() if choice is not None and "/" not in name]


@cache
def presets() -> list[str]:
    """Return the groups whose files set anything, such as a paper's settings; a run needs none of them."""
    return [name for name, choice in _defaults().items() if choice is None]


@cache
def keys(group: str, target: str) -> set[str]:
    """Return the keys of the files in conf/`group` that set up this class; empty for a class without a file."""
    files = [read(path) for path in (CONF / group).glob("*.yaml")]
    return {key for file in files if file.get("_target_") == target for key in file}


def did_you_mean(name: str) -> str:
    """Suggest the settings that a wrong name may stand for.

    Example:
        >>> did_you_mean("lr")
        'did you mean `optimizer.lr` or `penalty.lr` of penalty=gan|max_sliced?'
    """
    leaf = name.rpartition(".")[2].lower()
    stems = {leaf, leaf.removesuffix("s"), f"{leaf}s"}
    initials = "".join(word[:1] for word in leaf.split("_"))
    last = {place: place.rpartition(".")[2] for place in _places()}
    chosen = [*groups(), *presets()]
    near = difflib.get_close_matches(leaf, {*last.values(), *chosen}, n=1, cutoff=0.7)
    candidates = (  # the first list that is not empty counts
        [place for place, key in last.items() if key == leaf],
        [place for place, key in last.items() if stems & {key, *key.split("_")}],
        [f"{group}=…" for group in chosen if len(leaf) > 2 and (leaf.startswith(group) or group.startswith(leaf))],
        [f"{group}={stem}" for group in chosen for stem in stems if (CONF / group / f"{stem}.yaml").is_file()],
        [place for place, key in last.items() if key in near] + [f"{group}=…" for group in chosen if group in near],
        [place for place, key in last.items() if key == initials or (len(key) > 2 and leaf.startswith(key))],
    )
    found = next(filter(None, candidates), [])
    where = [f"`{place}`{_places().get(place, '')}" for place in found]
    return f"did you mean {' or '.join(where)}?" if found else "--cfg job prints all settings"


@cache
def _defaults() -> dict[str, str | None]:
    """Return the choice of each group in conf/config.yaml."""
    entries = [each for each in read(CONF / "config.yaml")["defaults"] if isinstance(each, dict)]
    return {name: choice for entry in entries for name, choice in entry.items()}


@cache
def _places() -> dict[str, str]:
    """Return each setting by its dotted name, with the choices that have it; those of every run come first."""
    places = {
        f"{key}.{each}" if isinstance(value, dict) else key: ""
        for key, value in top().items()
        for each in (value if isinstance(value, dict) else (key,))
    }
    for group in groups():
        files = {path.stem: read(path) for path in sorted((CONF / group).glob("*.yaml"))}
        for key in dict.fromkeys(key for file in files.values() for key in file):
            having = [stem for stem, file in files.items() if key in file or "defaults" in file]
            if key != "defaults" and not key.startswith("_"):
                places[f"{group}.{key}"] = "" if len(having) == len(files) else f" of {group}={'|'.join(having)}"
    return dict(sorted(places.items(), key=lambda place: bool(place[1])))
