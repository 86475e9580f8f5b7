"""The streams and the environment of one program run, in one object that tests can replace."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

from upscale.errors import OutputError
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable, printable_text

OLD_KEYS = {"image": "picture", "images": "pictures", "peak": "ceiling", "throughputs": "paces"}
"""Former names of JSON keys by their present names; printed beside them for one release."""


@dataclass(slots=True)
class Session:
    """One run of the program.

    Attributes:
        stdin: Standard input as bytes.
        stdout: Standard output; carries results only.
        stderr: Standard error; carries messages and progress bars.
        environ: Environment variables.
        verbose: Whether errors are printed with their traceback. Set while the command line is
            parsed, so that it also applies to errors in the command line.
        stdout_closed: Whether the reader of standard output has closed it.
        has_stdout: Whether the caller has opened standard output at all.
    """

    stdin: BinaryIO
    stdout: TextIO
    stderr: TextIO
    environ: Mapping[str, str]
    verbose: bool = False
    stdout_closed: bool = False
    has_stdout: bool = True

    @classmethod
    def of_process(cls) -> Session:
        """Return the session of this process; streams that are closed read and write nothing."""
        stdin = io.BytesIO() if sys.stdin is None else sys.stdin.buffer
        stdout, stderr = (_or_null(stream) for stream in (sys.stdout, sys.stderr))
        if isinstance(stdout, io.TextIOWrapper) and stdout.encoding.lower() == "utf-8":
            stdout.reconfigure(errors="surrogateescape")  # print file names as their own bytes
        elif isinstance(stdout, io.TextIOWrapper):
            stdout.reconfigure(errors="backslashreplace")
        return cls(stdin, stdout, stderr, os.environ, has_stdout=sys.stdout is not None)

    def out(self, text: str) -> None:
        """Print a line of results; a closed pipe is not an error.

        On a terminal, control characters are escaped. Programs get names of files as they are.

        Raises:
            OutputError: The line cannot be written, for example to a file on a full disk.
        """
        if self.stdout_closed:
            return
        try:
            self.stdout.write((printable(text) if self.stdout.isatty() else text) + "\n")
            self.stdout.flush()
        except BrokenPipeError:
            self.close_stdout()
        except OSError as error:
            raise OutputError(f"standard output: cannot be written ({one_line(error)})") from error

    def shown_name(self, name: str) -> str:
        """Return the name of a file as it is printed: on one line of a terminal, else unchanged."""
        return printable(name) if self.stdout.isatty() else name

    def out_json(self, record: Mapping[str, object]) -> None:
        """Print a record as one line of JSON."""
        self.out(json_line(record))

    def say(self, text: str) -> None:
        """Print a message on one line of standard error, control characters escaped.

        A line break in the name of a file, or in a tag, is escaped, too: it could begin a line that
        looks like a message of the program. Where the message cannot be printed, because a pipe is
        closed or a disk full, work continues.
        """
        try:
            self.stderr.write(printable_text(text) + "\n")
            self.stderr.flush()
        except OSError:
            return

    def error(self, text: str, trace: str | None = None) -> None:
        """Print an error on one line, followed by its traceback if `verbose` is set."""
        line = " ".join(text.split())
        if self.stderr.isatty():
            self._say_in_colour("error:", line)
        else:
            self.say(f"error: {line}")
        if self.verbose and trace:
            for part in trace.splitlines():
                self.say(part)

    def confirm(self, question: str) -> bool:
        """Ask a question on the terminal and return whether the answer is yes."""
        self.stderr.write(f"{printable_text(question)} [y/N] ")
        self.stderr.flush()
        answer = self.stdin.readline().decode(errors="replace")
        return answer.strip().lower() in ("y", "yes")

    def _say_in_colour(self, label: str, text: str) -> None:
        """Print a line that begins with a red label, unless NO_COLOR is set."""
        from rich.text import Text

        from upscale.cli.console import EscapingConsole

        no_colour = bool(self.environ.get("NO_COLOR")) or None
        console = EscapingConsole(self.stderr, no_color=no_colour)
        line = Text.assemble((label, "red"), f" {text}")
        with suppress(OSError):
            console.print(line, soft_wrap=True)

    def close_stdout(self) -> None:
        """Discard what is still buffered for a closed pipe, so that Python exits silently."""
        self.stdout_closed = True
        if self.stdout is sys.stdout:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def json_line(record: Mapping[str, object]) -> str:
    """Return a record as JSON; renamed keys are repeated under their former names."""
    old = {OLD_KEYS[key]: value for key, value in record.items() if key in OLD_KEYS}
    return json.dumps({**record, **old})


Action = Callable[[Session], int]
"""A parsed command: runs it and returns the exit code."""


def _or_null(stream: TextIO | None) -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8") if stream is None else stream
