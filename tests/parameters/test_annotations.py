"""Any annotation of a user's: wrong values get one sentence, right ones are accepted, and nothing crashes."""

import collections
import enum
import pathlib
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Final,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    Protocol,
    TypedDict,
    TypeVar,
)
from typing import Sequence as OldSequence  # noqa: UP035

import numpy as np
import pytest
import torch
from annotated_types import Interval
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, conint
from torch import Tensor
from typing_extensions import TypeAliasType

from interp_lightning.errors import ConfigError
from interp_lightning.parameters import Configurable, Count, Positive, Share, Weight, check_value
from interp_lightning.penalties.mmd import MMD
from interp_lightning.penalties.wasserstein import Wasserstein

if TYPE_CHECKING:
    from nowhere import Missing  # type: ignore[import-not-found]

T = TypeVar("T")
Size = NewType("Size", int)
Scale = TypeAliasType("Scale", Positive)
Scales = TypeAliasType("Scales", Mapping[str, Scale])
Listed = TypeAliasType("Listed", list[T], type_params=(T,))  # type: ignore[valid-type]
Endless = TypeAliasType("Endless", "Endless | int")  # type: ignore[misc]


class Limits(TypedDict):
    most: int


class Point(NamedTuple):
    x: int
    y: float


class Shape(Protocol):
    sides: int


class Colour(enum.Enum):
    RED = "red"


class Odd:
    def __repr__(self) -> str:
        raise AttributeError


# Annotation, accepted values, refused values.
CHECKED: list[tuple[Any, list[Any], list[Any]]] = [
    (set[int], [{1}, [1]], [1, "a", [1.5], {1.5}, {"a": 1}]),
    (frozenset[Count], [frozenset({1}), [1]], [0, [0], {0}, frozenset({"a"})]),
    (collections.deque[int], [collections.deque([1]), [1]], [3, ["a"], collections.deque(["a"])]),
    (list, [[], ["a"]], [1, "a", None]),
    (dict, [{}, {"a": 1}], [1, "a", []]),
    (tuple[()], [()], [1, "a", None]),
    (tuple[int, str], [(1, "a")], [(1, 2), ("a", "b"), [1], {1.5}]),
    (OldSequence, [[1]], [1, None, {}]),
    (Limits, [{"most": 1}], [1, "a", [1]]),
    (Point, [Point(1, 2.0)], [1, "a"]),
    (Size, [1], ["a", 1.5, True]),
    (Final[int], [1], ["a", 1.5]),
    (ClassVar[Count], [1], [0]),
    (Annotated[Annotated[int, Field(ge=1)], Field(le=3)], [1, 3], [0, 4, "a"]),
    (Annotated[int, Interval(ge=1, le=3)], [1, 3], [0, 4]),
    (conint(ge=1), [1], [0, "a"]),
    (Annotated[set[Share], Field(min_length=1)], [{0.5}], [set(), {2}, {"a"}]),
    (Scale, [1, 0.5], [0, "a", None]),
    (Scale | None, [None, 1], [0]),
    (list[Scale], [[1]], [[0], [{}]]),
    (Scales, [{"a": 1}], [{"a": 0}, {1: 1}, 3]),
    (Listed[int], [[1]], [["a"], 3]),
    (Mapping[str, set[int]], [{"a": {1}}], [{"a": {1.5}}, {"a": 1}]),
    (MutableMapping[str, int], [{"a": 1}], [[], {"a": "b"}]),
    (collections.defaultdict[str, list[int]], [{"a": [1]}], [3, {"a": ["b"]}]),
    (collections.Counter[str], [collections.Counter("ab")], [3, "a", {"a": "b"}]),
    (Optional[Literal["a", 1]], ["a", 1, None], [True, 2, "b"]),  # noqa: UP045
    (Colour, [Colour.RED], [3, None]),
    (pathlib.Path, [pathlib.Path()], [3, None]),
    (Callable, [len], [3, None]),
    (bool | tuple[int, ...], [True, (1,)], [1, ("a",)]),
]
UNCHECKED: list[Any] = [Callable[[int], int], Shape, Endless, Final, Any, type[int], T, object, "Missing"]


@pytest.mark.parametrize(("annotation", "good", "bad"), CHECKED, ids=str)
def test_values_of_unusual_annotations(annotation, good, bad):
    for value in good:
        assert check_value("it", value, annotation) is value
    for value in bad:
        with pytest.raises(ConfigError) as refused:
            check_value("it", value, annotation)
        assert str(refused.value).startswith("`it")


VALUES = st.recursive(
    st.builds(Odd)
    | st.sampled_from([None, True, -1, 0, 1, 2.5, "a", b"a", object(), Colour.RED, np.float32(1), torch.ones(2)])
    | st.sampled_from([Decimal("0.5"), collections.deque(["a"]), np.zeros((2, 2)), torch.nn.ReLU()]),
    lambda each: (
        st.lists(each, max_size=2)
        | st.lists(each, max_size=2).map(tuple)
        | st.lists(each, max_size=2).map(collections.deque)
        | st.sets(st.sampled_from([1, "a", 1.5]), max_size=2)
        | st.dictionaries(st.sampled_from(["a", 1, "[key]", (1,)]), each, max_size=2)
    ),
    max_leaves=4,
)


@given(annotation=st.sampled_from([*(each for each, _, _ in CHECKED), *UNCHECKED]), value=VALUES, wrap=st.booleans())
def test_any_value_of_any_annotation_is_accepted_or_refused_in_one_line(annotation, value, wrap):
    sentence = refusal(value, list[annotation] if wrap else annotation)
    assert sentence is None or (sentence.startswith("`group.it") and " (=" in sentence and "\n" not in sentence)


def refusal(value: Any, annotation: Any) -> str | None:
    try:
        check_value("group.it", value, annotation)
    except ConfigError as refused:
        return str(refused)
    return None


@pytest.mark.parametrize("annotation", UNCHECKED, ids=str)
def test_objects_are_not_checked(annotation):
    odd = Odd()
    assert check_value("it", odd, annotation) is odd


def test_one_annotation_that_cannot_be_resolved_leaves_the_others_checked():
    class Later(Configurable, group="later"):
        def __init__(
            self,
            size: "Missing",
            sizes: "list[Missing]" = (),
            share: "Share" = 0.5,
            scale: Scale = 1.0,
            lengths: Iterable["Missing"] = (),
        ) -> None:
            self.size = size

    assert Later("any", sizes=3).size == "any"  # type: ignore[arg-type]
    for name in ("share", "scale"):
        with pytest.raises(ConfigError, match=rf"`later.{name}` \(=-1\) must be"):
            Later("any", **{name: -1})


NUMBERS = [np.float64, np.float32, np.float16, torch.tensor, np.array, lambda value: torch.tensor(value).double()]


@given(value=st.floats(0, 1, width=16), make=st.sampled_from(NUMBERS))
def test_numbers_of_numpy_and_torch_arrive_as_plain_numbers(value, make):
    penalty = MMD(make(value), sigma=1, scales=[make(1.5)])
    assert (penalty.lam, type(penalty.lam)) == (value, float)
    assert [type(each) for each in penalty.scales] == [float]
    assert Wasserstein(make(value), queue=np.int64(3)).queue_size == 3
    with pytest.raises(ConfigError, match=r"`penalty.lam` \(=-0.5\) must be ≥ 0; use penalty=none"):
        MMD(make(-0.5))


@pytest.mark.parametrize("make", [np.int64, np.int8, np.uint64, torch.tensor, np.array])
def test_integers_of_numpy_and_torch(make):
    assert type(check_value("it", make(3), Count)) is int
    assert check_value("it", make(3), Literal[2, 3]) == 3
    with pytest.raises(ConfigError, match=r"`it` \(=0\) must be ≥ 1"):
        check_value("it", make(0), Count)


def test_arrays_become_lists_only_where_no_array_is_allowed():
    given_as = np.array([0.5, 1.0])
    assert MMD(1, scales=given_as).scales == [0.5, 1.0]
    tensor = torch.tensor([0.5, 1.0])
    assert check_value("it", tensor, Sequence[float] | Tensor) is tensor
    assert check_value("it", np.bool_(True), bool) is True
    assert check_value("it", {"a": (np.int64(1),)}, Mapping[str, tuple[int, ...]]) == {"a": (1,)}
    for bad in (np.ones(1), np.array("a"), np.uint64(2**64 - 1), Fraction(1, 2), Decimal(1), torch.ones(1), np.nan):
        with pytest.raises(ConfigError, match="`it` "):
            check_value("it", bad, Weight)
