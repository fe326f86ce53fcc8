"""Someone else's configuration: checked, and built from without running anything but this package's own classes."""

import math
import re
from functools import partial
from importlib import import_module
from inspect import isabstract
from pathlib import Path
from typing import Any

from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from interp_lightning.errors import CheckpointError, ConfigError
from interp_lightning.parameters import Configurable, check_part
from interp_lightning.runs.build import PARTS
from interp_lightning.system.plain import UNPRINTABLE, dotted, entries

SPECIAL = ("_target_", "_partial_")  # keys of Hydra's that our configurations have
# Where a `_target_` can be: at the top of the parts, and of what a run records and this package does not set up again.
WITH_TARGET = {*((part,) for part in (*PARTS, "trainer", "logger", "metrics")), ("trainer", "strategy")}


def check_foreign(config: dict[str, Any], path: Path) -> None:
    """Refuse a configuration that would call anything but classes of this package and of torch.optim.

    Args:
        config: what `plain` returned.
        path: the file that it is from.
    """
    for where, value in entries(config):
        texts = [each for each in (*where[-1:], value) if isinstance(each, str)]
        if any("${" in text or text == "???" for text in texts):
            raise CheckpointError(
                f"{path}: a setting is a reference (${{…}}), which could bring in anything; with trust=true it is "
                f"followed, if you know where the file comes from (`{dotted(where)}`)"
            )
        if any(map(UNPRINTABLE.search, texts)):
            raise CheckpointError(
                f"{path}: `{dotted(where)}` has characters that cannot be printed; with trust=true it is used, if you "
                "know where the file comes from"
            )
        # Hydra acts on keys like _target_ and _args_ wherever they are; no setting begins like them.
        if where and str(where[-1]).startswith("_") and not _may_be_special(where, value):
            called = value if where[-1] == "_target_" else dotted(where)
            raise _foreign(path, dotted(where[:-1]), called)
    for part in PARTS:
        kind = _our_class(part, config[part].get("_target_"))
        if kind is None:
            raise _foreign(path, part, config[part].get("_target_"))
        if issubclass(kind, Configurable):
            check_part(kind, config[part], config)


def build_ours(part: str, settings: dict[str, Any], **arguments: Any) -> Any:
    """What a part of someone else's configuration describes: one call of one class, on values that `plain` returned.

    Raises:
        CheckpointError: its `_target_` names no class of this package.
    """
    kind = _our_class(part, settings["_target_"])
    if kind is None:
        raise CheckpointError(f"`{part}` would run {settings['_target_']}, which is not this package's")
    make = partial(kind, **{key: value for key, value in settings.items() if key not in SPECIAL}, **arguments)
    return make if part == "optimizer" else make()


class Limited(TorchDispatchMode):
    """Refuse to make tensors of more numbers together than some; each counts as a thousand at least.

    So that settings which ask for a model far larger than the weights beside them cannot fill the memory.
    """

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.left = numbers

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and isinstance(args[0], (list, tuple)) and all(type(size) is int for size in args[0]):
            self.left -= max(1_000, math.prod(args[0]))
            if self.left < 0:
                raise ConfigError("its settings describe a far larger model than its weights are of")
        return func(*args, **(kwargs or {}))


def _foreign(path: Path, where: str, called: Any) -> CheckpointError:
    return CheckpointError(
        f"{path}: `{where}` would run {str(called)[:200]}, which is not this package's; with trust=true it is run, if "
        "you know where the file comes from"
    )


def _may_be_special(where: tuple[str | int, ...], value: Any) -> bool:
    """Return True for a key of Hydra's in its place: at the top of what a run sets up."""
    if where == ("optimizer", "_partial_"):
        return value is True
    return where[-1] == "_target_" and where[:-1] in WITH_TARGET and isinstance(value, str)


def _our_class(part: str, target: Any) -> type | None:
    """The class that a part's `_target_` names if it is public, of the right base, and this package's or torch.optim's.

    Modules are imported, never walked through: `interp_lightning.runs.load.torch.hub.load` is no module's class.
    """
    module, _, name = target.rpartition(".") if isinstance(target, str) else ("", "", "")
    if not re.fullmatch(r"interp_lightning(\.[a-z]\w*)+|torch\.optim", module, re.ASCII) or name.startswith("_"):
        return None
    try:
        found = vars(import_module(module)).get(name)
    except ImportError:
        return None
    if not isinstance(found, type) or not issubclass(found, PARTS[part]) or isabstract(found) or found is Optimizer:
        return None
    own = found.__module__ == module or (module == "torch.optim" and found.__module__.startswith("torch.optim."))
    return found if own and found.__name__ == name else None
