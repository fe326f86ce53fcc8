"""Prepare the command line of a training run for Hydra. Imports no torch."""

import os
import sys
from itertools import pairwise
from pathlib import Path

from interp_lightning.commands.settings import expand_home
from interp_lightning.system.console import fail
from interp_lightning.system.disk import regular

# Hydra's options that are followed by a value.
WITH_VALUE = ("--config-name", "-cn", "--config-path", "-cp", "--config-dir", "-cd", "--cfg", "-c", "--package", "-p")
FOLDERS = ("--config-dir", "-cd", "--config-path", "-cp")


def prepare_arguments() -> None:
    """Rewrite sys.argv: options first, ~ expanded, --cfg job resolved. Reject --experimental-rerun."""
    sys.argv[1:] = options_first(sys.argv[1:])
    if any(argument.startswith("--experimental-rerun") for argument in sys.argv):
        fail("--experimental-rerun is refused, because it would run code in the file; give the settings instead")
    if ("--cfg", "job") in pairwise(sys.argv) and "--resolve" not in sys.argv:
        sys.argv.append("--resolve")


def options_first(arguments: list[str]) -> list[str]:
    """Put options before settings, because Hydra accepts no options between settings; expand ~ in values."""
    options: list[str] = []
    settings: list[str] = []
    takes_value = False
    for argument in arguments:
        is_option = takes_value or argument.startswith("-")
        expanded = expand_home(os.path.expanduser(argument) if takes_value else argument)
        (options if is_option else settings).append(expanded)
        takes_value = not takes_value and argument in WITH_VALUE
    return options + settings


def check_files(arguments: list[str]) -> None:
    """Raise OSError if a yaml file in one of the user's folders is not a regular file; Hydra would wait for a FIFO."""
    for name, value in [*pairwise(arguments), *(argument.split("=", 1) for argument in arguments if "=" in argument)]:
        if name in FOLDERS:
            for path in Path(value).rglob("*.yaml"):
                if path.exists() and not path.is_dir():
                    regular(path)
