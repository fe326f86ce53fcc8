"""Make standard streams safe: closed, full, or with an encoding that lacks a character. Imports no torch."""

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

# "?" for a character keeps the width of a table; an escape keeps the information of a message.
ERRORS = {"stdout": "replace", "stderr": "backslashreplace"}

_replaced: list[Any] = []  # the original streams; deleting one would close its file


@contextmanager
def guarded() -> Iterator[None]:
    """Run a command with safe standard streams.

    Exit with a sentence and status 1 if the output could not be written; exit quietly if the reader of a pipe is gone
    (`… | head`).
    """
    set_up()
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        stop_printing()
    except SystemExit as end:
        if end.code:
            raise
    if lost := getattr(_file(sys.stdout), "lost", None):
        fail(f"The standard output could not be written ({lost.strerror}); everything else is done.")


def set_up() -> None:
    """Open /dev/null for closed standard streams, and let no write to the others raise.

    Otherwise the next file that is opened would get the number of a closed stream, and all printed text. A stream that
    is not the interpreter's own, such as a notebook's, stays as it is.
    """
    opened = set()
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            opened.add(os.open(os.devnull, os.O_RDWR))  # gets the lowest free number, this one
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    for number, (name, errors) in enumerate(ERRORS.items(), 1):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _open(number if number in opened else os.devnull, "utf-8", errors))
        elif _is_own(stream, number):
            stream.flush()
            _replaced.append(stream)
            setattr(sys, name, _open(number, stream.encoding, errors, stream.line_buffering, stream.write_through))


def stop_printing() -> NoReturn:
    """Exit quietly with SIGPIPE's status when the reader of the output is gone."""
    for number in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    raise SystemExit(128 + 13)


def fail(sentence: str, status: int = 1) -> NoReturn:
    """Print a sentence on stderr and exit."""
    print(f"\n{sentence}", file=sys.stderr)
    raise SystemExit(status)


class _File(io.FileIO):
    """The file of a standard stream. After a failed write it discards all data."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        rest = whole = memoryview(data).cast("B")
        while rest and self.lost is None:
            try:
                written = super().write(rest)
            except BrokenPipeError:
                raise
            except OSError as error:
                self.lost = error
                break
            if written is None:  # another program has made the terminal non-blocking
                select.select([], [self], [])
            rest = rest[written or 0 :]
        return len(whole)


def _open(
    file: int | str, encoding: str, errors: str, line_buffering: bool = True, unbuffered: bool = False
) -> io.TextIOWrapper:
    raw: Any = _File(file, "w", closefd=isinstance(file, str))
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding,
        errors,
        line_buffering=line_buffering,
        write_through=unbuffered,
    )


def _is_own(stream: Any, number: int) -> bool:
    """Return True for a stream of the interpreter that has not been replaced yet."""
    with suppress(OSError, ValueError):  # no number, or closed
        return (
            isinstance(stream, io.TextIOWrapper) and stream.fileno() == number and not isinstance(_file(stream), _File)
        )
    return False


def _file(stream: Any) -> Any:
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)
