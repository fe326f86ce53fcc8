"""What the command lines share: settings as key=value, and errors in a sentence. Nothing here imports torch."""

import difflib
import logging
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf.errors import KeyValidationError, OmegaConfBaseException
from yaml import YAMLError

from interp_lightning.console import fail, guarded
from interp_lightning.engines import missing_package
from interp_lightning.errors import ConfigError
from interp_lightning.rules import check_choice, check_integer

FULL_ERROR = "HYDRA_FULL_ERROR"
QUIET = "INTERP_LIGHTNING_QUIET"  # tells processes that a command starts that its user has not asked for FULL_ERROR
# The user wants tracebacks, also of what a sentence explains; known before there is a configuration to read it from.
TRACEBACK = QUIET not in os.environ and (os.environ.get(FULL_ERROR) == "1" or "debug=true" in map(str.lower, sys.argv))

# Beside this file in an installed wheel, beside the package in a checkout.
CONF = next(
    folder for folder in (Path(__file__).parent / "conf", Path(__file__).parent.parent / "conf") if folder.is_dir()
)

# Where code lies that is not the user's; "<" begins what has no file.
NOT_THEIRS = ("<", f"{Path(__file__).parent}{os.sep}", sysconfig.get_path("stdlib"))

LOST_JOB = ("TerminatedWorkerError", "UncompletedJobError")  # joblib's and submitit's

FIRST = "INTERP_LIGHTNING_FIRST"  # tells the processes of further devices the process id of the first one's
INTERRUPTED = (
    "Interrupted; what had begun to train keeps its newest checkpoint: go on with ckpt_path=last, or for a sweep "
    "sweep.resume=true."
)

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


def reason(error: Exception) -> str:
    """The sentence for a run that is skipped because of any error, the user's to mend or not.

    Raises:
        BrokenPipeError: nobody reads the output any more, which is no fault of the run.
    """
    if isinstance(error, BrokenPipeError):
        raise error
    return explain(error) or f"{' '.join(str(error).split())} ({type(error).__name__}; debug=true shows where)"


def explain(error: BaseException) -> str | None:
    """The sentence for something that the user can mend; None for an error of ours."""
    chain = _chain(error)
    for link in chain:
        if isinstance(link, ConfigError):
            return str(link)
        # A GPU's, a CPU's in torch, a CPU's in numpy.
        if type(link).__name__ == "OutOfMemoryError" or "allocate memory" in str(link) or isinstance(link, MemoryError):
            return "out of memory; use a smaller data.batch_size, network.depth or latent_dim"
    if sentence := of_own_code(error):
        return sentence
    if isinstance(error, RuntimeError) and ("by peer" in str(error) or type(error).__name__ == "DistNetworkError"):
        return (
            "The process of another device has ended, and this one with it; what ended it is said above, or else it "
            "was killed: go on with ckpt_path=last, if training had begun"
        )
    for link in chain:
        if sentence := missing_package(str(link)):
            return sentence
        if type(link).__name__ in LOST_JOB:
            return (
                "The process of a job has been killed, by the system if memory was short, and the sweep ends with it; "
                "finished jobs are kept: go on with sweep.resume=true, and if memory was short with fewer jobs at once"
            )
    if 'detect "srun"' in str(error):
        return "hydra/launcher=submitit_slurm wants SLURM, and there is no srun here; use joblib or submitit_local"
    if str(error).startswith("No trials are completed"):
        return (
            "the search has found nothing, because no job has finished; the table has each one's error, and if "
            "there is none, hydra.sweeper.n_trials must be ≥ 1"
        )
    if isinstance(error, RecursionError):
        names = " → ".join(_files_in_a_circle(error))
        return f"a configuration file refers to itself{names and f' ({names})'}; remove one of its references"
    if isinstance(error, InstantiationException):
        *_, key = str(error).split("full_key: ")  # "Error in call to target '…':\nTypeError(…)\nfull_key: …"
        return f"`{key.strip()}` cannot be set up: {' '.join(str(error.__cause__ or error).split())}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        near = difflib.get_close_matches(choice, error.options, n=1)
        hint = f"; did you mean {group}={near[0]}?" if near else ""
        return f"`{group}` (={choice}) must be one of: {', '.join(error.options)}{hint}"
    if unknown := re.match(r"Could not override '(.+?)'", str(error)):
        from interp_lightning.settings import did_you_mean  # which imports this

        ours = not unknown[1].startswith("hydra.")
        hint = did_you_mean(unknown[1]) if ours else "--cfg hydra prints those there are"
        return f"`{unknown[1].split('@')[0]}` is no setting of this run; {hint}"
    if str(error).startswith("Config group override must be"):
        return "a group such as model= or trainer= must name one of its choices, not null; --help lists them"
    if type(error).__name__ == "MisconfigurationException":  # Lightning's, in sentences
        return " ".join(str(error).split())
    if any(isinstance(link, KeyValidationError) for link in chain) or "Incompatible key type" in str(error):
        return 'a configuration file has a key that is null or no text; put it in quotes, as in "null": 3'
    if isinstance(error, HydraException):
        # What is missing and what there is; not where it was looked for.
        sentence = str(error).split("\nConfig search path")[0].strip()
        if isinstance(error, OverrideParseException):
            sentence = f"`{error.override}` cannot be read: {' '.join(sentence.split())}"
        if isinstance(error.__cause__, OmegaConfBaseException):
            sentence += f": {str(error.__cause__).splitlines()[0]}"
        if "does not support sweep type" in sentence:
            sentence += "; hydra/sweeper=optuna searches in intervals"
        quotes = "; a value with special characters wants quotes within quotes, as in 'name=\"a b\"'"
        return sentence + quotes * isinstance(error, OverrideParseException)
    if isinstance(error, OmegaConfBaseException):
        return f"`{error.full_key}`: {str(error).splitlines()[0]}; --cfg job prints the configuration"
    if isinstance(error, UnicodeDecodeError):
        return f"a configuration file is no text in UTF-8: {error}"
    if "Exceeds the limit" in str(error):  # Python reads no longer ones
        return "a number in the settings has thousands of digits; it must fit into 64 bits"
    if isinstance(error, YAMLError):
        return f"a configuration file is no valid YAML: {' '.join(str(error).split())}"
    if isinstance(error, OSError) and error.filename:
        return f"`{error.filename}` cannot be written or read ({error.strerror}); name a folder of yours"
    return None


def of_own_code(error: BaseException) -> str | None:
    """The sentence for an error of the user's own class: it raised one, or cannot be imported; None for any other."""
    for link in _chain(error):
        ours = True  # what lies above our code is whoever called it
        place = None
        for frame, line in traceback.walk_tb(link.__traceback__):
            file = frame.f_code.co_filename
            theirs = not file.startswith(NOT_THEIRS) and "-packages" not in file
            if theirs and not ours:
                place = frame, line
            ours = ours and theirs
        if place:
            code, line = place[0].f_code, place[1]
            message = " ".join(str(link).split())[:300]
            return (
                f"{place[0].f_globals.get('__name__')}.{code.co_qualname} ({code.co_filename}, line {line}) raised "
                f"{type(link).__name__}{message and ': '}{message}; this is your own code: correct it there, or "
                "run with debug=true to see how it was called"
            )
    for link in _chain(error):
        if target := re.search(r"Error locating target '(.+?)'", str(link)):
            *_, key = str(link).split("full_key: ")
            reason = " ".join(str(_chain(link)[-1]).split())
            return (
                f"`{key.strip()}._target_` (={target[1]}) cannot be imported: {reason}; put the folder of its file on "
                "PYTHONPATH, as in PYTHONPATH=FOLDER python -m interp_lightning …"
            )
    return None


def _chain(error: BaseException) -> list[BaseException]:
    """An error and what led to it, the latest first."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _files_in_a_circle(error: RecursionError) -> list[str]:
    """The configuration files whose defaults lead to one another, as Hydra came upon them."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    paths = [frame.f_locals.get("path") for frame in frames if frame.f_code.co_name == "_create_defaults_tree_impl"]
    repeated = dict.fromkeys(path for path in paths if isinstance(path, str) and paths.count(path) > 1)
    return [*repeated, *list(repeated)[:1]]
