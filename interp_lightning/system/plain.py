"""Copy settings of unknown origin into plain values, which run no code."""

import re
from collections.abc import Iterator
from typing import Any

from interp_lightning.errors import ConfigError

# Limits above any configuration of ours: a covariance of 1,000 × 1,000 fits, a value that contains itself does not.
MOST_VALUES, MOST_LEVELS, MOST_LETTERS, LARGEST = 2_000_000, 16, 4_096, 2**63
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters and lone surrogates

Path = tuple[str | int, ...]


def plain_copy(settings: Any) -> Any:
    """Copy settings into new dictionaries and lists that hold text, numbers, truth values and None only.

    Types are compared exactly, because a subclass can run code. Tuples become lists. Keys are text or, as in
    `schedule.factors`, all integers.

    Raises:
        ConfigError: a value has another type, or is too large.
    """
    left = iter(range(MOST_VALUES))

    def copy(value: Any, path: Path) -> Any:
        kind = type(value)
        if next(left, None) is None or len(path) > MOST_LEVELS:
            raise ConfigError(f"`{dotted(path)}` is larger or deeper than settings can be")
        if kind is dict:
            if {type(key) for key in value} not in (set(), {str}, {int}):
                raise ConfigError(f"`{dotted(path)}` has keys that are not text")
            return {copy(key, path): copy(each, (*path, key)) for key, each in value.items()}
        if kind in (list, tuple):
            return [copy(each, (*path, number)) for number, each in enumerate(value)]
        if (kind is str and len(value) <= MOST_LETTERS) or (kind is int and abs(value) <= LARGEST):
            return value
        if value is None or kind in (bool, float):
            return value
        what = f"too {'long' if kind is str else 'large'}" if kind in (str, int) else f"of type {kind.__name__}"
        raise ConfigError(f"`{dotted(path)}` is {what}, as no setting is")

    return copy(settings, ())


def entries(settings: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every value in plain settings with its path, from the outside in."""
    yield path, settings
    if isinstance(settings, (dict, list)):
        for key, value in settings.items() if isinstance(settings, dict) else enumerate(settings):
            yield from entries(value, (*path, key))


def dotted(path: Path) -> str:
    """Return the name of a value as on the command line, such as penalty.scales.0, shortened for printing."""
    name = ".".join(map(str, path)) or "the configuration"
    return UNPRINTABLE.sub("?", name)[:200]
