"""What can go wrong and be mended by the user; each says in one sentence the value, what is allowed, the way out."""

import os
import re
import sysconfig
import traceback
from pathlib import Path


class ConfigError(ValueError):
    """A setting that cannot work."""


class DataError(ConfigError):
    """Data that are damaged, cannot be read, or are not what `data.contract` says."""


class DataNotFound(DataError):
    """Data files that are neither on disk nor to be fetched."""


class CheckpointError(ConfigError):
    """A checkpoint that is missing, damaged or another model's."""


class CheckpointMissing(CheckpointError):
    """A run without a checkpoint of that name, as when it was interrupted early."""


class Diverged(ConfigError):
    """Losses or gradients that are NaN or infinite."""


class ResultsError(ConfigError):
    """Results that are missing, damaged or not to be compared."""


INTERRUPTED = (
    "Interrupted; what had begun to train keeps its newest checkpoint: resume with ckpt_path=last, or for a sweep "
    "sweep.resume=true."
)

# Where code lies that is not the user's; "<" begins what has no file.
NOT_THEIRS = ("<", f"{Path(__file__).parent}{os.sep}", sysconfig.get_path("stdlib"))


def of_own_code(error: BaseException) -> str | None:
    """The sentence for an error of the user's own class: it raised one, or cannot be imported; None for any other."""
    for link in chain(error):
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
    """Return an error and what led to it, the latest first."""
    links = [error]
    while (cause := links[-1].__cause__ or links[-1].__context__) is not None and cause not in links:
        links.append(cause)
    return links
