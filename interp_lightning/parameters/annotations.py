"""Reduce an annotation to the forms that can be checked and described, and take these apart."""

import typing
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Final, Literal, NewType, Union, get_args, get_origin

import typing_extensions
from annotated_types import GroupedMetadata
from pydantic.fields import FieldInfo

UNIONS = (Union, UnionType)
COLLECTIONS = (Mapping, Sequence, set, frozenset)
QUALIFIERS = (Final, ClassVar)
# Python ≥ 3.12 has its own, for `type X = …`.
ALIASES = (typing_extensions.TypeAliasType, getattr(typing, "TypeAliasType", typing_extensions.TypeAliasType))


def reduced(annotation: Any, inside: tuple[Any, ...] = ()) -> Any:
    """Return an annotation of classes, Literal, Annotated, unions and collections; Any stands for everything else.

    Args:
        annotation: any annotation.
        inside: the names of types that lead to it, because `type X = list[X] | int` never ends.

    Example:
        >>> from collections.abc import Callable
        >>> Size = NewType("Size", int)
        >>> reduced(Final[Size])
        <class 'int'>
        >>> reduced(list[Callable[[Size], int]])
        list[typing.Any]
    """
    origin, args = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, NewType):
        return reduced(annotation.__supertype__, inside)
    if isinstance(origin or annotation, ALIASES):
        name = origin or annotation
        return Any if name in inside else reduced(name.__value__[args] if args else name.__value__, (*inside, name))
    if origin is Literal:
        return annotation
    if origin is Annotated:
        return Annotated[(reduced(args[0], inside), *args[1:])]
    if origin in QUALIFIERS:
        return reduced(args[0], inside)
    if origin in UNIONS:
        return Union[tuple(reduced(each, inside) for each in args)]  # noqa: UP007
    if is_collection(origin) and len(args) >= (2 if issubclass(origin, Mapping) else 1):
        return origin[tuple(each if each is ... else reduced(each, inside) for each in args)]
    if typing_extensions.is_typeddict(annotation):
        return Mapping[str, Any]
    kind = origin if is_collection(origin) else annotation
    return kind if isinstance(kind, type) else Any


def split(annotation: Any) -> tuple[Any, list[Any], bool]:
    """Split a reduced annotation into its type, the metadata of `Annotated`, and True if null is allowed, too."""
    metadata: list[Any] = []
    nullable = False
    while True:
        args = get_args(annotation)
        if get_origin(annotation) is Annotated:
            for each in args[1:]:
                metadata += [each, *each.metadata] if isinstance(each, FieldInfo) else _flat(each)
            annotation = args[0]
        elif get_origin(annotation) in UNIONS and NoneType in args and len(args) == 2:
            annotation, nullable = next(each for each in args if each is not NoneType), True
        else:
            return annotation, metadata, nullable


def is_collection(origin: Any) -> bool:
    """Return True for the origin of an annotation such as list[int] or Mapping[str, float]."""
    return isinstance(origin, type) and issubclass(origin, COLLECTIONS)


def is_record(origin: Any, args: tuple[Any, ...]) -> bool:
    """Return True for a tuple of fixed length."""
    return origin is tuple and args[-1:] != (...,)


def _flat(metadata: Any) -> list[Any]:
    """Return the parts of metadata such as annotated_types.Interval, which stands for several."""
    return list(metadata) if isinstance(metadata, GroupedMetadata) else [metadata]
