"""Pages in headless Chromium, for tests marked `extras`: how they look, whether they overflow or complain.

Speaks the browser's own protocol over two pipes, so that nothing need be installed but Chromium.
"""

import base64
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip


@dataclass(frozen=True)
class Seen:
    """A page as it was shown.

    Attributes:
        picture: Red, green and blue of the whole page, `[height, width, 3]`.
        width: Of its content, in pixels; more than the window's where something runs out of it.
        complaints: What the browser wrote to its console.
        text: What stands in the first window, without scrolling.
    """

    picture: npt.NDArray[np.int_]
    width: int
    complaints: list[str]
    text: str

    def has_colour(self, colour: str, at_least: int) -> bool:
        """Whether so many pixels are about a colour such as `#0072b2`."""
        wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
        return bool((np.abs(self.picture - wanted).sum(axis=2) < 30).sum() >= at_least)


class Browser:
    """A running Chromium."""

    def __init__(self, process: "subprocess.Popen[bytes]", commands: int, answers: int) -> None:
        self._commands, self._answers = commands, os.fdopen(answers, "rb", buffering=0)
        self._process, self._number, self._rest = process, 0, b""
        self._heard: list[dict[str, Any]] = []

    def see(self, page: Path, *, width: int, scheme: str = "light", height: int = 900) -> Seen:
        """Open a page in a window of its own."""
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._heard.clear()
        for name in ("Page.enable", "Log.enable", "Runtime.enable"):
            self._ask(name, session)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", session, **size)
        colours = [{"name": "prefers-color-scheme", "value": scheme}]
        self._ask("Emulation.setEmulatedMedia", session, features=colours)
        self._ask("Page.navigate", session, url=page.resolve().as_uri())
        while not any(message.get("method") == "Page.loadEventFired" for message in self._heard):
            self._heard.append(self._next())
        content = int(self._value(session, "document.documentElement.scrollWidth"))
        text = str(self._value(session, _VISIBLE_TEXT))
        shot = self._ask("Page.captureScreenshot", session, captureBeyondViewport=True, format="png")
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")).astype(int)
        self._ask("Target.closeTarget", targetId=target)
        complaints = [
            json.dumps(message["params"])
            for message in self._heard
            if message.get("method") in ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        ]
        return Seen(picture, content, complaints, text)

    def _value(self, session: str, expression: str) -> Any:
        return self._ask("Runtime.evaluate", session, expression=expression)["result"]["value"]

    def _ask(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        os.write(self._commands, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._heard.append(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = self._answers.read(65536)
            assert piece, f"Chromium went away: {self._process.poll()}"
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


_VISIBLE_TEXT = """
[...document.querySelectorAll("h1, h2, p, li, th, td, figcaption, text")]
  .filter(e => { const box = e.getBoundingClientRect(); return box.top >= 0 && box.bottom <= innerHeight; })
  .map(e => e.textContent).join("\\n")
"""


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A Chromium of one's own, with its files in `profile`."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "expected Chromium; apt-get install chromium"
    to_browser, from_us = os.pipe()
    from_browser, to_us = os.pipe()

    def as_three_and_four() -> None:
        first, second = os.dup(to_browser), os.dup(to_us)  # out of each other's way
        os.dup2(first, 3)
        os.dup2(second, 4)

    process = subprocess.Popen(
        [program, *_FLAGS, f"--user-data-dir={profile}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        close_fds=False,
        preexec_fn=as_three_and_four,
    )
    os.close(to_browser)
    os.close(to_us)
    browser = Browser(process, from_us, from_browser)
    try:
        yield browser
    finally:
        os.close(from_us)
        browser._answers.close()
        process.terminate()
        process.wait(30)
