"""Printable paths for messages."""

from __future__ import annotations

from pathlib import Path


def printable(path: Path | str) -> str:
    r"""Return a path, or a text from a file, as one line that any terminal can print.

    Args:
        path: Any path, also one with line breaks or bytes that are not UTF-8.

    Example:
        >>> printable(Path("photos/two\nlines.png"))
        'photos/two\\nlines.png'
    """
    text = str(path).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
