"""Chromium that tests drive over the DevTools protocol: real keys, real drops, screenshots."""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests import browser

TIMEOUT = 120
"""Seconds to wait for a condition."""

_KEYS = {"Tab": 9, "Enter": 13, " ": 32, "Escape": 27, "ArrowDown": 40, "Home": 36, "End": 35}


class Page:
    """A page in a browser without a window."""

    def __init__(self, write, read) -> None:
        self._write, self._read = write, read
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.problems: list[str] = []

    def send(self, method: str, **parameters):
        """Send a command of the protocol and return its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while (answer := self._receive()).get("id") != number:
            self._note(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def attach(self) -> None:
        """Follow the first tab."""
        targets = self.send("Target.getTargets")["targetInfos"]
        tab = next(each for each in targets if each["type"] == "page")
        answer = self.send("Target.attachToTarget", targetId=tab["targetId"], flatten=True)
        self._session = answer["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM", "Accessibility"):
            self.send(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Open the app and wait until it is ready."""
        self.send("Page.navigate", url=url)
        self.wait("document.body?.dataset.ready !== undefined")

    def run(self, script: str):
        """Evaluate an expression and return its value; promises are awaited."""
        answer = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str):
        """Wait until an expression is true and return its value."""
        end = time.monotonic() + TIMEOUT
        while not (value := self.run(condition)):
            assert time.monotonic() < end, f"never true: {condition}: {self.text()}"
            time.sleep(0.05)
        return value

    def text(self) -> str:
        """Return the visible text of the page."""
        return self.run("document.body.innerText")

    def key(self, key: str, text: str = "") -> None:
        """Press and release a key."""
        code = _KEYS.get(key, ord(key[0].upper()))
        text = {"Enter": "\r", " ": " "}.get(key, text)
        same = {"key": key, "windowsVirtualKeyCode": code, "code": key}
        kind = "keyDown" if text else "rawKeyDown"
        more = {"text": text} if text else {}
        self.send("Input.dispatchKeyEvent", type=kind, **same, **more)
        self.send("Input.dispatchKeyEvent", type="keyUp", **same)

    def type(self, text: str) -> None:
        """Type a text into the focused field."""
        self.send("Input.insertText", text=text)

    def tab_to(self, selector: str) -> None:
        """Press Tab until an element is focused."""
        for _ in range(60):
            if self.run(f"document.activeElement?.matches({json.dumps(selector)}) ?? false"):
                return
            self.key("Tab")
        raise AssertionError(f"Tab does not reach {selector}")

    def choose(self, selector: str, paths: Sequence[Path]) -> None:
        """Choose files in an input, as a dialog of the system would."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=list(map(str, paths)))

    def drop(self, selector: str, paths: Sequence[Path]) -> None:
        """Drop files or folders on an element."""
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        place = self.run(f"(b => ({{x: b.x + b.width / 2, y: b.y + b.height / 2}}))({box})")
        data = {"items": [], "files": list(map(str, paths)), "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.send("Input.dispatchDragEvent", type=kind, data=data, **place)

    def screen(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        """Set the size of the window, and the colours that the user prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def shot(self, path: Path | None = None) -> bytes:
        """Return a screenshot as PNG, and keep it if a path is given."""
        content = base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])
        if path is not None:
            path.write_bytes(content)
        return content

    def names(self) -> list[tuple[str, str]]:
        """Return role and name of everything that a screen reader meets."""
        return self._named(self.send("Accessibility.getFullAXTree"))

    def _named(self, tree: dict) -> list[tuple[str, str]]:
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in tree["nodes"]
            if not node.get("ignored") and "role" in node
        ]

    def wait_for_frame(
        self, address: str, expected: frozenset[str] = frozenset()
    ) -> list[tuple[str, str]]:
        """Wait until a frame has the expected names, and return role and name of all in it."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            targets = self._browser("Target.getTargets")["targetInfos"]
            for each in targets:
                if each["type"] == "iframe" and each["url"].endswith(address):
                    answer = self._browser(
                        "Target.attachToTarget", targetId=each["targetId"], flatten=True
                    )
                    return self._names_in(answer["sessionId"], expected)
            for frame in self.send("Page.getFrameTree")["frameTree"].get("childFrames", []):
                if frame["frame"]["url"].endswith(address):
                    names = self._named(
                        self.send("Accessibility.getFullAXTree", frameId=frame["frame"]["id"])
                    )
                    if _has_all(names, expected):
                        return names
            time.sleep(0.1)
        raise AssertionError(f"no frame {address}")

    def _browser(self, method: str, **parameters):
        session, self._session = self._session, None
        try:
            return self.send(method, **parameters)
        finally:
            self._session = session

    def _names_in(self, other: str, expected: frozenset[str]) -> list[tuple[str, str]]:
        session, self._session = self._session, other
        try:
            self.send("Accessibility.enable")
            end = time.monotonic() + TIMEOUT
            while time.monotonic() < end:
                names = self.names()
                if _has_all(names, expected):
                    return names
                time.sleep(0.1)
        finally:
            self._session = session
        raise AssertionError("the frame stays empty")

    def _receive(self) -> dict:
        content = bytearray()
        while (byte := self._read.read(1)) != b"\0":
            assert byte, "the browser has ended"
            content += byte
        return json.loads(content)

    def _note(self, event: dict) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.problems.append(str(parameters["exceptionDetails"]))
        if event.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.problems.append(f"{parameters['entry']['text']} {parameters['entry'].get('url')}")


@contextmanager
def chromium(profile: Path) -> Iterator[Page]:
    """Start the browser, and end it afterwards."""
    their_read, our_write = os.pipe()
    our_read, their_write = os.pipe()

    def place() -> None:  # in the new process: the protocol uses descriptors 3 and 4
        import fcntl

        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in (their_read, their_write)]
        os.dup2(high[0], 3)
        os.dup2(high[1], 4)

    command = browser.command(profile, "--remote-debugging-pipe", "about:blank")
    process = subprocess.Popen(
        command,
        preexec_fn=place,  # noqa: PLW1509 -- only descriptors are moved
        pass_fds=(3, 4),
        stderr=subprocess.DEVNULL,
    )
    os.close(their_read)
    os.close(their_write)
    with os.fdopen(our_write, "wb") as write, os.fdopen(our_read, "rb") as read:
        try:
            page = Page(write, read)
            page.attach()
            yield page
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _has_all(names: list[tuple[str, str]], expected: frozenset[str]) -> bool:
    return ("slider", "Dividing line") in names and expected <= {name for _, name in names}
