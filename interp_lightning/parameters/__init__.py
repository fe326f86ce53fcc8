"""Types of settings, declared in a class's signature and checked when the class is built."""

from interp_lightning.parameters.configurable import Configurable, check_arguments, check_part, checked, declared
from interp_lightning.parameters.sentences import shown
from interp_lightning.parameters.types import (
    LARGEST,
    Count,
    File,
    Folder,
    Name,
    Natural,
    Positive,
    Rate,
    Seed,
    Share,
    Text,
    WayOut,
    Weight,
)
from interp_lightning.parameters.values import accepts, check_choice, check_fits, check_integer, check_value

__all__ = [
    "LARGEST",
    "Configurable",
    "Count",
    "File",
    "Folder",
    "Name",
    "Natural",
    "Positive",
    "Rate",
    "Seed",
    "Share",
    "Text",
    "WayOut",
    "Weight",
    "accepts",
    "check_arguments",
    "check_choice",
    "check_fits",
    "check_integer",
    "check_part",
    "check_value",
    "checked",
    "declared",
    "shown",
]
