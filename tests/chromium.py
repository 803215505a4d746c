"""A headless Chromium driven through two pipes by its own protocol: opens a file, asks it, keeps what it complains of.

Nothing of it is a mock, and nothing has to be installed beside the browser.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BINARY = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-extensions")
# The browser reads commands from descriptor 3 and answers on 4: put there by a process that then becomes the browser.
LAUNCH = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3]]
for end, place in zip(ends, (3, 4)): os.dup2(end, place)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Tab:
    """One tab. ``complaints`` collects errors and warnings of the console, exceptions and violations of the policy,
    ``requests`` every address that the page asked for."""

    def __init__(self, to: int, back: int) -> None:
        self._to, self._back, self._rest, self._count = to, back, b"", 0
        self._session: dict[str, str] = {}
        self.complaints: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What a command of the protocol returns. Raises ``RuntimeError`` where it fails."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params, **self._session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._count:
            self._notice(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def open(self, page: Path, view: str = "", width: int = 1280, height: int = 900) -> None:
        """Loads a page afresh, with ``view`` behind its #, and waits until nothing of it is busy."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=f"{page.resolve().as_uri()}{view and '#'}{view}")
        self.settle()

    def settle(self, seconds: float = 60) -> None:
        """Waits until the page is loaded and its browser of samples, if there is one, has drawn what was asked for."""
        asked = "location.href !== 'about:blank' && document.readyState === 'complete'"
        idle = "(() => { const b = document.getElementById('browser'); return !b || b.ariaBusy === 'false' })()"
        self.until(f"{asked} && {idle}", seconds)

    def until(self, condition: str, seconds: float = 60) -> None:
        """Waits until a condition of the page holds. Raises ``TimeoutError``."""
        end = time.monotonic() + seconds
        while not self.ask(condition):
            if time.monotonic() > end:
                raise TimeoutError(f"after {seconds} s not yet: {condition}; complaints: {self.complaints}")
            time.sleep(0.02)

    def view(self, text: str) -> None:
        """Goes to another view of the loaded page, as a link would."""
        self.ask(f"location.hash = {json.dumps('#' + text)}; 1")
        self.ask("new Promise((done) => setTimeout(() => done(1), 0))")
        self.settle()

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def texts(self, selector: str) -> list[str]:
        """The text of every element that a selector finds."""
        return list(self.ask(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)"))

    def click(self, selector: str) -> None:
        """Clicks the first element that a selector finds, and waits for what it brings."""
        self.ask(f"document.querySelector({json.dumps(selector)}).click()")
        self.ask("new Promise((done) => setTimeout(() => done(1), 0))")
        self.settle()

    def picture(self, file: Path) -> None:
        """What is seen now, as PNG."""
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._back], [], [], 120)[0]:
                raise TimeoutError("the browser has not answered for 120 s")
            if not (more := os.read(self._back, 1 << 20)):
                raise RuntimeError("the browser has ended")
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def _notice(self, event: dict[str, Any]) -> None:
        method, params = event.get("method", ""), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(params["args"]))


@contextlib.contextmanager
def tab(profile: Path) -> Iterator[Tab]:
    """A tab of a browser of its own, with an empty profile; the browser ends with the block."""
    (theirs, to), (back, answers) = os.pipe(), os.pipe()
    words = [str(theirs), str(answers), str(BINARY), *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe"]
    process = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, *words],
        pass_fds=(theirs, answers),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs), os.close(answers)
    try:
        yield Tab(to, back)
    finally:
        process.terminate()
        process.wait(30)
        os.close(to), os.close(back)
