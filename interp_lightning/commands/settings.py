"""What the command lines share: settings as key=value, and errors in a sentence. Nothing here imports torch."""

import logging
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp_lightning.commands.explain import explain
from interp_lightning.config.check import check
from interp_lightning.errors import ConfigError
from interp_lightning.parameters import check_choice, check_integer
from interp_lightning.system.console import fail, guarded

if TYPE_CHECKING:
    import torch

FULL_ERROR = "HYDRA_FULL_ERROR"
QUIET = "INTERP_LIGHTNING_QUIET"  # tells processes that a command starts that its user has not asked for FULL_ERROR
# The user wants tracebacks, also of what a sentence explains; known before there is a configuration to read it from.
TRACEBACK = QUIET not in os.environ and (os.environ.get(FULL_ERROR) == "1" or "debug=true" in map(str.lower, sys.argv))


Settings = dict[str, Any]

# What every command beside training has; each --help ends with these lines.
COMMON: Settings = {"data.root": "", "device": "auto", "threads": 1, "trust": False, "debug": False}
DEVICES = ("auto", "cpu", "cuda")
COMMON_USAGE = """
  data.root=DIR   where the data lie, if not where they lay in training
  device=auto     cpu, cuda, or auto
  threads=1       of the CPU
  trust=false     true lets a run's configuration set up classes from outside this package: that runs their code
  debug=false     true shows where in the program an error came from"""


def command(usage: str, defaults: Settings, work: Callable[[Settings], None]) -> None:
    """Run one of the commands beside training: read its settings, do the work, turn errors into sentences.

    Args:
        usage: what --help prints before the common settings; it explains every other one.
        defaults: see `read_settings`; the common ones come by themselves.
        work: what to do with the settings; it imports torch once it has looked at them.
    """
    with guarded():
        _command(usage, defaults, work)


def _command(usage: str, defaults: Settings, work: Callable[[Settings], None]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.raiseExceptions = False  # a message that cannot be written is no reason for a traceback
    given = [expand_home(os.path.expanduser(argument)) for argument in sys.argv[1:]]
    try:
        check_current_folder()
        if not given or {"-h", "--help"} & set(given):
            print(usage + COMMON_USAGE, flush=True)
            raise SystemExit(0 if given else 2)
        settings = read_settings(given, defaults | COMMON)
        check_choice("device", settings["device"], DEVICES)
        check_integer("threads", settings["threads"], least=1)
        work(settings)
    except KeyboardInterrupt:
        fail("Interrupted; what was written before is whole.", 130)
    except BrokenPipeError:
        raise
    except Exception as error:
        sentence = explain(error)
        if TRACEBACK or sentence is None:
            raise
        fail(sentence)


def read_settings(given: list[str], defaults: Settings) -> Settings:
    """Settings from a command line of key=value in any order.

    Args:
        given: the arguments. One that is not key=value is a path, for the first setting.
        defaults: each setting with its value if it is not given, whose type it has. A list takes what is given several
            times; a tuple is a group of Hydra's, such as metrics=full metrics.pairs=9, and takes them as they are.

    Raises:
        ConfigError: a key that is none of them, or a value that is none of its type.
    """
    settings = {key: list(value) if isinstance(value, list) else value for key, value in defaults.items()}
    seen = set()
    first = next(iter(defaults))
    for argument in given:
        key, equals, value = argument.partition("=")
        if not equals and argument.startswith("-"):
            raise ConfigError(f"`{argument}` is no setting; settings are given as key=value, see --help")
        if not equals or (key not in defaults and Path(argument).exists()):
            key, value = first, argument
        group = key.split(".")[0]
        if isinstance(defaults.get(group), tuple):
            settings[group] = (*settings[group], argument)
            continue
        if key not in defaults:
            raise ConfigError(f"`{key}` is no setting of this command; it has: {', '.join(defaults)}")
        if not value:
            raise ConfigError(f"`{key}` has no value; give one as {key}=…, or leave it out")
        if isinstance(defaults[key], list):
            settings[key].append(value)
        elif key in seen:
            raise ConfigError(f"`{key}` is given twice; give one value")
        else:
            seen.add(key)
            settings[key] = _value(key, value, defaults[key])
    return settings


def expand_home(argument: str) -> str:
    """Write the home folder out where a value of an argument begins with ~ or ~user, as a shell does for one word.

    So that `data.root=~/x` works, which no shell expands, and Hydra's grammar has no ~ in values.
    """
    return re.sub(r"(?<=[=,'\"\[{: ])~[\w.-]*(?=$|[/,'\"\]} ])", lambda found: os.path.expanduser(found[0]), argument)


def check_current_folder() -> None:
    """Raise ConfigError if the working directory has been deleted."""
    try:
        os.getcwd()
    except OSError as error:
        raise ConfigError(f"the working directory cannot be read ({error.strerror}); cd to one that exists") from None


def _value(key: str, text: str, default: Any) -> Any:
    """The text as what the default is: a truth value, an integer or a string."""
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise ConfigError(f"`{key}` (={text}) must be true or false")
        return text.lower() == "true"
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f"`{key}` (={text}) must be an integer, such as {default}") from None
    return text


def prepare(device: str, threads: int) -> "torch.device":
    """Set up torch for a command that does not train, and say where it is to work.

    Args:
        device: "cpu", "cuda", or "auto", the GPU if there is one.
        threads: of the CPU.

    Raises:
        ConfigError: there is no such device, or threads is below 1.
    """
    import torch

    from interp_lightning.system.machine import prepare_cpu

    prepare_cpu(check("threads", threads))
    check_choice("device", device, DEVICES)
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`device` (=cuda) is not there; leave it out to work on the CPU")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")
