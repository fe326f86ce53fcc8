"""End all processes of a run together, whatever signal arrives before training starts."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L

from interp_lightning.errors import INTERRUPTED
from interp_lightning.system.console import fail
from interp_lightning.system.processes import FIRST

HANDLED = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def ending_together(trainer: L.Trainer) -> Iterator[None]:
    """Let Ctrl-C before training end the run with status 130, and every device's process with the first one.

    Lightning alone would end with status 1, or with several devices 137; and if the first process is killed before the
    devices are connected, the others would wait for half an hour. All signal handlers are restored at the end.
    """
    done = threading.Event()
    if trainer.local_rank == 0:
        os.environ[FIRST] = str(os.getpid())  # inherited by the processes that `fit` starts
    elif first := os.environ.get(FIRST):  # not set by torchrun or SLURM, which end their processes themselves

        def watch() -> None:
            while not done.wait(1):
                if os.getppid() != int(first):
                    os._exit(1)

        threading.Thread(target=watch, daemon=True).start()
    try:
        with handlers_restored():
            if trainer.local_rank == 0:
                signal.signal(signal.SIGINT, lambda *_: fail(INTERRUPTED, 130))
            yield
    finally:
        done.set()
        if trainer.local_rank == 0:
            del os.environ[FIRST]


@contextmanager
def handlers_restored() -> Iterator[None]:
    """Restore the handlers of Ctrl-C and SIGTERM at the end, which Lightning does not do after an exception."""
    before = {number: signal.getsignal(number) for number in HANDLED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
