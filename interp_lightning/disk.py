"""Files on disk: those that can be read without waiting, and locks that leave no file behind. Imports no torch."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def regular(path: Path) -> Path:
    """Return the path of a regular file. Reading anything else could wait without end, such as for a FIFO's writer.

    Raises:
        OSError: it is not a regular file, or does not exist; with a reason and the path as the system gives them.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {KINDS.get(stat.S_IFMT(mode), 'no file')}, not a regular file", str(path))
    return path


@contextmanager
def lock(path: Path, busy: Callable[[], None], mode: int = -1) -> Iterator[None]:
    """Hold a lock by a file that exists only while it is held.

    The holder removes the file before it releases the lock. A process that has opened the file before, and gets the
    lock of a file without a name, notices that and tries again (filelock ≥ 4.2), so that there is one holder at most.
    Without a lock, where the file system has none or the folder cannot be written to, everything goes on unlocked.

    Args:
        path: of the file.
        busy: called once if another process holds the lock; this one waits unless it raises.
        mode: of the file, for other users.
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
