"""Drive headless Chromium by its DevTools protocol over a pipe, without another package."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from fcntl import F_DUPFD, fcntl
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe")
FREE = 10  # file numbers from which on nothing is in the way of 3 and 4, which Chromium uses
PATIENCE = 60  # seconds


class Browser:
    """A page in headless Chromium.

    Args:
        read, write: the two ends of the pipes.
    """

    def __init__(self, read: Any, write: Any) -> None:
        self._read, self._write, self._number = read, write, 0
        self.requests: list[str] = []  # addresses that the page has asked for
        self.errors: list[str] = []  # exceptions, and errors that the console shows
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    _session: str | None = None

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol for the page, and return its result."""
        return self._call(method, **params)

    def open(self, address: str, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Open an address in a window of some size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=address)

    def run(self, script: str) -> Any:
        """Return the value of an expression in the page; of a promise, when it is fulfilled."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise RuntimeError(json.dumps(done["exceptionDetails"])[:500])
        return done["result"].get("value")

    def wait(self, condition: str) -> Any:
        """Wait until an expression has a value that is true in Python, and return it. An element has none: use !!."""
        end = time.monotonic() + PATIENCE
        while not (value := self.run(condition)):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition} has not become true; errors: {self.errors}")
            time.sleep(0.05)
        return value

    def screenshot(self, file: Path, whole: bool = True) -> None:
        """Write the page as a PNG, whole or what the window shows."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"]
        file.write_bytes(base64.b64decode(data))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while True:
            answer = json.loads(self._next())
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _next(self) -> bytes:
        content = bytearray()
        while (byte := self._read.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("Chromium has ended")
            content += byte
        return bytes(content)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"])[:500])
        elif event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"]["text"])


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium, and end it."""
    assert PROGRAM, "there is no Chromium"
    to_it, ours, from_it, its = (fcntl(number, F_DUPFD, FREE) for number in (*os.pipe(), *os.pipe()))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        shell = f'exec "$@" 3<&{to_it} 4>&{its} {ours}>&- {from_it}<&-'
        command = ["bash", "-c", shell, "bash", PROGRAM, *FLAGS, f"--user-data-dir={profile}"]
        process = subprocess.Popen(command, pass_fds=(to_it, its), stderr=subprocess.DEVNULL)
        os.close(to_it)
        os.close(its)
        with open(ours, "wb") as write, open(from_it, "rb") as read:
            try:
                yield Browser(read, write)
            finally:
                process.terminate()
                process.wait()
