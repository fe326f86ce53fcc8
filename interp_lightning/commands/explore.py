"""Explore the paths of trained runs in the browser: `python -m interp_lightning explore`."""

import importlib.util
import logging
import signal
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interp_lightning.commands.settings import Common, command, find_last, prepare, setting
from interp_lightning.errors import ConfigError
from interp_lightning.explorer import HOST
from interp_lightning.parameters import check_integer
from interp_lightning.runs.find import find_runs
from interp_lightning.system.text import counted

if TYPE_CHECKING:
    from interp_lightning.explorer.state import Explorer

log = logging.getLogger(__name__)

MOST_RUNS = 8
ANY_PORT = 0


@dataclass
class Settings(Common):
    """Explore the paths of trained runs in the browser: choose two images, and drag α from one to the other.

      python -m interp_lightning explore run=last open=true
      python -m interp_lightning explore run=DIR run=DIR            several runs on one data set, side by side

    The page is for this machine only, and asks nothing of other hosts. Ctrl-C ends it. A folder needs no run= before
    it.
    """

    run: list[str] = setting(
        [], "a run, a folder of runs such as a sweep's, or last, the newest run; may be given several times", "DIR"
    )
    port: int = setting(ANY_PORT, "port of the page; 0 takes 7860, or the next free one")
    open: bool = setting(False, "true opens the page in the browser")


def main() -> None:
    """Run the command line."""
    command(Settings, work)


def work(settings: Settings) -> None:
    """Serve the page until it is interrupted."""
    check_port(settings.port)
    check_installed()
    explorer = load(settings)

    from interp_lightning.explorer.page import served

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # to delete uploaded pictures then, too
    with served(explorer, settings.port or None, settings.open) as address:
        log.info(f"The explorer is at {address} (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
    log.info("Closed the explorer.")


def load(settings: Settings) -> "Explorer":
    """Load the runs that the settings name.

    Raises:
        ConfigError: there are no runs or too many, one cannot be loaded, or they are on different data sets.
    """
    runs = find_runs(find_last(settings.run))
    if not 1 <= len(runs) <= MOST_RUNS:
        found = counted(len(runs), "run") if runs else "no run"
        raise ConfigError(f"`run` names {found}; name 1 to {MOST_RUNS}, such as run=last")

    from interp_lightning.explorer.state import Explorer
    from interp_lightning.runs.load import load_run

    device = prepare(settings.device, settings.threads)
    explorer = Explorer([load_run(run, root=settings.data_root or None, trust=settings.trust) for run in runs], device)
    log.info("Looking at the test images …")
    explorer.witness.prepare()
    return explorer


def check_installed() -> None:
    """Raise ConfigError if Gradio is not installed."""
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError(
            "explore requires Gradio, which is not installed: pip install 'gradio>=6', or in a clone "
            "pip install -c constraints.txt -e '.[explore]'"
        )


def check_port(port: int) -> None:
    """Raise ConfigError if a port is no port, or if it is taken."""
    check_integer("port", port, least=0, most=65_535)
    if port == ANY_PORT:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigError(
                f"`port` (={port}) cannot be used ({error.strerror}); name another one, or omit it for a free one"
            ) from error
