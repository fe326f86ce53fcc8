"""Escape text of unknown origin: one function for each format. Imports no torch."""

import hashlib
import os
import re
from collections.abc import Callable
from typing import Any

from rich.text import Text

# Invisible although Python calls them printable: Unicode's Default_Ignorable_Code_Point, and Braille's blank pattern.
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
MARKDOWN = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])|(?<=[a-z]):(?=//)|(?<=www)\.", re.IGNORECASE)
CODE = re.compile(r"(`[\w.=/+ -]+`)")
# A spreadsheet evaluates a cell that begins so; with semicolons as separators, a cell begins after a semicolon.
FORMULA = re.compile(r"(^|;)(\s*)([=+\-@＝＋－＠])")


def printable(text: object, shows: Callable[[str], bool] = str.isprintable) -> str:
    """Return a text on one line, with an escape such as \\x1b or \\u202e for each character that does not show.

    Args:
        text: a string, or what has one.
        shows: returns True for a character that can be shown.
    """
    return "".join(each if shows(each) and not INVISIBLE.match(each) else _escape(each) for each in str(text))


def shortened(text: str, most: int) -> str:
    """Return a text with at most that many characters; omit the middle of a longer one."""
    kept = most - 1
    return text if len(text) <= most else f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


def file_name(name: str, most: int = 150) -> str:
    """Return a name for a file: at most so many bytes; a longer one has a digest of it in its middle.

    Example:
        >>> file_name("a/b"), file_name("é" * 100, most=20)
        ('a_b', 'éé~f42ec48e~éé')
    """
    name = name.replace(os.sep, "_")
    content = name.encode(errors="surrogateescape")
    if len(content) <= most:
        return name
    middle = f"~{hashlib.sha256(content).hexdigest()[:8]}~"
    kept = most - len(middle)
    first, last = (part.decode(errors="ignore") for part in (content[: kept - kept // 2], content[-(kept // 2) :]))
    return f"{first}{middle}{last}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 epoch" or "1,000 batches".

    Example:
        >>> counted(1, "batch"), counted(2, "batch"), counted(0, "epoch")
        ('1 batch', '2 batches', '0 epochs')
    """
    plural = {"batch": "batches"}.get(noun, f"{noun}s")
    return f"{number:,} {noun if number == 1 else plural}"


def duration(seconds: float) -> str:
    """Return a time in the largest unit that shows it well.

    Example:
        >>> duration(48.2), duration(1439), duration(9000)
        ('48 s', '24 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def terminal(text: object, style: str = "") -> Text:
    """Return text for Rich, which interprets brackets and colons in strings as markup."""
    return Text(printable(text), style)


def markdown(text: object, quotes: bool = False) -> str:
    """Escape text for a cell of a Markdown table, or a paragraph.

    Special characters become entities, which work everywhere, even after a backslash.

    Args:
        text: a string, or what has one.
        quotes: keep short code spans, such as settings in our own sentences.
    """
    parts = CODE.split(printable(text)) if quotes else [printable(text)]
    return "".join(part if at % 2 else MARKDOWN.sub(_entity, part) for at, part in enumerate(parts))


def csv_cell(value: object) -> Any:
    """Return a cell of a CSV file: numbers unchanged, and an apostrophe before a text that would be a formula."""
    if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool)):
        return value
    return FORMULA.sub(r"\1\2'\3", printable(value))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _entity(match: re.Match[str]) -> str:
    names = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
    return names.get(match[0], f"&#{ord(match[0])};")
