"""Read the settings of a command from key=value, and turn errors into sentences. Imports no torch."""

import difflib
import logging
import os
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from pydantic import TypeAdapter, ValidationError

from interp_lightning.commands.explain import explain
from interp_lightning.errors import ConfigError
from interp_lightning.parameters import WayOut, check_choice, check_integer
from interp_lightning.runs.find import newest_run
from interp_lightning.system.conf import CONF
from interp_lightning.system.console import fail, guarded

if TYPE_CHECKING:
    import torch

FULL_ERROR = "HYDRA_FULL_ERROR"
QUIET = "INTERP_LIGHTNING_QUIET"  # tells child processes that this program has set FULL_ERROR, not the user
DEVICES = ("auto", "cpu", "cuda")
OUTPUTS = Path("outputs")  # where run=last searches
POSITIONAL = "run"  # the setting that takes arguments without a key
WIDTH = 110  # columns of --help

S = TypeVar("S", bound="Common")
Overrides = Annotated[Sequence[str], WayOut("give settings as on the command line, such as ['model=acai']")]


def setting(default: Any, text: str, shape: str = "", key: str = "", group: bool = False) -> Any:
    """Declare a setting of a command: a dataclass field with its default and its line in --help.

    Args:
        default: also gives the type; a list takes a key that is given several times.
        text: for --help.
        shape: placeholder in --help where the default is empty, such as DIR.
        key: the name on the command line, if it is not the field's.
        group: the key is one of Hydra's groups, as in metrics=full metrics.pairs=9; the field collects the overrides.
    """
    metadata = {"text": text, "shape": shape, "key": key, "group": group}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class Common:
    """Settings that all commands except train share."""

    data_root: str = setting("", "folder of the data files, if they have moved since training", "DIR", key="data.root")
    device: str = setting("auto", "cpu, cuda, or auto")
    threads: int = setting(1, "number of CPU threads")
    trust: bool = setting(
        False, "true lets a run's configuration build classes from outside this package, which runs their code"
    )
    debug: bool = setting(False, "true prints the traceback of every error")


def command(kind: type[S], work: Callable[[S], None]) -> None:
    """Run a command: read its settings from sys.argv, do the work, print a sentence for each expected error.

    Args:
        kind: a subclass of `Common`. Its docstring starts --help, its fields follow.
        work: does the work; it imports torch after it has checked the settings.
    """
    with guarded():
        _command(kind, work)


def _command(kind: type[S], work: Callable[[S], None]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.raiseExceptions = False  # a message that cannot be written must not print a traceback
    given = [expand_home(os.path.expanduser(argument)) for argument in sys.argv[1:]]
    try:
        check_current_folder()
        if not given or {"-h", "--help"} & set(given):
            print(help_text(kind), flush=True)
            raise SystemExit(0 if given else 2)
        settings = read_settings(given, kind)
        check_choice("device", settings.device, DEVICES)
        check_integer("threads", settings.threads, least=1)
        work(settings)
    except KeyboardInterrupt:
        fail("Interrupted. Files that were written before are complete.", 130)
    except BrokenPipeError:
        raise
    except Exception as error:
        sentence = explain(error)
        if wants_traceback() or sentence is None:
            raise
        fail(sentence)


def wants_traceback() -> bool:
    """Tell if the user asks for tracebacks: debug=true, or HYDRA_FULL_ERROR=1 that this program has not set itself."""
    full = os.environ.get(FULL_ERROR) == "1" or "debug=true" in map(str.lower, sys.argv)
    return full and QUIET not in os.environ


def read_settings(given: Sequence[str], kind: type[S]) -> S:
    """Read settings from key=value arguments in any order.

    Args:
        given: the arguments. One without a key is a path, for `run`.
        kind: the dataclass; the types of its defaults are those of the settings.

    Raises:
        ConfigError: a key is unknown, is given twice or has no value; a value has the wrong type.
    """
    known = _by_key(kind)
    found: dict[str, list[str]] = {}
    for argument in given:
        key, value = _split(argument, known)
        found.setdefault(key, []).append(value)
    settings = kind()
    for key, values in found.items():
        default = known[key].default
        if default is not MISSING and len(values) > 1:
            raise ConfigError(f"`{key}` is given twice; give one value")
        try:
            chosen: Any = values if default is MISSING else TypeAdapter(type(default)).validate_python(values[0])
        except ValidationError:
            allowed = "true or false" if isinstance(default, bool) else f"an integer, such as {default}"
            raise ConfigError(f"`{key}` (={values[0]}) must be {allowed}") from None
        setattr(settings, known[key].name, chosen)
    return settings


def _split(argument: str, known: dict[str, Field[Any]]) -> tuple[str, str]:
    """Return the key and the value of an argument; the value of a group is the whole argument."""
    key, equals, value = argument.partition("=")
    if not equals and argument.startswith("-"):
        raise ConfigError(f"`{argument}` is no setting; settings are given as key=value, see --help")
    group = known.get(key.split(".")[0])
    if equals and group is not None and group.metadata["group"]:
        return group.name, argument
    if POSITIONAL in known and (not equals or (key not in known and Path(argument).exists())):
        key, value = POSITIONAL, argument
    if key not in known:
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean `{near[0]}`? It" if near else "it"
        raise ConfigError(f"`{key}` is no setting of this command; {hint} has: {', '.join(known)}")
    if value in ("", "???"):  # which Hydra and OmegaConf take for a value that is missing
        raise ConfigError(f"`{key}` has no value; give one as {key}=…, or remove it")
    if "${" in value and not Path(value).exists():
        raise ConfigError(f"`{key}` (={value}) is a reference, which this command does not resolve; give its value")
    return key, value


def _by_key(kind: type[Common]) -> dict[str, Field[Any]]:
    """Return the fields of a dataclass by their keys on the command line, the common ones last."""
    common = [each.name for each in fields(Common)]
    ordered = sorted(fields(kind), key=lambda each: each.name in common)
    return {each.metadata["key"] or each.name: each for each in ordered}


def help_text(kind: type[Common]) -> str:
    """Return what --help prints: the docstring of a dataclass, then a line for each field."""
    lines = {}
    for key, each in _by_key(kind).items():
        default = "" if each.default is MISSING else str(each.default)
        value = default.lower() if isinstance(each.default, bool) else default or each.metadata["shape"]
        lines[f"{key}={value}"] = each.metadata["text"]
    column = max(map(len, lines)) + 4
    told = [
        textwrap.fill(text, WIDTH, initial_indent=f"  {head}".ljust(column), subsequent_indent=" " * column)
        for head, text in lines.items()
    ]
    return "\n".join([textwrap.dedent(f"    {kind.__doc__}").strip(), "", *told])


def find_last(names: Sequence[str]) -> list[str]:
    """Replace `last` by the newest run below outputs/.

    Raises:
        ConfigError: there is no run.
    """
    return [str(_newest()) if name == "last" else name for name in names]


def _newest() -> Path:
    run = newest_run(OUTPUTS)
    if run is None:
        raise ConfigError(
            f"`run` (=last) finds no run below {OUTPUTS.absolute()}; train one, or name a folder by run=DIR"
        )
    if run.is_symlink():  # a command may write into the run
        raise ConfigError(f"`run` (=last) finds {run}, a link to {run.resolve()}; name the run by run=DIR")
    return run


def expand_home(argument: str) -> str:
    """Expand ~ and ~user where a value in an argument starts with it, as a shell does for a whole word.

    No shell expands `data.root=~/x`, and Hydra's grammar allows no ~ in values.
    """
    return re.sub(r"(?<=[=,'\"\[{: ])~[\w.-]*(?=$|[/,'\"\]} ])", lambda found: os.path.expanduser(found[0]), argument)


def check_current_folder() -> None:
    """Raise ConfigError if the working directory has been deleted."""
    try:
        os.getcwd()
    except OSError as error:
        raise ConfigError(f"the working directory cannot be read ({error.strerror}); cd to one that exists") from None


def prepare(device: str, threads: int) -> "torch.device":
    """Set up the CPU for a command that does not train, and return the device to compute on.

    Args:
        device: "cpu", "cuda", or "auto" for the GPU if there is one.
        threads: number of CPU threads.

    Raises:
        ConfigError: there is no such device, or threads is not positive or above the number of cores.
    """
    from interp_lightning.system.machine import prepare_cpu

    check_integer("threads", threads, least=1, most=os.cpu_count() or 1)
    prepare_cpu(threads)
    return find_device(device)


def find_device(name: str) -> "torch.device":
    """Return the device of a name: "cpu", "cuda", or "auto" for the GPU if there is one.

    Raises:
        ConfigError: there is no such device.
    """
    import torch

    check_choice("device", name, DEVICES)
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`device` (=cuda) is not available; use device=cpu, or omit it")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def hydra_initialised() -> Iterator[None]:
    """Initialise Hydra with conf/, also inside a running Hydra program, whose state is restored afterwards."""
    program, settings = GlobalHydra.instance(), HydraConfig.instance()
    before = program.hydra, settings.cfg
    program.clear()
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            yield
    finally:
        program.hydra, settings.cfg = before
