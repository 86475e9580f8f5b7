"""File names for messages."""

from __future__ import annotations

from pathlib import Path


def printable(path: Path) -> str:
    """A path on one line that any terminal can print: line breaks and the like are escaped."""
    text = str(path).encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
