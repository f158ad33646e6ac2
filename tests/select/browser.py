"""A headless Chromium, driven over a pipe: the few commands of its debugging protocol that tests of a page need."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_browser() -> str | None:
    """The first Chromium on the path."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Page:
    """One tab. `errors` holds what the page wrote to its console and what its policy refused."""

    to: int
    back: Iterator[dict[str, Any]]
    session: str = ""
    errors: list[str] = field(default_factory=list)
    count: int = 0

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        os.write(
            self.to, json.dumps({**message, **({"sessionId": self.session} if self.session else {})}).encode() + b"\0"
        )
        for answer in self.back:
            if answer.get("id") == self.count:
                assert "error" not in answer, answer["error"]
                return dict(answer["result"])
            self._hear(answer)
        raise AssertionError("the browser has gone")

    def wait(self, event: str) -> None:
        for answer in self.back:
            self._hear(answer)
            if answer.get("method") == event:
                return

    def _hear(self, event: dict[str, Any]) -> None:
        if event.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
            self.errors.append(json.dumps(event["params"]))

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            extra = {"text": text} if kind == "keyDown" and text else {}
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **extra)


@contextmanager
def opened(program: str, address: str, profile: Path, script: bool = True) -> Iterator[Page]:
    """A tab that shows `address`; `script` False: as in a browser that runs none."""
    (theirs_in, ours_out), (ours_in, theirs_out) = os.pipe(), os.pipe()
    # The browser reads commands from 3 and writes answers to 4; the copies must not hit one another.
    high = [os.dup2(theirs_in, 103), os.dup2(theirs_out, 104)]
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"]
    argv = [program, *flags, "--no-first-run", "--window-size=1100,900", f"--user-data-dir={profile}"]
    quiet = os.open(os.devnull, os.O_RDWR)
    actions = [
        *((os.POSIX_SPAWN_DUP2, quiet, n) for n in (0, 1, 2)),
        (os.POSIX_SPAWN_DUP2, high[0], 3),
        (os.POSIX_SPAWN_DUP2, high[1], 4),
    ]
    process = os.posix_spawn(program, argv, os.environ, file_actions=actions, setpgroup=0)
    for handle in (theirs_in, theirs_out, *high, quiet):
        os.close(handle)
    try:
        page = Page(ours_out, _messages(ours_in))
        target = page.ask("Target.createTarget", url="about:blank")["targetId"]
        page.session = page.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            page.ask(f"{domain}.enable")
        page.ask("Emulation.setScriptExecutionDisabled", value=not script)
        page.ask("Page.navigate", url=address)
        page.wait("Page.loadEventFired")
        yield page
    finally:
        os.killpg(process, SIGKILL)
        os.waitpid(process, 0)
        os.close(ours_out)
        os.close(ours_in)


def _messages(handle: int) -> Iterator[dict[str, Any]]:
    rest = b""
    while chunk := os.read(handle, 1 << 16):
        *whole, rest = (rest + chunk).split(b"\0")
        for message in whole:
            yield json.loads(message)
