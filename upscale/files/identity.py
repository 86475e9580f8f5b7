"""Whether several names lead to the same file, and whether a file has changed."""

from __future__ import annotations

import os
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileState:
    """What the file system says about a version of a file.

    Attributes:
        device: Number of the drive.
        number: Number of the file on the drive; 0 where there are no numbers.
        size: Size in bytes.
        modified: Time of the last modification in nanoseconds, which programs can set.
        changed: Time of the last change of any kind in nanoseconds; on Windows, of the creation.
    """

    device: int
    number: int
    size: int
    modified: int
    changed: int

    def may_be_same(self, other: FileState) -> bool:
        """Return whether nothing but the time of the last change, as by a new link, differs."""
        mine = self.device, self.number, self.size, self.modified
        return mine == (other.device, other.number, other.size, other.modified)


def file_state(path: Path) -> FileState:
    """Return the state of the file that a path leads to.

    Args:
        path: The file.

    Raises:
        OSError: The file does not exist, or cannot be reached.
    """
    status = path.stat()
    return FileState(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


def file_key(path: Path) -> str:
    """Return a key that is equal for all spellings of a path and for all links to a file.

    Folders that do not exist count as if they did, because outputs create them: `new/../a.jpg` has
    the key of `a.jpg`.

    Args:
        path: The path; it need not exist.

    Example:
        >>> file_key(Path("new/../a.jpg")) == file_key(Path("a.jpg"))
        True
    """
    return os.path.normcase(os.path.realpath(path))


def file_ids(path: Path) -> frozenset[Hashable]:
    """Return keys that identify a file: two names with a key in common lead to the same file.

    The first key is that of `file_key`; the second one is device and inode, which hard links and,
    on drives that ignore case, other spellings share. Some drives do not number files.

    Args:
        path: The path; it need not exist.
    """
    ids: set[Hashable] = {file_key(path)}
    with suppress(OSError):
        status = Path(os.path.realpath(path)).stat()
        if status.st_ino:
            ids.add((status.st_dev, status.st_ino))
    return frozenset(ids)


def is_same_file(one: Path, other: Path) -> bool:
    """Return whether two names lead to the same file, or will once missing folders are created.

    Args:
        one: A path; it need not exist.
        other: Another one.

    Example:
        >>> is_same_file(Path("new/../a.jpg"), Path("a.jpg"))
        True
    """
    return not file_ids(one).isdisjoint(file_ids(other))
