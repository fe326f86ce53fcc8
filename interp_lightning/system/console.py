"""Standard streams that cannot fail a command: closed, full, or in an encoding that lacks a character.

Nothing here imports torch.
"""

import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

# A table keeps its width if "?" replaces a character; a message loses nothing if its characters are spelled out.
ERRORS = {"stdout": "replace", "stderr": "backslashreplace"}

_replaced: list[Any] = []  # the streams before; deleting one would close its file


@contextmanager
def guarded() -> Iterator[None]:
    """Run a command with safe standard streams; every command runs in this.

    It exits with a sentence and status 1 if its output could not be written, and quietly if the reader of a pipe has
    gone, as `… | head` expects it.
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
        fail(f"The standard output could not be written ({lost.strerror}); the command has done everything else.")


def set_up() -> None:
    """Open /dev/null in place of closed standard streams, and let no write to the others raise.

    The next file to be opened would otherwise get the number of a closed stream, and all that is printed. A stream
    that is not the interpreter's own, such as a notebook's, stays as it is.
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
    """Exit quietly with SIGPIPE's status after the reader of the output has gone."""
    for number in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    raise SystemExit(128 + 13)


def fail(sentence: str, status: int = 1) -> NoReturn:
    """Print the sentence on stderr and end."""
    print(f"\n{sentence}", file=sys.stderr)
    raise SystemExit(status)


class _File(io.FileIO):
    """A standard stream's file. After a write has failed, it takes all data and writes none."""

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
    """Tell if a stream is the interpreter's and has not been replaced yet."""
    with suppress(OSError, ValueError):  # it has no number, or is closed
        return (
            isinstance(stream, io.TextIOWrapper) and stream.fileno() == number and not isinstance(_file(stream), _File)
        )
    return False


def _file(stream: Any) -> Any:
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)
