"""Turn pydantic's error about a value into one sentence: the value, what is allowed, the way out."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from interp_lightning.parameters.annotations import UNIONS, is_collection, is_record, reduced, split
from interp_lightning.parameters.types import WayOut

SHOWN = 200  # characters of a value in a sentence
MOST, NEAR = 20, 3  # choices that are listed; and those that are named in place of more
MAPPING = "a mapping {key: value, …}"
NOUNS = {int: "an integer", float: "a finite number", bool: "true or false", str: "text", Any: "anything"}
NOUNS |= dict.fromkeys((dict, Mapping), MAPPING)
NOUNS |= dict.fromkeys((list, tuple, set, frozenset, Sequence), "a list")
SIGNS: dict[type, tuple[str, str]] = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}
OUT_OF_BOUNDS = ("greater_than_equal", "greater_than", "less_than_equal", "less_than")
# Errors that only pydantic's own message explains, unless the annotation has a description.
OTHERS = ("value_error", "assertion_error", "string_pattern_mismatch", "string_too_short", "multiple_of")


def sentence(name: str, value: Any, annotation: Any, error: ValidationError) -> str:
    """Describe the first error, by the innermost value that is bad.

    Args:
        name: of the setting.
        value: of the setting.
        annotation: of the setting.
        error: raised by pydantic for this value.
    """
    annotation = reduced(annotation)
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    steps, way_out = list(first["loc"]), _way_out(annotation)
    if first["type"] == "missing":
        steps = steps[:-1]
    elif "[key]" in steps:  # a bad key of a mapping, after the key itself
        steps = steps[:-2]
    for step in steps:
        inner = _inner(annotation, step)
        # A step can also be the label of a union's member; the sentence then names all members.
        if inner is None or not _has(value, step):
            break
        name = f"{name}.{step}" if isinstance(step, str) else f"{name}[{step}]"
        value, annotation = value[step], inner
        way_out = _way_out(inner) or way_out
    metadata = split(annotation)[1]
    allowed = _like(value, annotation) or _allowed(annotation, first["type"] in OUT_OF_BOUNDS)
    text = f"`{name}` (={shown(value)}) must be {allowed}"
    if first["type"] in OTHERS and not _description(metadata):
        text += f" ({first['msg']})"
    return f"{text}; {way_out}" if way_out else text


def shown(value: Any) -> str:
    """Show a value in a sentence as YAML writes it, in bounded length."""
    if value is None:
        return "null"
    try:
        text = re.sub(r"\s*\n\s*", " ", repr(value))
    except (ValueError, RecursionError):  # Python writes no integer of more than 4,300 digits
        return "too large to show"
    except Exception:  # of a user's class
        return f"of type {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]}…{text[-SHOWN // 2 :]}"


def _inner(annotation: Any, step: int | str) -> Any:
    """Return the annotation of a value in a list or mapping; None if the annotation is no such collection."""
    kind = split(annotation)[0]
    origin, args = get_origin(kind), get_args(kind)
    if not is_collection(origin):
        return None
    if issubclass(origin, Mapping):
        return args[1]
    return args[int(step)] if is_record(origin, args) else args[0]


def _has(value: Any, step: int | str) -> bool:
    """Return True if a step leads into a value; those into a set lead nowhere."""
    return step in value if isinstance(value, Mapping) else isinstance(value, Sequence) and isinstance(step, int)


def _allowed(annotation: Any, only_bounds: bool = False) -> str:
    """Say what an annotation allows, to follow "must be"."""
    kind, metadata, nullable = split(annotation)
    bounds = " and ".join(
        f"{SIGNS[type(each)][0]} {getattr(each, SIGNS[type(each)][1])}" for each in metadata if type(each) in SIGNS
    )
    text = _description(metadata) or (bounds if only_bounds and bounds else f"{_noun(kind, metadata)} {bounds}".strip())
    return f"{text}, or null" if nullable else text


def _noun(kind: Any, metadata: Iterable[Any]) -> str:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        few = ", ".join(map(_yaml, args[: NEAR if len(args) > MOST else MOST]))
        return f"one of {len(args)} choices, such as {few}" if len(args) > MOST else f"one of: {few}"
    if origin in UNIONS:
        shown_ones = [each for each in args if not is_object(each)] or [each for each in args if each is not NoneType]
        members = " or ".join(map(_allowed, shown_ones))
        return f"{members}, or null" if NoneType in args else members
    if not is_collection(origin):
        return NOUNS.get(kind) or f"{'an' if kind.__name__[0] in 'AEIOUaeiou' else 'a'} {kind.__name__}"
    if issubclass(origin, Mapping):
        return f"{MAPPING}{_each('each key', args[0])}{_each('each value', args[1])}"
    least = [each.min_length for each in metadata if isinstance(each, MinLen)]
    most = [each.max_length for each in metadata if isinstance(each, MaxLen)]
    exactly = [len(args)] if is_record(origin, args) else most if most == least else []
    count = f" of {exactly[0]}" if exactly else f" of at least {least[0]}" if least else ""
    if len(set(args) - {...}) > 1:
        return f"a list: {', '.join(map(_allowed, args))}"
    return f"a list{count}{_each('each', args[0])}"


def _like(value: Any, annotation: Any) -> str:
    """Name the choices that are spelt most alike, to follow "must be", if there are too many to list; "" for none."""
    kind = split(annotation)[0]
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    near = difflib.get_close_matches(str(value), map(str, choices), NEAR) if len(choices) > MOST else []
    return f"one of {len(choices)} choices; did you mean {' or '.join(near)}?" if near else ""


def _each(what: str, annotation: Any) -> str:
    return "" if annotation is Any else f", {what} {_allowed(annotation)}"


def is_object(annotation: Any) -> bool:
    """Return True for an annotation of objects, such as Network or Tensor | Callable: nothing that YAML could hold."""
    kind, metadata, _ = split(annotation)
    if get_origin(kind) in UNIONS:
        return all(is_object(each) for each in get_args(kind) if each is not NoneType)
    return not metadata and (kind is Any or (isinstance(kind, type) and kind not in NOUNS and not get_args(kind)))


def _yaml(choice: Any) -> str:
    return {"None": "null", "True": "true", "False": "false", "": "''"}.get(str(choice), str(choice))


def _description(metadata: Iterable[Any]) -> str:
    return next((each.description for each in metadata if isinstance(each, FieldInfo) and each.description), "")


def _way_out(annotation: Any) -> str:
    return next((each.text for each in split(annotation)[1] if isinstance(each, WayOut)), "")
