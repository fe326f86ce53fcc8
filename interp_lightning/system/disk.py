"""Read regular files, replace files atomically, and lock without leaving a file behind. Imports no torch."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from interp_lightning.errors import CheckpointError, ConfigError

KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def regular(path: Path) -> Path:
    """Return the path of a regular file. Reading a FIFO could wait without end.

    Raises:
        OSError: the path is not a regular file, or does not exist.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {KINDS.get(stat.S_IFMT(mode), 'no file')}, not a regular file", str(path))
    return path


def cache_folder() -> Path | None:
    """Return the user's folder for files that can be made again: $XDG_CACHE_HOME, by default ~/.cache.

    None if there is no home.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (named if named.is_absolute() else Path.home() / ".cache") / "interp_lightning"
    except RuntimeError:
        return None


@contextmanager
def lock(path: Path, busy: Callable[[], None], mode: int = -1) -> Iterator[None]:
    """Hold a lock by a file that exists only while it is held.

    The holder removes the file before it releases the lock. A process that has opened the file earlier, and locks a
    file without a name, notices that and tries again (filelock ≥ 4.2), so that there is at most one holder. If the file
    system has no locks, or the folder is read-only, continue unlocked.

    Args:
        path: the lock file.
        busy: called once if another process holds the lock. Raise in it to give up; otherwise this process waits.
        mode: permissions of the file.
    """
    file = FileLock(path, mode=mode)
    try:
        try:
            file.acquire(timeout=0)
        except Timeout:
            busy()
            file.acquire()
    except OSError:
        pass
    try:
        yield
    finally:
        if file.is_locked:
            with suppress(OSError):  # another user's in a shared folder
                os.unlink(path)
            file.release()


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, all or nothing.

    Raises:
        ConfigError: the file cannot be written; the old one is intact.
    """
    try:
        replace(path, content)
    except OSError as error:
        raise ConfigError(
            f"`{path}` cannot be written ({error.strerror}); make room or make it writable, then resume with "
            "ckpt_path=last, or a sweep with sweep.resume=true"
        ) from error


def replace(path: Path, content: str | bytes) -> None:
    """Replace a file, all or nothing. A link is replaced and not followed.

    Raises:
        OSError: the file cannot be written; the old one is intact.
    """
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    try:
        with fresh(path.with_name(f".{uuid4().hex}.part"), data) as part:
            part.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_writable(*targets: Path) -> None:
    """Make folders for results; raise ConfigError at once if nothing can be written to one of them."""
    for folder in targets:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            reason = "" if os.access(folder, os.W_OK) else "no permission"
        except OSError as error:
            reason = str(error.strerror)
        if reason:
            raise ConfigError(f"`{folder}` cannot be written to ({reason}); name a folder of yours by out=…")


@contextmanager
def fresh(path: Path, content: bytes | memoryview, flush: bool = False) -> Iterator[Path]:
    """Write a new file that the caller renames over another one; remove it if the caller does not.

    Args:
        path: an existing file is removed; a link is removed, not its target.
        flush: wait until the content is on the disk.
    """
    path.unlink(missing_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
        with open(descriptor, "wb") as file:
            file.write(content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        yield path
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def within(folder: Path, path: Path) -> Path:
    """Return a path in a folder of unknown origin.

    Raises:
        CheckpointError: a link leads the path out of the folder.
    """
    if not lies_in(folder, path):
        raise CheckpointError(
            f"{path} leads out of the run's folder, to {os.path.realpath(path)}; use trust=true to follow "
            "it, if you know where the run comes from"
        )
    return path


def lies_in(folder: Path, path: Path) -> bool:
    """Return True if a path is in a folder after following all links."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
