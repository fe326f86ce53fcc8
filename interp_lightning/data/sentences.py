"""Describe users' values and the exceptions of their code, for sentences."""

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from interp_lightning.errors import ConfigError, DataError

# Code that is not the user's own: this package, the standard library, installed packages.
OURS = str(Path(__file__).parents[1])
LIBRARIES = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))


@contextmanager
def theirs(what: str) -> Iterator[None]:
    """Turn an exception in the user's own code into a DataError that names that code and the line that raised it."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".removesuffix(": ")
        frames = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith(OURS)]
        own = [each for each in frames if not each.filename.startswith((*LIBRARIES, "<frozen"))] or frames
        place = f" ({own[-1].filename}:{own[-1].lineno})" if own else ""
        raise DataError(f"{what} raises {said}{place}") from error


def described(thing: Any) -> str:
    """Describe a value in a few words, for a sentence."""
    if isinstance(thing, (tuple, list)):
        return (
            f"{type(thing).__name__} ({', '.join(type(each).__name__ for each in thing[:5])}{', …' * (len(thing) > 5)})"
        )
    if isinstance(thing, dict):
        return f"dict with the keys {', '.join(map(str, list(thing)[:5]))}"
    if isinstance(thing, (Tensor, np.ndarray)):
        return f"{type(thing).__name__} {tuple(thing.shape)} of {type_name(thing.dtype)}"
    if isinstance(thing, Image.Image):
        return f"a PIL image of {thing.width} × {thing.height}"
    if isinstance(thing, (str, float, np.floating)):
        return f"{type(thing).__name__} {str(thing)[:40]!r}"
    return "None" if thing is None else type(thing).__name__


def type_name(dtype: Any) -> str:
    """Return the short name of a dtype."""
    return str(dtype).removeprefix("torch.")
