"""Messages that a library prints by itself, caught so that they do not reach the user."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

_STDERR = 2
_lock = threading.Lock()


@contextmanager
def caught_messages(is_message: Callable[[bytes], bool]) -> Generator[list[bytes]]:
    """Catch the lines that native code prints to standard error, and all that Python prints.

    Other lines, of other threads, are passed on to standard error afterwards.

    Args:
        is_message: Function that recognises a line to catch.

    Yields:
        A list that holds the lines afterwards.
    """
    lines: list[bytes] = []
    printed = io.StringIO()
    with _lock, tempfile.TemporaryFile() as caught:
        try:
            original = os.dup(_STDERR)
        except OSError:  # standard error is closed
            yield lines
            return
        os.dup2(caught.fileno(), _STDERR)
        try:
            with contextlib.redirect_stdout(printed):
                yield lines
        finally:
            os.dup2(original, _STDERR)
            os.close(original)
            caught.seek(0)
            for line in caught.read().splitlines(keepends=True):
                if is_message(line):
                    lines.append(line)
                else:
                    os.write(_STDERR, line)
            lines += printed.getvalue().encode().splitlines()
