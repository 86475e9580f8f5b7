"""Folders that only their owner can change, for files that a later run relies on."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from upscale.errors import OutputError
from upscale.files.atomic import temporary_file
from upscale.files.printable import printable
from upscale.files.regular import special_kind

_OTHERS_WRITE = 0o022


def make_private_folder(folder: Path) -> None:
    """Create a folder for its owner only, or check that an existing folder is one.

    On drives that store no owners or permissions, any folder is accepted. So it is on Windows,
    where folders inherit their access rights.

    Args:
        folder: The folder; missing folders above it are created.

    Raises:
        OutputError: The folder is a link, belongs to another user, or other users can write to it.
        OSError: The folder cannot be created or written to.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        _check_existing(folder)


def check_regular_files(folder: Path, is_own: Callable[[str], bool]) -> None:
    """Check that files with certain names are regular files.

    Args:
        folder: Folder that contains them.
        is_own: Function that returns whether a name is to be checked.

    Raises:
        OutputError: One of them is a link, a folder, a pipe, a socket or a device.
        OSError: The folder cannot be read.
    """
    for path in filter(lambda path: is_own(path.name), folder.iterdir()):
        try:
            kind = special_kind(path.lstat().st_mode)
        except FileNotFoundError:  # another run removes its files
            continue
        if kind is not None:
            raise OutputError(
                f"{printable(path)}: is {kind}, which upscale did not make; remove its folder"
            )


def _check_existing(folder: Path) -> None:
    status = folder.lstat()
    if stat.S_ISLNK(status.st_mode) or _is_junction(status):
        raise OutputError(
            f"{printable(folder)}: is a link; remove it, or choose another output name"
        )
    if not stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EEXIST, "exists and is not a folder")
    if os.name == "nt":
        return
    problem = _problem_with_access(folder, status)
    if problem is not None:
        raise OutputError(
            f"{printable(folder)}: {problem}, who could change what is written there; remove it, "
            "or choose another output name"
        )


def _problem_with_access(folder: Path, status: os.stat_result) -> str | None:
    """Return why other users have power over a folder, None if they have none."""
    another = "belongs to another user"
    try:
        # Drives without owners or permissions show the same ones for every file.
        with temporary_file(folder, 0o600) as (_, file):
            fresh = os.fstat(file.fileno())
    except PermissionError:
        if status.st_uid != os.geteuid():
            return another
        raise
    if status.st_uid != fresh.st_uid:
        return another
    if status.st_mode & _OTHERS_WRITE and not fresh.st_mode & _OTHERS_WRITE:
        return "can be written by other users"
    return None


def _is_junction(status: os.stat_result) -> bool:
    """Whether a folder of Windows leads to another one; cloud folders do not."""
    tag = getattr(status, "st_reparse_tag", 0)
    return tag != 0 and tag == getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)
