"""What a value may be: rules that check it, and say in one sentence what is allowed and the way out."""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from interp_lightning.errors import ConfigError

SHOWN = 200  # characters of a value in a sentence
LONGEST_NAME, LONGEST_PATH = 255, 2_000  # bytes; room is left for what a run makes in a folder
PRINTABLE = f"use printable characters, at most {LONGEST_NAME} bytes between two /"
JOINERS = "\u200c\u200d"  # of letters and of emojis, which Python does not call printable
LARGEST = 2**63 - 1  # integer that torch, numpy and a file's reader take


@dataclass(frozen=True)
class Rule(ABC):
    """What a setting may be."""

    way_out: str = field(default="", kw_only=True)  # said after what is allowed

    @property
    @abstractmethod
    def allowed(self) -> str:
        """What goes after "must be"."""

    @abstractmethod
    def accepts(self, value: Any) -> bool: ...

    def check(self, name: str, value: Any) -> Any:
        """Return the value, or raise ConfigError with its name, what is allowed and the way out."""
        if not self.accepts(value):
            shorter = "" if fits(value) else " and fit into 64 bits"
            raise ConfigError(
                f"`{name}` (={shown(value)}) must be {self.allowed}{shorter}{self.way_out and '; ' + self.way_out}"
            )
        return value


@dataclass(frozen=True)
class Number(Rule):
    """A finite number from `least` (or above it) to `most`."""

    least: float = 0
    most: float = math.inf
    exclusive: bool = False

    @property
    def allowed(self) -> str:
        return f"a finite number{_bounds(self.least, self.most, self.exclusive)}"

    def accepts(self, value: Any) -> bool:
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and fits(value)
        return (
            number
            and math.isfinite(value)
            and self.least <= value <= self.most
            and not (self.exclusive and value == self.least)
        )


@dataclass(frozen=True)
class Integer(Rule):
    """An integer from `least` to `most`."""

    least: int = 0
    most: float = math.inf

    @property
    def allowed(self) -> str:
        return f"an integer{_bounds(self.least, self.most)}"

    def accepts(self, value: Any) -> bool:
        integer = isinstance(value, int) and not isinstance(value, bool) and fits(value)
        return integer and self.least <= value <= self.most


@dataclass(frozen=True)
class Choice(Rule):
    """One of some values; None is YAML's null."""

    choices: tuple[Any, ...]

    @property
    def allowed(self) -> str:
        names = {None: "null", True: "true", False: "false"}
        return f"one of: {', '.join(names.get(choice, str(choice)) for choice in self.choices)}"

    def accepts(self, value: Any) -> bool:
        return any(type(value) is type(choice) and value == choice for choice in self.choices)


@dataclass(frozen=True)
class Text(Rule):
    """Text that is not empty, and of a pattern if there is one."""

    pattern: str = ".+"
    meaning: str = "text"

    @property
    def allowed(self) -> str:
        return self.meaning

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and bool(re.fullmatch(self.pattern, value))


@dataclass(frozen=True)
class PathName(Rule):
    """A path that every file system can hold, and that can be printed and typed.

    Args:
        meaning: what it leads to.
        single: whether it is a name, without folders before it.
    """

    meaning: str = "a folder"
    single: bool = False

    @property
    def allowed(self) -> str:
        return f"the name of {self.meaning}" if self.single else self.meaning

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, str) or not value or not all(c.isprintable() or c in JOINERS for c in value):
            return False
        if self.single and (value in (".", "..") or value != value.strip().lstrip("~") or {*value} & {"/", "\\"}):
            return False
        length = len(value.encode())
        return length <= LONGEST_PATH and all(len(part.encode()) <= LONGEST_NAME for part in value.split("/"))


@dataclass(frozen=True)
class Each(Rule):
    """A list of values that keep to a rule, of a length if there is one."""

    rule: Rule
    length: int | None = None

    @property
    def allowed(self) -> str:
        return f"a list{f' of {self.length}' if self.length else ''}, each {self.rule.allowed}"

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            return False
        return all(map(self.rule.accepts, value)) and self.length in (None, len(value))


@dataclass(frozen=True)
class Table(Rule):
    """A mapping whose keys and values keep to a rule each."""

    key: Rule
    value: Rule

    @property
    def allowed(self) -> str:
        return f"a mapping {{key: value, …}}, each key {self.key.allowed}, each value {self.value.allowed}"

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, Mapping) or not value:
            return False
        return all(self.key.accepts(key) and self.value.accepts(each) for key, each in value.items())


@dataclass(frozen=True)
class Either(Rule):
    """What one of several rules accepts."""

    rules: tuple[Rule, ...]

    @property
    def allowed(self) -> str:
        return " or ".join(rule.allowed for rule in self.rules)

    def accepts(self, value: Any) -> bool:
        return any(rule.accepts(value) for rule in self.rules)


@dataclass(frozen=True)
class OrNull(Rule):
    """What a rule accepts, or YAML's null."""

    rule: Rule

    @property
    def allowed(self) -> str:
        return f"{self.rule.allowed}, or null"

    def accepts(self, value: Any) -> bool:
        return value is None or self.rule.accepts(value)


@dataclass(frozen=True)
class Record(Rule):
    """A mapping with the keys of some rules, each value by its own; the first key is required."""

    rules: Mapping[str, Rule]

    @property
    def allowed(self) -> str:
        return f"a mapping like that of trainer=ddp, with {', '.join(self.rules)}"

    def accepts(self, value: Any) -> bool:
        if not isinstance(value, Mapping) or next(iter(self.rules)) not in value:
            return False
        return all(key in self.rules and self.rules[key].accepts(each) for key, each in value.items())


SWITCH = Choice((True, False))


def shown(value: Any) -> str:
    """Show a value in a sentence as YAML has it, in bounded length."""
    if value is None:
        return "null"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python writes no integer of more than 4,300 digits
        return "more than can be shown"
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]}…{text[-SHOWN // 2 :]}"


def fits(value: Any) -> bool:
    """Return False for an integer beyond 64 bits, which no number of a computation can hold."""
    return not isinstance(value, int) or -LARGEST <= value <= LARGEST


def check_number(name: str, value: Any, **bounds: Any) -> float:
    """Return `value` as a float, or raise ConfigError unless it is a `Number` within those bounds."""
    return float(Number(**bounds).check(name, value))


def check_integer(name: str, value: Any, **bounds: Any) -> int:
    """Return `value`, or raise ConfigError unless it is an `Integer` within those bounds."""
    return Integer(**bounds).check(name, value)


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> Any:
    """Return `value`, or raise ConfigError unless it is one of `choices`."""
    return Choice(choices).check(name, value)


def _bounds(least: float, most: float, exclusive: bool = False) -> str:
    lower = [f"{'>' if exclusive else '≥'} {least}"] if least > -math.inf else []
    upper = [f"≤ {most}"] if most < math.inf else []
    return f" {' and '.join(lower + upper)}" if lower or upper else ""
