"""Check a value by an annotation."""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import AllowInfNan, BeforeValidator, ConfigDict, Strict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticCustomError, SchemaError

from interp_lightning.errors import ConfigError
from interp_lightning.parameters.annotations import UNIONS, is_collection, reduced
from interp_lightning.parameters.sentences import sentence, shown
from interp_lightning.parameters.types import LARGEST, WayOut

T = TypeVar("T")


def check_value(name: str, value: T, annotation: Any) -> T:
    """Return the value if an annotation allows it: unchanged, or as plain numbers if it allows only these.

    Args:
        name: of the setting, for the sentence.
        value: of the setting.
        annotation: a type of `parameters.types`, or any other annotation.

    Raises:
        ConfigError: the annotation does not allow the value.

    Example:
        >>> from collections.abc import Sequence
        >>> import numpy as np
        >>> from interp_lightning.parameters import Positive, Weight
        >>> check_value("penalty.lam", 3, Weight)
        3
        >>> check_value("penalty.lam", -1, Annotated[Weight, WayOut("use penalty=none to switch it off")])
        Traceback (most recent call last):
        interp_lightning.errors.ConfigError: `penalty.lam` (=-1) must be ≥ 0; use penalty=none to switch it off
        >>> check_value("penalty.scales", [1, True], Sequence[Positive])
        Traceback (most recent call last):
        interp_lightning.errors.ConfigError: `penalty.scales[1]` (=True) must be a finite number > 0
        >>> check_value("penalty.scales", np.array([1.0, 2.0]), Sequence[Positive])
        [1.0, 2.0]
    """
    check_fits(name, value)
    try:
        adapter = _adapter(annotation)
    except TypeError:  # an annotation with metadata that cannot be hashed
        adapter = _adapter.__wrapped__(annotation)
    if adapter is None or _error(adapter, value) is None:
        return value
    value = _plain(value)
    check_fits(name, value)
    if error := _error(adapter, value):
        raise ConfigError(sentence(name, value, annotation, error))
    return value


def accepts(annotation: Any, value: Any) -> bool:
    """Return True if an annotation allows a value."""
    try:
        check_value("", value, annotation)
    except ConfigError:
        return False
    return True


def check_integer(name: str, value: int, least: int, most: int = LARGEST, way_out: str = "") -> int:
    """Return `value`, or raise ConfigError unless it is an integer from `least` to `most`."""
    bounds = (Ge(least),) if most == LARGEST else (Ge(least), Le(most))
    return check_value(name, value, Annotated[(int, *bounds, WayOut(way_out))])


def check_choice(name: str, value: T, choices: tuple[T, ...]) -> T:
    """Return `value`, or raise ConfigError unless it is one of `choices`."""
    return check_value(name, value, Literal[choices])


def check_fits(name: str, value: Any) -> None:
    """Raise ConfigError for an integer beyond 64 bits, also inside lists and mappings."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            check_fits(f"{name}.{shown(key) if isinstance(key, int) else key}".removeprefix("."), each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            check_fits(name, each)
    elif isinstance(value, int) and not -LARGEST <= value <= LARGEST:
        raise ConfigError(f"`{name}` (={shown(value)}) must fit into 64 bits; use a smaller number")


@functools.lru_cache(maxsize=1_024)
def _adapter(annotation: Any) -> TypeAdapter[Any] | None:
    """Return pydantic's check of an annotation; None if pydantic has none."""
    try:
        return TypeAdapter(_strict(reduced(annotation)), config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, SchemaError, TypeError):
        return None


def _error(adapter: TypeAdapter[Any], value: Any) -> ValidationError | None:
    """Return pydantic's error about a value, or None."""
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        return error
    return None


def _plain(value: Any) -> Any:
    """Return numbers and arrays of numpy and torch as Python's numbers and lists, also inside collections."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if type(value) in (list, tuple, set, frozenset):
        return type(value)(map(_plain, value))
    return value.tolist() if _is_array(value) else value


def _is_array(value: Any) -> bool:
    """Return True for an array or number of numpy or torch, which this module does not import."""
    return hasattr(type(value), "tolist")


def _strict(annotation: Any) -> Any:
    """Return a reduced annotation with strict scalars. Lists stay lax, so that YAML's list may be a tuple."""
    origin, args = get_origin(annotation), get_args(annotation)
    if annotation is float:
        return Annotated[float, Strict(), AllowInfNan(False), BeforeValidator(_number)]
    if annotation in (int, bool, str):
        return Annotated[annotation, Strict()]
    if origin is Annotated:
        return Annotated[(_strict(args[0]), *args[1:])]
    if origin is Literal:
        return Annotated[Any, BeforeValidator(functools.partial(_one_of, args))]
    if origin in UNIONS:
        return Union[tuple(map(_strict, args))]  # noqa: UP007
    if is_collection(origin):
        return origin[tuple(each if each is ... else _strict(each) for each in args)]
    return annotation


def _number(value: Any) -> Any:
    """Reject what Python can convert to a number, such as a fraction or a tensor."""
    if not isinstance(value, (int, float)) or _is_array(value):
        raise PydanticCustomError("float_type", "not a number")
    return value


def _one_of(choices: tuple[Any, ...], value: Any) -> Any:
    """Compare types, too: 1 is neither true nor 1.0, for which pydantic takes it."""
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise PydanticCustomError("literal_error", "not a choice")
    return value
