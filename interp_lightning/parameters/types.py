"""Annotated types of settings. Combine them freely: `Positive | None`, `Sequence[Weight]`, `Annotated[Count, …]`."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field

LARGEST = 2**63 - 1  # integer that torch, numpy and file formats can hold
LONGEST_NAME, LONGEST_PATH = 255, 2_000  # bytes; leaves room for the files of a run's folder
JOINERS = "\u200c\u200d"  # join letters and emojis, although Python calls them unprintable


@dataclass(frozen=True)
class WayOut:
    """Tell how to correct a bad value: the end of its sentence."""

    text: str


def _path(text: str) -> str:
    """Raise ValueError unless every file system can hold this path, and a user can print and type it."""
    printable = all(letter.isprintable() or letter in JOINERS for letter in text)
    if not text or not printable or len(text.encode()) > LONGEST_PATH:
        raise ValueError
    if any(len(part.encode()) > LONGEST_NAME for part in text.split("/")):
        raise ValueError
    return text


def _folder_name(text: str) -> str:
    """Raise ValueError unless this is a path of one part."""
    if text in (".", "..") or text != text.strip().lstrip("~") or {*text} & {"/", "\\"}:
        raise ValueError
    return _path(text)


_PRINTABLE = WayOut(f"use printable characters, at most {LONGEST_NAME} bytes between two /")
_NAMED = WayOut(f"use at most {LONGEST_NAME} printable bytes, without / and \\, and without ~ or spaces at the ends")

Weight = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Rate = Positive  # a learning rate
Share = Annotated[float, Field(ge=0, le=1)]
Natural = Annotated[int, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Text = Annotated[str, Field(min_length=1, description="text that is not empty")]
Folder = Annotated[str, AfterValidator(_path), Field(description="a folder"), _PRINTABLE]
File = Annotated[str, AfterValidator(_path), Field(description="a file"), _PRINTABLE]
Name = Annotated[str, AfterValidator(_folder_name), Field(description="the name of a folder"), _NAMED]
