"""Parameters: what each type allows, the sentence for everything else, and that every class checks its own."""

import importlib
import inspect
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
import torch
from conftest import choices
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pydantic import Field
from torch import Tensor, nn

from interp_lightning.commands.explain import explain
from interp_lightning.errors import ConfigError
from interp_lightning.parameters import (
    Configurable,
    Count,
    File,
    Folder,
    Name,
    Natural,
    Positive,
    Seed,
    Share,
    Text,
    WayOut,
    Weight,
    accepts,
    check_arguments,
    check_value,
    declared,
)
from interp_lightning.penalties.base import Penalty
from interp_lightning.penalties.mmd import MMD
from interp_lightning.system.conf import CONF

if TYPE_CHECKING:
    from decimal import Decimal

Factors = Annotated[Mapping[Natural, Weight], Field(min_length=1)]
Devices = Count | Literal[-1, "auto"] | list[Natural]
Limits = Mapping[Literal["a", "b"], Annotated[Positive | None, WayOut("use null for no limit")]]
GROUPS = ("model", "penalty", "data", "network", "schedule", "metrics")


@pytest.mark.parametrize(
    ("annotation", "good", "bad"),
    [
        (Weight, [0, 0.5, 10**6, 5e-324], [-1, math.nan, math.inf, True, "1", None, 10**400, b"1", [1], {}]),
        (Positive, [5e-324, 2**62], [0, -0.0, "x"]),
        (Share, [0, 1, 0.5], [1.5, -1e-9]),
        (Count, [1, 2**62], [0, 1.0, True, "2", None, 2**63]),
        (Natural, [0], [-1, -(2**63)]),
        (Seed, [0, 2**32 - 1], [-1, 2**32]),
        (float, [-1.5, 3], [math.nan, True, "1"]),
        (bool, [True, False], [0, 1, "true", None]),
        (Text, ["a"], ["", 1, None]),
        (Folder, ["a", "/a/b", "é‍"], ["", 1, "\n", "\ud800", 256 * "x", 1_001 * "a/", None]),
        (File, ["a.txt"], [""]),
        (Name, ["lam=0.1"], ["a/b", "..", "~a", " a", "a\\b"]),
        (Literal["a", None, 1], ["a", None, 1], ["b", True, 1.0, "\ud800", [], {}]),
        (Literal[True], [True], [1, 1.0]),
        (Positive | None, [None, 1], [0]),
        (tuple[Natural, Natural], [[1, 2], (1, 2)], [[1], [1, 2, 3], [1, "2"], "12", 3]),
        (Annotated[Sequence[Positive], Field(min_length=1)], [[1, 2.0], (1,)], [[], [1, -1], "12", {1}, 3, [True]]),
        (Sequence[float] | Tensor | None, [[1], (), torch.zeros(2), None], [[True], 3, "12", [[1]]]),
        (Factors, [{1: 0.5}], [{}, {"1": 0.5}, {1: "a"}, {1: -1}, [1], {True: 1}]),
        (Devices, [1, -1, "auto", [0]], [0, "a", True, -1.0, [-1]]),
        (Annotated[int, Field(multiple_of=2)], [2], [3]),
    ],
)
def test_types(annotation, good, bad):
    for value in good:
        assert check_value("it", value, annotation) is value
    for value in bad:
        assert not accepts(annotation, value), value


@pytest.mark.parametrize(
    ("annotation", "value", "sentence"),
    [
        (Annotated[Weight, WayOut("use 0")], -1, "`it` (=-1) must be ≥ 0; use 0"),
        (Annotated[Weight, WayOut("use 0")], "x", "`it` (='x') must be a finite number ≥ 0; use 0"),
        (Share, 2, "`it` (=2) must be ≥ 0 and ≤ 1"),
        (Count | None, 0, "`it` (=0) must be ≥ 1, or null"),
        (Count | None, "x", "`it` (='x') must be an integer ≥ 1, or null"),
        (Count, None, "`it` (=null) must be an integer ≥ 1"),
        (Literal["imq", "rbf"] | None, "x", "`it` (='x') must be one of: imq, rbf, or null"),
        (bool, "maybe", "`it` (='maybe') must be true or false"),
        (Sequence[Positive], [1, [2]], "`it[1]` (=[2]) must be a finite number > 0"),
        (Sequence[Sequence[Share]], [[0], [0, 7]], "`it[1][1]` (=7) must be ≥ 0 and ≤ 1"),
        (Annotated[Sequence[Share], Field(min_length=1)], [], "must be a list of at least 1, each a finite number"),
        (tuple[Share, Share], [0.9], "`it` (=[0.9]) must be a list of 2, each a finite number ≥ 0 and ≤ 1"),
        (Factors, {30: -1}, "`it[30]` (=-1) must be ≥ 0"),
        (Factors, {"a": 1}, "`it` (={'a': 1}) must be a mapping {key: value, …}, each key an integer ≥ 0, each value"),
        (Limits, {"a": 0}, "`it.a` (=0) must be > 0, or null; use null for no limit"),
        (Limits | None, {"c": 1}, "each key one of: a, b, each value a finite number > 0, or null"),
        (Devices, 0, "`it` (=0) must be an integer ≥ 1 or one of: -1, auto or a list, each an integer ≥ 0"),
        (Sequence[float] | Tensor | None, 3, "`it` (=3) must be a list, each a finite number, or null"),
        (Folder, "", "`it` (='') must be a folder; use printable characters"),
        (Annotated[int, Field(multiple_of=2)], 3, "`it` (=3) must be an integer (Input should be a multiple of 2)"),
        (Sequence[Weight], [10**5_000], "`it` (=too large to show) must fit into 64 bits; use a smaller number"),
        (Sequence[Weight], [1, 2**63], "`it` (=9223372036854775808) must fit into 64 bits"),
        (Literal["a"], 300 * "x", f"`it` (='{99 * 'x'}…{99 * 'x'}') must be one of: a"),
    ],
)
def test_sentences(annotation, value, sentence):
    with pytest.raises(ConfigError) as refused:
        check_value("it", value, annotation)
    assert sentence in str(refused.value)


class Linear(Penalty):
    """A penalty of a user's: the same name as MMD's with another rule, and arguments for its base."""

    def __init__(
        self,
        lam: float,
        kernel: Annotated[Count, WayOut("3 is enough")] = 3,
        activation: Callable[[Tensor], Tensor] | str = torch.relu,
        net: nn.Module | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(lam, **kwargs)
        self.arguments = (kernel, activation, net)

    def forward(self, z: Tensor, prior: Tensor) -> Tensor:
        return z.mean()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"lam": -1}, "`penalty.lam` (=-1) must be ≥ 0; use penalty=none to switch it off"),
        ({"lam": "x"}, "`penalty.lam` (='x') must be a finite number"),
        ({"lam": 1, "kernel": "imq"}, "`penalty.kernel` (='imq') must be an integer ≥ 1; 3 is enough"),
        ({"lam": 1, "lr": 0}, "`penalty.lr` (=0) must be > 0, or null"),
    ],
)
def test_a_users_class_gets_the_same_sentences(arguments, sentence):
    for make in (lambda: Linear(**arguments), lambda: instantiate({"_target_": f"{__name__}.Linear", **arguments})):
        with pytest.raises(Exception, match=r"penalty\.") as refused:
            make()
        assert explain(refused.value).startswith(sentence)


def test_values_reach_the_constructor_unchanged():
    scales = (1, 2)
    assert MMD(2, "rbf", scales=scales).scales is scales
    assert type(MMD(2).lam) is int
    odd = object()
    assert Linear(1, activation=odd, net=odd).arguments == (3, odd, odd)  # type: ignore[arg-type]


def test_python_names_missing_and_unknown_arguments():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'lam'"):
        MMD()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unexpected keyword argument 'lambda_'"):
        MMD(1, lambda_=2)  # type: ignore[call-arg]


def test_a_subclass_inherits_declarations_or_replaces_them():
    class Wide(MMD):
        pass

    class Named(Penalty):
        def __init__(self, lam: Literal["low", "high"]) -> None:
            super().__init__({"low": 0.1, "high": 1.0}[lam])

        def forward(self, z: Tensor, prior: Tensor) -> Tensor:
            return z.mean()

    class Loose(Named):
        def __init__(self, lam) -> None:  # type: ignore[no-untyped-def]
            super().__init__(lam.lower())

    with pytest.raises(ConfigError, match=r"`penalty.sigma` \(=0\)"):
        Wide(1, sigma=0)
    assert Loose("LOW").lam == 0.1
    assert Named("high").lam == 1.0
    with pytest.raises(ConfigError, match=r"`penalty.lam` \(=1\) must be one of: low, high"):
        Named(1)  # type: ignore[arg-type]


def test_unusual_annotations():
    class Later(Configurable, group="later"):
        def __init__(self, size: "Decimal") -> None:
            self.size = size

    class Documented(Configurable, group="documented"):
        def __init__(self, size: Annotated[Count, {"unit": "pixels"}]) -> None:
            self.size = size

    assert Later("any").size == "any"  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"`documented.size` \(=0\) must be ≥ 1"):
        Documented(0)


FILES = [(group, choice) for group in GROUPS for choice in choices(group)]


@pytest.mark.parametrize(("group", "choice"), FILES)
def test_yaml_and_signature_agree(group, choice):
    """Each key is an annotated parameter, and its value is accepted."""
    settings = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{choice}.yaml"))
    for default in settings.pop("defaults", []):
        settings = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{default}.yaml")) | settings
    module, _, name = settings.pop("_target_").rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    assert kind.setting_group == group
    assert settings.keys() <= declared(kind).keys()
    check_arguments(kind, settings)
    inspect.signature(kind).bind_partial(**settings)


def test_the_default_of_each_parameter_is_accepted():
    for group, choice in FILES:
        target = OmegaConf.load(CONF / group / f"{choice}.yaml").get("_target_")
        if target is not None:
            module, _, name = target.rpartition(".")
            kind = getattr(importlib.import_module(module), name)
            defaults = {each.name: each.default for each in inspect.signature(kind).parameters.values()}
            check_arguments(kind, {key: each for key, each in defaults.items() if each is not inspect.Parameter.empty})


@pytest.mark.parametrize("room", ["penalties", "networks", "functional"])
def test_pure_parts_import_neither_hydra_nor_lightning(room):
    package = Path(__file__).parents[2] / "interp_lightning"
    modules = [f"interp_lightning.{room}.{path.stem}" for path in sorted((package / room).glob("[a-z]*.py"))]
    code = (
        f"import sys\nimport {', '.join([*modules, 'interp_lightning.steps.schedules'])}\n"
        "loaded = {'hydra', 'omegaconf', 'lightning', 'pytorch_lightning', 'torchmetrics'} & {*sys.modules}\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=package.parent)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("name_77x", r"must be one of 100 choices; did you mean name_77 or name_\d+ or name_\d+\?$"),
        ("?", r"must be one of 100 choices, such as name_0, name_1, name_2$"),
    ],
)
def test_of_many_choices_the_most_alike_are_named(value, sentence):
    with pytest.raises(ConfigError, match=sentence):
        check_value("key", value, Literal[tuple(f"name_{number}" for number in range(100))])
