"""Explain an error in one sentence, if the user can correct it. Imports no torch."""

import difflib
import functools
import re
import traceback
from collections.abc import Callable
from functools import singledispatch
from typing import ParamSpec, TypeVar

from hydra.errors import HydraException, InstantiationException, MissingConfigException, OverrideParseException
from omegaconf.errors import KeyValidationError, OmegaConfBaseException
from yaml import YAMLError

from interp_lightning.config.launchers import missing_package
from interp_lightning.errors import ConfigError, chain, of_own_code

P = ParamSpec("P")
R = TypeVar("R")

OUT_OF_MEMORY = "out of memory; use a smaller data.batch_size, network.depth or latent_dim"
LOST_JOB = (
    "The process of a job was killed, perhaps because memory ran out, and the sweep ends with it. Finished jobs are "
    "kept: resume with sweep.resume=true, and if memory was short with fewer jobs at once"
)
LOST_DEVICE = (
    "The process of another device has ended, and this one with it. Its error is printed above, unless it was killed: "
    "resume with ckpt_path=last, if training had started"
)
NULL_KEY = 'a configuration file has a key that is null or no text; put it in quotes, as in "null": 3'
KINDS = {"ListConfig": "a list", "DictConfig": "a mapping {key: value, …}"}
WRONG_KIND = re.compile(
    rf"Error merging override (?P<name>.+?)=(?P<value>.*): Cannot merge \w+ with (?P<kind>{'|'.join(KINDS)})"
)
# Exceptions of packages that are slow to import or optional: torch's, joblib's, submitit's.
BY_NAME = {"OutOfMemoryError": OUT_OF_MEMORY, "TerminatedWorkerError": LOST_JOB, "UncompletedJobError": LOST_JOB}
BY_NAME |= {"DistNetworkError": LOST_DEVICE}


def explain(error: BaseException) -> str | None:
    """Return the sentence for an error that the user can correct; None for a bug in this program."""
    links = chain(error)
    for link in links:
        if isinstance(link, (ConfigError, MemoryError)):
            return sentence(link)
        if type(link).__name__ in BY_NAME:
            return BY_NAME[type(link).__name__]
        if isinstance(link, RuntimeError) and "allocate memory" in str(link):  # torch has no type for it on a CPU
            return OUT_OF_MEMORY
    return of_own_code(error) or sentence(error)


def reason(error: Exception) -> str:
    """Return the sentence for a run that is skipped because of any error.

    Raises:
        BrokenPipeError: the reader of our output is gone, which is no fault of the run.
    """
    if isinstance(error, BrokenPipeError):
        raise error
    return explain(error) or f"{_on_one_line(error)} ({type(error).__name__}; debug=true shows where)"


def in_sentences(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function raise ConfigError with our sentence for each error that the user can correct."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ConfigError:
            raise
        except Exception as error:
            if said := explain(error):
                raise ConfigError(said) from error
            raise

    return wrapped


@singledispatch
def sentence(error: BaseException) -> str | None:
    """Return the sentence for a type of exception; None for types that only a bug raises."""
    if type(error).__name__ == "MisconfigurationException":  # Lightning's, which are sentences
        return _on_one_line(error)
    return None


@sentence.register
def _(error: ConfigError) -> str:
    return str(error)


@sentence.register
def _(error: MemoryError) -> str:
    return OUT_OF_MEMORY


@sentence.register
def _(error: RuntimeError) -> str | None:
    # Of gloo, which raises RuntimeError itself when a connection closes.
    return LOST_DEVICE if "by peer" in str(error) else None


@sentence.register
def _(error: RecursionError) -> str:
    names = " → ".join(_files_in_a_circle(error))
    return f"a configuration file refers to itself{names and f' ({names})'}; remove one of its references"


@sentence.register
def _(error: InstantiationException) -> str:
    *_, key = str(error).split("full_key: ")  # "Error in call to target '…':\nTypeError(…)\nfull_key: …"
    return f"`{key.strip()}` cannot be set up: {_on_one_line(error.__cause__ or error)}"


@sentence.register
def _(error: MissingConfigException) -> str:
    group, _, choice = (error.missing_cfg_file or "").rpartition("/")
    if said := missing_package(group, choice):
        return said
    if not group or not error.options:
        return str(error).split("\nConfig search path")[0].strip()
    near = difflib.get_close_matches(choice, error.options, n=1)
    hint = f"; did you mean {group}={near[0]}?" if near else ""
    return f"`{group}` (={choice}) must be one of: {', '.join(error.options)}{hint}"


@sentence.register
def _(error: OverrideParseException) -> str:
    return (
        f"`{error.override}` cannot be read: {_on_one_line(error)}; a value with special characters requires quotes "
        "within quotes, as in 'name=\"a b\"'"
    )


@sentence.register
def _(error: HydraException) -> str:
    said = _on_one_line(str(error).split("\nConfig search path")[0])
    if unknown := re.match(r"Could not override '(.+?)'", said):  # the exception has no attribute for it
        from interp_lightning.config.check import unknown_setting

        name, inner = unknown[1].split("@")[0], getattr(error.__cause__, "full_key", None) or ""
        if inner.startswith(f"{name}."):
            return f"`{inner}` is not there; +{name}=… adds a key to a setting that takes any"
        return unknown_setting(name)
    if wrong := WRONG_KIND.match(f"{said}: {error.__cause__}"):
        return f"`{wrong['name']}` (={wrong['value']}) must be {KINDS[wrong['kind']]}"
    if any(isinstance(link, KeyValidationError) for link in chain(error)):
        return NULL_KEY
    if isinstance(error.__cause__, OmegaConfBaseException):
        said += f": {str(error.__cause__).splitlines()[0]}"
    if "does not support sweep type" in said:
        said += "; hydra/sweeper=optuna searches in intervals"
    return said


@sentence.register
def _(error: KeyValidationError) -> str:
    return NULL_KEY


@sentence.register
def _(error: OmegaConfBaseException) -> str:
    name = f"`{error.full_key}`: " if error.full_key else ""
    return f"{name}{str(error).splitlines()[0]}; --cfg job prints the configuration"


@sentence.register
def _(error: UnicodeDecodeError) -> str:
    return f"a configuration file is no text in UTF-8: {error}"


@sentence.register
def _(error: ValueError) -> str | None:
    if str(error).startswith("Config group override must be"):  # Hydra's, which is a plain ValueError
        return (
            "a group such as model= or trainer= must name one of its choices, not null or a number; --help lists them"
        )
    if "Exceeds the limit" in str(error):  # of Python's int()
        return "a number in the settings has thousands of digits; it must fit into 64 bits"
    if str(error).startswith("No trials are completed"):  # Optuna's, which has no type for it
        return (
            "the search has found nothing, because no job has finished; the table has each one's error, and if "
            "there is none, hydra.sweeper.n_trials must be ≥ 1"
        )
    return None


@sentence.register
def _(error: YAMLError) -> str:
    return f"a configuration file is no valid YAML: {_on_one_line(error)}"


@sentence.register
def _(error: OSError) -> str | None:
    if not error.filename:
        return None
    return f"`{error.filename}` cannot be written or read ({error.strerror}); name a folder of yours"


def _on_one_line(text: object) -> str:
    return " ".join(str(text).split())


def _files_in_a_circle(error: RecursionError) -> list[str]:
    """Return the configuration files whose defaults refer to one another, in Hydra's order."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    paths = [frame.f_locals.get("path") for frame in frames if frame.f_code.co_name == "_create_defaults_tree_impl"]
    repeated = dict.fromkeys(path for path in paths if isinstance(path, str) and paths.count(path) > 1)
    return [*repeated, *list(repeated)[:1]]
