"""Printable names for messages, and for commands that a message suggests."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path


def printable(path: Path | str) -> str:
    r"""Return a path, or a text from a file, as one line that any terminal can print.

    Args:
        path: Any path, also one with line breaks or bytes that are not UTF-8.

    Example:
        >>> printable(Path("photos/two\nlines.png"))
        'photos/two\\nlines.png'
    """
    return printable_text(str(path).encode("utf-8", "backslashreplace").decode("utf-8"))


def printable_text(text: str) -> str:
    r"""Return a text with its control characters escaped, so that it is one line.

    Bytes of file names that are not UTF-8 stay what they are.

    Args:
        text: Any text.

    Example:
        >>> printable_text("red\x1b[31m.png")
        'red\\x1b[31m.png'
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or "\udc80" <= char <= "\udcff" else ascii(char)[1:-1]
        for char in text
    )


def shell_word(path: Path | str) -> str:
    """Return a path as it is typed in a shell, for a command in a message.

    Args:
        path: Any path.

    Example:
        >>> shell_word("my clip.mp4") in ("'my clip.mp4'", '"my clip.mp4"')
        True
    """
    text = printable(path)
    if os.name == "nt":
        return text if re.fullmatch(r"[\w.:/\\+-]+", text) else f'"{text}"'
    return shlex.quote(text)
