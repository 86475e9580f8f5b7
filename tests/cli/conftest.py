from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from upscale.cli import image_batch as work
from upscale.cli.app import run
from upscale.cli.session import Session

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str
    out_bytes: bytes


class Stream(io.TextIOWrapper):
    """A captured text stream, a terminal where a test wants one."""

    def __init__(self, terminal: bool = False):
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def text(self) -> str:
        return self.buffer.getvalue().decode()


class Input(io.BytesIO):
    """Standard input, a terminal where a test wants one."""

    def __init__(self, content: bytes, terminal: bool):
        super().__init__(content)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


class FakeUpscaler:
    """Repeats pixels instead of running a network; keeps the options it was created with."""

    def __init__(self, engine):
        self.engine = engine
        self.sizes: list[tuple[int, int]] = []

    def run(self, array, *, scale=None, size=None, progress=None):
        height, width, _ = array.shape
        for done in range(1, 5):
            progress(SimpleNamespace(done=done, total=4))
        self.sizes.append(size)
        pixels = array[np.arange(size[1]) * height // size[1]]
        tile = 512 if self.engine.tile == "auto" else self.engine.tile
        report = SimpleNamespace(
            model=self.engine.model,
            tile=tile,
            device="cpu",
            precision="fp32",
            convolutions="torch (too old)",
            resize="x4 to another, Lanczos" if self.engine.model == "resizing" else None,
        )
        return SimpleNamespace(
            pixels=pixels[:, np.arange(size[0]) * width // size[0]], report=report
        )


@pytest.fixture
def upscalers(monkeypatch):
    """Replace the engine; return the upscalers that commands in this process create."""
    upscalers: list[FakeUpscaler] = []

    def make(engine, view):
        upscalers.append(FakeUpscaler(engine))
        return upscalers[-1]

    monkeypatch.setattr(work, "make_upscaler", make)
    return upscalers


@pytest.fixture
def call(upscalers, call_unchanged):
    """Run a command line in this process, in an empty folder, with a fake engine."""
    return call_unchanged


@pytest.fixture
def real_call(call_unchanged, monkeypatch):
    """Run a command line in this process, in an empty folder, with real networks."""
    for name in [name for name in os.environ if name.startswith("UPSCALE_")]:
        if name != "UPSCALE_CACHE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("UPSCALE_OFFLINE", "1")
    return call_unchanged


@pytest.fixture
def call_unchanged(tmp_path, monkeypatch):
    """Run a command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TERM", "xterm")

    def call(
        *arguments, env=None, stdin=b"", terminal=False, out_terminal=False, stdin_terminal=False
    ) -> Ended:
        stdout, stderr = Stream(out_terminal), Stream(terminal)
        environ = {"UPSCALE_CONFIG": ""} | (env or {})
        session = Session(Input(stdin, stdin_terminal), stdout, stderr, environ)
        code = run([str(argument) for argument in arguments], session)
        content = stdout.buffer.getvalue()
        return Ended(code, content.decode(errors="replace"), stderr.text(), content)

    return call


@pytest.fixture
def program(tmp_path, program_environment):
    """Run the real program in an empty folder."""

    def program(*arguments, env=None, stdin=b"") -> Ended:
        ended = subprocess.run(
            [sys.executable, "-m", "upscale", *map(str, arguments)],
            cwd=tmp_path,
            env=program_environment | (env or {}),
            input=stdin,
            capture_output=True,
            check=False,
        )
        out = ended.stdout.decode(errors="replace")
        return Ended(ended.returncode, out, ended.stderr.decode(), ended.stdout)

    return program


@pytest.fixture
def program_environment() -> dict[str, str]:
    """An environment without the user's settings and without internet access."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("UPSCALE_")}
    if "UPSCALE_CACHE" in os.environ:
        kept["UPSCALE_CACHE"] = os.environ["UPSCALE_CACHE"]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return kept | {"UPSCALE_CONFIG": "", "UPSCALE_OFFLINE": "1", "PYTHONPATH": path}


@pytest.fixture
def photo(data, tmp_path):
    """Make a small real image in the test's folder, cut from a larger one."""
    pixels = cv2.imread(str(data / "photos" / "kitten.webp"))

    def photo(name: str, width: int = 24, height: int = 16) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels[300 : 300 + height, 480 : 480 + width])
        return path

    return photo


@pytest.fixture
def size_of():
    """Return the (width, height) of an image, read by OpenCV; fail if it cannot be read."""

    def size_of(path: Path) -> tuple[int, int]:
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert pixels is not None, f"{path} is damaged"
        return pixels.shape[1], pixels.shape[0]

    return size_of
