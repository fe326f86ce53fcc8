"""Errors that the user can correct. Each message is one sentence: the value, the allowed values, the way out."""

import os
import re
import sysconfig
import traceback
from pathlib import Path


class ConfigError(ValueError):
    """A setting cannot work."""


class DataError(ConfigError):
    """Data are damaged, cannot be read, or break the rules of `data.contract`."""


class DataNotFound(DataError):
    """Data files are not on disk and cannot be downloaded."""


class CheckpointError(ConfigError):
    """A checkpoint is missing, damaged or another model's."""


class CheckpointMissing(CheckpointError):
    """A run has no checkpoint of that name, for example because it was interrupted early."""


class Diverged(ConfigError):
    """Losses or gradients are NaN or infinite."""


class ResultsError(ConfigError):
    """Results are missing, damaged or not comparable."""


INTERRUPTED = (
    "Interrupted. A run that had started to train keeps its newest checkpoint: resume it with ckpt_path=last, or a "
    "sweep with sweep.resume=true."
)

# Paths of code that is not the user's; code without a file has a name that begins with "<".
NOT_THEIRS = ("<", f"{Path(__file__).parent}{os.sep}", sysconfig.get_path("stdlib"))


def of_own_code(error: BaseException) -> str | None:
    """Return the sentence for a class of the user's that raised the error or cannot be imported; None otherwise."""
    for link in chain(error):
        ours = True  # frames above our code belong to its caller
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
    for link in chain(error):
        if target := re.search(r"Error locating target '(.+?)'", str(link)):
            *_, key = str(link).split("full_key: ")
            reason = " ".join(str(chain(link)[-1]).split())
            return (
                f"`{key.strip()}._target_` (={target[1]}) cannot be imported: {reason}; put the folder of its file on "
                "PYTHONPATH, as in PYTHONPATH=FOLDER python -m interp_lightning …"
            )
    return None


def chain(error: BaseException) -> list[BaseException]:
    """Return an error and its causes, the latest first."""
    links = [error]
    while (cause := links[-1].__cause__ or links[-1].__context__) is not None and cause not in links:
        links.append(cause)
    return links
