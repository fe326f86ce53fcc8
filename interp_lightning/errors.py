"""What a user can get wrong, said in one sentence: the value, what is allowed, the way out."""

import math
from typing import Any


class ConfigError(ValueError):
    """A setting that cannot work."""


class DataError(ConfigError):
    """Data files that are damaged or cannot be read."""


class DataNotFound(DataError):
    """Data files that are neither on disk nor to be fetched."""


class CheckpointError(ConfigError):
    """A checkpoint that is missing, damaged or another model's."""


class Diverged(ConfigError):
    """Losses or gradients that are NaN or infinite."""


class ResultsError(ConfigError):
    """Results that are missing, damaged or not to be compared."""


def check_number(
    name: str, value: Any, *, least: float = 0, most: float = math.inf, exclusive: bool = False, way_out: str = ""
) -> float:
    """Return `value` as a float, or raise ConfigError unless it is finite and from `least` (or above it) to `most`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < least or value > most or (exclusive and value == least):
        bounds = f"{'>' if exclusive else '≥'} {least:g}" + (f" and ≤ {most:g}" if most < math.inf else "")
        raise ConfigError(f"`{name}` (={value!r}) must be a finite number {bounds}{way_out and '; ' + way_out}")
    return float(value)


def check_integer(name: str, value: Any, *, least: int = 0, most: float = math.inf, way_out: str = "") -> int:
    """Return `value`, or raise ConfigError unless it is an integer from `least` to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least or value > most:
        bounds = f"≥ {least}" + (f" and ≤ {most}" if most < math.inf else "")
        raise ConfigError(f"`{name}` (={value!r}) must be an integer {bounds}{way_out and '; ' + way_out}")
    return value


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    """Return `value`, or raise ConfigError unless it is one of `choices`."""
    if value not in choices:
        allowed = ", ".join("null" if choice is None else str(choice) for choice in choices)
        raise ConfigError(f"`{name}` (={value!r}) must be one of: {allowed}")
    return value
