"""Check the arguments of every class of ours when it is built.

A parameter is declared once, where its class takes it: `lam: Annotated[Weight, WayOut("use penalty=none …")]`. Pydantic
checks the value, whether the class is built from a configuration or from Python; the constructor gets it unchanged.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from interp_lightning.parameters.sentences import NOUNS, UNIONS, split
from interp_lightning.parameters.values import check_value


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
            cls.__init__ = _checking(cls, cls.__init__)  # type: ignore[method-assign]


def _checking(kind: type[Configurable], init: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor so that it checks its arguments first."""
    signature = inspect.signature(init)
    more = [each.name for each in signature.parameters.values() if each.kind is each.VAR_KEYWORD]

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            arguments = signature.bind(self, *args, **kwargs).arguments
        except TypeError:
            arguments = {}  # the call below raises Python's own error, which names the argument
        for name in more:
            arguments |= arguments.pop(name, {})
        check_arguments(kind, arguments)
        init(self, *args, **kwargs)

    return checked


def check_arguments(kind: type[Configurable], arguments: Mapping[str, Any]) -> None:
    """Check the arguments of a class by its signature.

    Raises:
        ConfigError: names the first argument that the signature does not allow.
    """
    for name, annotation in declared(kind).items():  # type: ignore[arg-type]
        if name in arguments:
            setting = name if name in kind.top_level else f"{kind.setting_group}.{name}"
            check_value(setting, arguments[name], annotation)


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
    return {name: annotation for name, annotation in found.items() if not _is_object(annotation)}


def _annotations(init: Callable[..., None]) -> dict[str, Any]:
    """Return the annotations of a constructor's named parameters; Any for those without one."""
    try:
        hints = get_type_hints(init, include_extras=True)
    except Exception:  # of a user's annotation, such as the name of a type that is imported for type checkers only
        hints = {}
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = [name for name, each in inspect.signature(init).parameters.items() if each.kind not in variadic]
    return {name: hints.get(name, Any) for name in named}


def _is_object(annotation: Any) -> bool:
    """Return True for an annotation of objects, such as Network or Tensor | Callable: nothing that YAML could hold."""
    kind, metadata, _ = split(annotation)
    if get_origin(kind) in UNIONS:
        return all(_is_object(each) for each in get_args(kind) if each is not NoneType)
    return not metadata and (kind is Any or (isinstance(kind, type) and kind not in NOUNS and not get_args(kind)))
