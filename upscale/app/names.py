"""Names of uploads: what a browser sends becomes a path that stays inside a folder."""

from __future__ import annotations

import os
import re

_MOST_PARTS = 32
_MOST_BYTES = 200
"""Longest part of a path, below the 255 bytes of file systems, as outputs append to names."""

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f/\\]")
_FORBIDDEN_ON_WINDOWS = re.compile(r'[<>:"|?*]')
_DEVICES_OF_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def safe_parts(name: str) -> tuple[str, ...]:
    r"""Return the parts of a relative path that a browser sent, each a plain name of a file.

    Parts that lead elsewhere are dropped, and characters that file systems do not allow become
    underscores. Hidden names get an underscore, because folders are searched without them.

    Args:
        name: Name of a file, or its path below a folder that was dropped, separated by `/`.

    Returns:
        At least one part.

    Example:
        >>> safe_parts("holiday/sea/../../etc/a\\b.png")
        ('holiday', 'sea', 'etc', 'a_b.png')
        >>> safe_parts("/"), safe_parts(".hidden.png")
        (('unnamed',), ('_hidden.png',))
    """
    parts = [_safe_part(part) for part in name.split("/") if part.strip(" .")]
    return tuple(parts[:1] + parts[1:][-_MOST_PARTS:]) or ("unnamed",)


def _safe_part(part: str) -> str:
    part = _FORBIDDEN.sub("_", part.encode("utf-8", "replace").decode("utf-8"))
    if os.name == "nt":
        part = _FORBIDDEN_ON_WINDOWS.sub("_", part).rstrip(" .")
        part = f"_{part}" if _DEVICES_OF_WINDOWS.fullmatch(part) else part
    if part.startswith("."):
        part = f"_{part[1:]}"
    stem, dot, suffix = part.rpartition(".")
    if not dot or len(suffix) > 10:
        stem, dot, suffix = part, "", ""
    room = _MOST_BYTES - len(f"{dot}{suffix}".encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + dot + suffix
