"""The program's streams and environment in one object, so that tests can swap them."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO


@dataclass(slots=True)
class Session:
    """One run of the program.

    `stdout` carries results only, `stderr` everything else. `verbose` shows tracebacks; it is set
    while the command line is read, so that even an error there can be looked into.
    """

    stdin: BinaryIO
    stdout: TextIO
    stderr: TextIO
    environ: Mapping[str, str]
    verbose: bool = False
    stdout_closed: bool = False

    @classmethod
    def of_process(cls) -> Session:
        """Return the session of this process; streams that it was started without are empty."""
        stdin = io.BytesIO() if sys.stdin is None else sys.stdin.buffer
        stdout, stderr = (_or_nowhere(stream) for stream in (sys.stdout, sys.stderr))
        if isinstance(stdout, io.TextIOWrapper) and stdout.encoding.lower() == "utf-8":
            stdout.reconfigure(errors="surrogateescape")  # file names go out as they came in
        elif isinstance(stdout, io.TextIOWrapper):
            stdout.reconfigure(errors="backslashreplace")
        return cls(stdin, stdout, stderr, os.environ)

    def out(self, text: str) -> None:
        """Print a line of results; a reader that has gone away is not an error."""
        if self.stdout_closed:
            return
        try:
            self.stdout.write(text + "\n")
            self.stdout.flush()
        except BrokenPipeError:
            self.close_stdout()

    def say(self, text: str) -> None:
        """Print a line for people."""
        try:
            self.stderr.write(text + "\n")
            self.stderr.flush()
        except BrokenPipeError:
            return

    def error(self, text: str, trace: str | None = None) -> None:
        """Print one line for an error, and its traceback where `-v` asks for it."""
        self.say("error: " + " ".join(text.split()))
        if self.verbose and trace:
            self.say(trace)

    def close_stdout(self) -> None:
        """Send what is still buffered for a closed pipe nowhere, so that exit stays quiet."""
        self.stdout_closed = True
        if self.stdout is sys.stdout:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


Action = Callable[[Session], int]
"""What a parsed command line asks for; returns the exit code."""


def _or_nowhere(stream: TextIO | None) -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8") if stream is None else stream
