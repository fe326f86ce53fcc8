"""Check the arguments of every class of ours when it is built.

A parameter is declared once, where its class takes it: `lam: Annotated[Weight, WayOut("use penalty=none …")]`. Pydantic
checks the value, whether the class is built from a configuration or from Python; the constructor gets it unchanged,
except that a number of numpy or torch becomes Python's where the annotation asks for that.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar, ParamSpec, TypeVar, get_type_hints

from interp_lightning.parameters.annotations import reduced
from interp_lightning.parameters.sentences import is_object
from interp_lightning.parameters.values import check_value

P = ParamSpec("P")
R = TypeVar("R")


class Configurable:
    """Check the arguments of every constructor by their annotations, in all subclasses.

    Numbers are strict: no truth value, no text, no NaN, no infinity, nothing beyond 64 bits. Arguments that are
    objects, such as a network, are not checked. A base class gives two arguments in its class statement.

    Args:
        group: the group of settings, which sentences put before the name of a parameter.
        top_level: the parameters that are settings of the run, without a group.

    Example:
        >>> from interp_lightning.parameters import Share
        >>> class Filter(Configurable, group="filter"):
        ...     def __init__(self, keep: Share = 0.5) -> None:
        ...         self.keep = keep
        >>> Filter(keep=2)
        Traceback (most recent call last):
        interp_lightning.errors.ConfigError: `filter.keep` (=2) must be ≥ 0 and ≤ 1
    """

    setting_group: ClassVar[str] = ""
    top_level: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, group: str = "", top_level: tuple[str, ...] = (), **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if group:
            cls.setting_group, cls.top_level = group, top_level
        if "__init__" in vars(cls):
            cls.__init__ = _checking(cls.__init__, functools.partial(check_arguments, cls))  # type: ignore[method-assign]


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function check its arguments by their annotations.

    Example:
        >>> from interp_lightning.parameters import Count
        >>> @checked
        ... def halve(steps: Count) -> int:
        ...     return steps // 2
        >>> halve(0)
        Traceback (most recent call last):
        interp_lightning.errors.ConfigError: `steps` (=0) must be ≥ 1
    """
    annotations = _checkable(_annotations(function))
    return _checking(function, lambda arguments: _check(arguments, annotations, str))


def _checking(function: Callable[P, R], check: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Callable[P, R]:
    """Wrap a function so that its arguments are checked first."""
    signature = inspect.signature(function)
    more = [each.name for each in signature.parameters.values() if each.kind is each.VAR_KEYWORD]

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:
            return function(*args, **kwargs)  # raises Python's own error, which names the argument
        for part in (bound.arguments, *(bound.arguments.get(name, {}) for name in more)):
            part.update(check(part))
        return function(*bound.args, **bound.kwargs)

    return wrapped


def check_arguments(kind: type[Configurable], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Check the arguments of a class by its signature, and return those that were checked.

    Raises:
        ConfigError: names the first argument that the signature does not allow.
    """
    annotations: dict[str, Any] = declared(kind)  # type: ignore[arg-type]
    return _check(
        arguments, annotations, lambda name: name if name in kind.top_level else f"{kind.setting_group}.{name}"
    )


def _check(
    arguments: Mapping[str, Any], annotations: Mapping[str, Any], setting: Callable[[str], str]
) -> dict[str, Any]:
    """Check the arguments that have an annotation, and return them; `setting` names one in a sentence."""
    return {
        name: check_value(setting(name), arguments[name], annotation)
        for name, annotation in annotations.items()
        if name in arguments
    }


def check_part(kind: type[Configurable], part: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Check a part of a configuration, and the top-level settings that its class takes.

    Args:
        kind: the class that the part sets up.
        part: the settings of the part.
        config: the whole configuration.

    Raises:
        ConfigError: names the first setting that the signature does not allow.
    """
    check_arguments(kind, {**part, **{name: config[name] for name in kind.top_level if name in config}})


@functools.cache
def declared(kind: type[Configurable]) -> dict[str, Any]:
    """Return the annotation of each parameter that can be checked, of the class and of its bases.

    A class that takes a parameter itself, annotated or not, replaces the declaration of its bases, which check the
    value that they get.
    """
    found: dict[str, Any] = {}
    for each in reversed(kind.__mro__):
        if issubclass(each, Configurable) and "__init__" in vars(each):
            found |= _annotations(each.__init__)
    return _checkable(found)


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the reduced annotations of a function's named parameters; Any for those without one."""
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return {each.name: _resolved(function, each) for each in parameters if each.kind not in variadic}


def _resolved(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Return the reduced annotation of one parameter; Any if it names what is not there, so that it is not checked."""
    alone = SimpleNamespace(__annotations__={"it": parameter.annotation})
    if parameter.annotation is parameter.empty:
        return Any
    try:
        return reduced(get_type_hints(alone, inspect.unwrap(function).__globals__, include_extras=True)["it"])
    except Exception:  # of a user's annotation, such as the name of a type that is imported for type checkers only
        return Any


def _checkable(annotations: Mapping[str, Any]) -> dict[str, Any]:
    """Return the annotations that can be checked."""
    return {name: annotation for name, annotation in annotations.items() if not is_object(annotation)}
