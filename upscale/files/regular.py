"""Regular files, told apart from links, pipes, sockets and devices."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
_NOT_THROUGH_LINKS = getattr(os, "O_NOFOLLOW", 0)
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0)
_BINARY = getattr(os, "O_BINARY", 0)


class NotRegularError(OSError):
    """A path leads to something other than a regular file."""


def special_kind(mode: int) -> str | None:
    """Return what a file is that is not a regular one, such as "a device"; None if it is.

    Args:
        mode: The field `st_mode` of its status.

    Example:
        >>> special_kind(Path(".").stat().st_mode)
        'a folder'
    """
    if stat.S_ISREG(mode):
        return None
    return next((name for matches, name in _KINDS if matches(mode)), "a special file")


def is_empty_file(path: Path) -> bool:
    """Return whether a path leads to a regular file without content.

    Args:
        path: The path; it need not exist.

    Example:
        >>> is_empty_file(Path("missing"))
        False
    """
    try:
        status = path.stat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size == 0


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, without following a link and without waiting for a writer.

    Args:
        path: The file.

    Raises:
        NotRegularError: The path leads to a link, a folder, a pipe, a socket or a device.
        OSError: The file does not exist, or cannot be opened.
    """
    # The status comes first, because opening a device can have effects.
    _check_regular(path.lstat().st_mode)
    flags = os.O_RDONLY | _NOT_THROUGH_LINKS | _WITHOUT_WAITING | _BINARY
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _check_regular(os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    return file


def open_or_create(path: Path) -> BinaryIO:
    """Open a regular file for writing at its end, creating it if it is missing.

    Args:
        path: The file; a link is not followed.

    Raises:
        NotRegularError: The path leads to a link, a folder, a pipe, a socket or a device.
        OSError: The file cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | _NOT_THROUGH_LINKS | _WITHOUT_WAITING | _BINARY
    file = os.fdopen(os.open(path, flags, 0o666), "ab")
    try:
        _check_regular(os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    return file


def create_anew(path: Path) -> None:
    """Create an empty file for the owner only, in place of what has this name.

    A link is removed, not followed. Use it before a library opens the file by its name.

    Args:
        path: The file.

    Raises:
        OSError: The file cannot be created, or an older one of this name cannot be removed.
    """
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOT_THROUGH_LINKS, 0o600))


def _check_regular(mode: int) -> None:
    kind = special_kind(mode)
    if kind is not None:
        raise NotRegularError(f"is {kind}, not a regular file")
