"""Find and read the configuration files, and build what they name. Imports no torch."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

PACKAGE = Path(__file__).parents[1]
# In an installed wheel, beside the package in a checkout.
CONF = next(folder for folder in (PACKAGE / "conf", PACKAGE.parent / "conf") if folder.is_dir())


@cache
def choices(group: str) -> tuple[str, ...]:
    """Return the names of the yaml files in conf/`group`, sorted.

    Example:
        >>> "slerp" in choices("path")
        True
    """
    return tuple(sorted(file.stem for file in (CONF / group).glob("*.yaml")))


def read(path: Path) -> dict[str, Any]:
    """Return the content of a yaml file, with its references as text."""
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.load(path)))


def find(target: str) -> Any:
    """Import a class by its dotted name."""
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)


def build(settings: Mapping[str, Any]) -> Any:
    """Build the class that `_target_` names, with the other settings as its arguments."""
    return find(settings["_target_"])(**{key: value for key, value in settings.items() if key != "_target_"})
