"""Check someone else's configuration, and build from it without running code from outside this package."""

import math
import re
from functools import partial
from importlib import import_module
from inspect import isabstract
from pathlib import Path
from typing import Any

from torch.optim import Optimizer
from torch.utils._python_dispatch import TorchDispatchMode

from interp_lightning.config.check import check_values
from interp_lightning.errors import CheckpointError, ConfigError
from interp_lightning.runs.build import PARTS
from interp_lightning.system.plain import UNPRINTABLE, dotted, entries

SPECIAL = ("_target_", "_partial_")  # Hydra's keys in our configurations
# Where a `_target_` may stand: in the parts, and in settings that are recorded but not built again.
WITH_TARGET = {*((part,) for part in (*PARTS, "trainer", "logger", "metrics")), ("trainer", "strategy")}


def check_foreign(config: dict[str, Any], path: Path) -> None:
    """Reject a configuration that would call anything but classes of this package and of torch.optim.

    Args:
        config: the configuration, as `plain_copy` returns it.
        path: its file, for the message.

    Raises:
        CheckpointError: names the first setting that could run other code, or that cannot be printed.
        ConfigError: a value is out of its range.
    """
    for where, value in entries(config):
        texts = [each for each in (*where[-1:], value) if isinstance(each, str)]
        if any("${" in text or text == "???" for text in texts):
            raise CheckpointError(
                f"{path}: a setting is a reference (${{…}}), which could run code (`{dotted(where)}`); use trust=true "
                "to follow it, if you know where the file comes from"
            )
        if any(map(UNPRINTABLE.search, texts)):
            raise CheckpointError(
                f"{path}: `{dotted(where)}` has characters that cannot be printed; use trust=true to accept it, if you "
                "know where the file comes from"
            )
        # Hydra acts on keys like _target_ and _args_ anywhere; no setting's name begins with an underscore.
        if where and str(where[-1]).startswith("_") and not _may_be_special(where, value):
            called = value if where[-1] == "_target_" else dotted(where)
            raise _foreign(path, dotted(where[:-1]), called)
    for part in PARTS:
        if _our_class(part, config[part].get("_target_")) is None:
            raise _foreign(path, part, config[part].get("_target_"))
    check_values(config | {"threads": 1})  # the writer's machine may have more cores than this one


def build_ours(part: str, settings: dict[str, Any], **arguments: Any) -> Any:
    """Build a part of a run from someone else's settings by one call of one class.

    Args:
        part: a key of `PARTS`.
        settings: that part of the configuration, as `plain_copy` returns it.
        arguments: passed to the constructor beside the settings.

    Raises:
        CheckpointError: `_target_` is not a class of this package.
    """
    kind = _our_class(part, settings["_target_"])
    if kind is None:
        raise CheckpointError(f"`{part}` would run {settings['_target_']}, which is not part of this package")
    make = partial(kind, **{key: value for key, value in settings.items() if key not in SPECIAL}, **arguments)
    return make if part == "optimizer" else make()


class SizeLimit(TorchDispatchMode):
    """Limit the total number of elements of new tensors; each tensor counts as at least a thousand.

    This stops settings that describe a far larger model than the checkpoint's weights before they fill the memory.

    Args:
        numbers: the limit.
    """

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.left = numbers

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and isinstance(args[0], (list, tuple)) and all(type(size) is int for size in args[0]):
            self.left -= max(1_000, math.prod(args[0]))
            if self.left < 0:
                raise ConfigError("its settings describe a far larger model than its weights")
        return func(*args, **(kwargs or {}))


def _foreign(path: Path, where: str, called: Any) -> CheckpointError:
    return CheckpointError(
        f"{path}: `{where}` would run {str(called)[:200]}, which is not part of this package; use trust=true to run "
        "it, if you know where the file comes from"
    )


def _may_be_special(where: tuple[str | int, ...], value: Any) -> bool:
    """Return True for one of Hydra's keys where our configurations have it."""
    if where == ("optimizer", "_partial_"):
        return value is True
    return where[-1] == "_target_" and where[:-1] in WITH_TARGET and isinstance(value, str)


def _our_class(part: str, target: Any) -> type | None:
    """Return the class that `_target_` names, None unless it is public, of the part's base and ours or torch.optim's.

    A name is looked up in one imported module only: `interp_lightning.runs.load.torch.hub.load` is not found.
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
