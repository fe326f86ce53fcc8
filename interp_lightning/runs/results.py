"""Read and write results.json, with one schema for all readers: a file from elsewhere is data and nothing more.

Imports no torch.
"""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from interp_lightning.errors import ResultsError
from interp_lightning.system.disk import within, write_whole
from interp_lightning.system.text import printable, shortened

MOST_BYTES = 16 * 2**20
MOST_CHARACTERS, MOST_IN_A_NAME = 10_000, 200
DEEPEST = 20  # levels of nested lists and mappings
EXACT = 2**53  # a float represents every integer up to this
HUGE = 1e100  # larger numbers have overflowed; leaves room for sums, squares and axes
NAMES = ("model", "penalty", "data", "data_asked_for")
FIELDS_NAMED = 10  # at most, in a message


def _name(text: str) -> str:
    if text != printable(text):
        raise ValueError("must have printable characters only")
    return text


def _value(value: Any, depth: int = 0) -> Any:
    """Return a setting that is a plain value, or raise ValueError."""
    if depth > DEEPEST:
        raise ValueError(f"must be nested at most {DEEPEST} deep")
    if isinstance(value, dict):
        for each in value.items():
            _value(list(each), depth)
    elif isinstance(value, list):
        for each in value:
            _value(each, depth + 1)
    elif isinstance(value, str):
        if len(value) > MOST_CHARACTERS or value != _text(value):
            raise ValueError(f"must have valid Unicode strings of at most {MOST_CHARACTERS:,} characters")
    elif value is not None and not (_is_exact(value) if isinstance(value, int) else _is_number(value)):
        raise ValueError("must have finite numbers, integers up to 2**53, strings, lists and mappings only")
    return value


def _is_exact(value: int) -> bool:
    return abs(value) <= EXACT


def _is_number(value: Any) -> bool:
    return isinstance(value, float) and abs(value) <= HUGE  # false for NaN


Name = Annotated[str, Field(min_length=1, max_length=MOST_IN_A_NAME), AfterValidator(_name)]
Value = Annotated[Any, AfterValidator(_value)]
Count = Annotated[int, Field(ge=0, le=EXACT)]
Number = Annotated[float, Field(ge=-HUGE, le=HUGE)]
Amount = Annotated[float, Field(ge=0, le=HUGE)]


class _Part(BaseModel):
    """Convert nothing; accept additional keys, as a newer version writes, if their values are plain."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, Value]


class Budget(_Part):
    """The cost of training."""

    images: Count | None
    seconds: Amount | None


class Choices(_Part):
    """The choice in each group."""

    model: Name
    penalty: Name
    data: Name


class Config(_Part):
    """The whole configuration."""

    choices: Choices
    data_used: Name
    data: dict[str, Value]


class Results(_Part):
    """A run's results.json."""

    model: Name
    penalty: Name
    data: Name
    data_asked_for: Name | None = None
    seed: Count
    images_per_second: Amount | None = None
    versions: dict[Name, Name] = {}
    git_commit: Annotated[str, Field(pattern="^[0-9a-f]{7,64}$")] | None = None
    config_hash: Annotated[str, Field(pattern="^[0-9a-f]{8,64}$")]
    budget: Budget
    config: Config
    protocol: dict[Name, Value]
    metrics: dict[Name, Number | None]
    sanity: dict[Name, Number | None]


def read_results(run: Path, name: str = "results.json") -> dict[str, Any]:
    """Read and check a run's results.json, or a file of that kind with another name.

    Raises:
        ResultsError: it is missing, damaged or from another version.
        CheckpointError: a link leads out of the run's folder.
    """
    path = within(run, run / name)
    again = f"python -m interp_lightning evaluate run={shlex.quote(printable(run))} writes it"
    if not path.is_file():
        raise ResultsError(f"{printable(run)} has no {name}; {again}")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES // 2**20} MiB")
        # NaN and Infinity are not valid JSON, but other programs write them.
        content = json.loads(path.read_bytes(), object_pairs_hook=_mapping, parse_constant=lambda _: None)
        complete = Results.model_validate(content if isinstance(content, dict) else {}).model_dump()
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        fields = list(dict.fromkeys(_field(each["loc"]) for each in found))
        named = ", ".join(fields[:FIELDS_NAMED]) + ", …" * (len(fields) > FIELDS_NAMED)
        reason = f"{_field(found[0]['loc'])}: {printable(found[0]['msg'])}"
        raise ResultsError(
            f"{printable(path)} has no usable {named}; it was altered or written by another version; {again} ({reason})"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(f"{printable(path)} cannot be read ({shortened(printable(error), 200)}); {again}") from error
    return complete | content


def write_results(run: Path, results: dict[str, Any]) -> None:
    """Write results.json, all or nothing; replace values that JSON lacks or `read_results` would reject."""
    content = _writable(results)
    for key in NAMES:
        if isinstance(content.get(key), str):
            content[key] = shortened(printable(content[key]), MOST_IN_A_NAME)
    write_whole(run / "results.json", json.dumps(content, indent=2, allow_nan=False) + "\n")


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a key occurs twice in one mapping")
    if any(key != _text(key) for key in mapping):
        raise ValueError("a key is not valid Unicode")
    return mapping


def _field(location: tuple[int | str, ...]) -> str:
    """Name a place in the file by its last key, without pydantic's marks for keys and alternatives."""
    names = [str(each) for each in location if each != "[key]"]
    return shortened(printable(names[-1]), 60) if names else "content"


def _text(text: str) -> str:
    """Escape lone surrogates, which names of files that are not UTF-8 have."""
    return text.encode("utf-8", "backslashreplace").decode()


def _writable(value: Any) -> Any:
    """Return a value that the schema accepts; NaN and overflowed numbers become null."""
    if isinstance(value, dict):
        return {_text(str(key)): _writable(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_writable(each) for each in value]
    if isinstance(value, float):
        return value if _is_number(value) else None
    if value is None or (isinstance(value, int) and _is_exact(value)):
        return value
    return shortened(_text(str(value)), MOST_CHARACTERS)
