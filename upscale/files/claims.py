"""Claims: among processes that share a folder, one at a time works on an output.

A claim is a locked file beside the output. It looks like a temporary file, so that a later run
removes it if its process was killed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from upscale.files.locks import try_lock
from upscale.files.regular import open_or_create


class Claim:
    """The exclusive right to work on an output, until it is released or the process ends.

    Args:
        path: The claim's file.
        file: The open and locked file; None where the drive has no locks.
    """

    def __init__(self, path: Path, file: BinaryIO | None) -> None:
        self._path, self._file = path, file

    def release(self) -> None:
        """Let others work on the output."""
        file, self._file = self._file, None
        if file is None:
            return
        if os.name == "nt":  # Windows removes no open file
            file.close()
        with suppress(OSError):
            self._path.unlink()
        file.close()


@contextmanager
def empty_folders_removed(folders: Iterable[Path]) -> Generator[None]:
    """Remove the folders that the block creates, with those above, if they are empty at its end.

    Args:
        folders: Folders that claims may create.
    """
    new = {each for folder in folders for each in (folder, *folder.parents) if not each.exists()}
    try:
        yield
    finally:
        for folder in sorted(new, key=lambda each: len(each.parts), reverse=True):
            with suppress(OSError):
                folder.rmdir()


def claim_output(target: Path) -> Claim | None:
    """Claim an output, so that no other process starts to work on it.

    Claims are advice: they keep nobody from writing the file. Where they cannot be stored, because
    the drive has no locks or the folder is not writable, each process gets one.

    Args:
        target: The output file; missing folders are created.

    Returns:
        The claim; None if another process has it.

    Example:
        >>> first = claim_output(Path("photo.png"))
        >>> claim_output(Path("photo.png")) is None
        True
        >>> first.release()
        >>> second = claim_output(Path("photo.png"))
        >>> second.release()
    """
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()
    path = target.parent / f".upscale-{digest[:16]}.part"
    try:
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another process removed the empty folder
                file = open_or_create(path)
                if not _locked(file):
                    return None
                if _is_same(path, file):
                    return Claim(path, file)
                file.close()  # it was released, and removed, before it was locked
    except OSError:
        return Claim(path, None)


def _locked(file: BinaryIO) -> bool:
    """Lock a file; if another process holds its lock, or there are none, close it instead."""
    try:
        is_locked = try_lock(file)
    except OSError:
        file.close()
        raise
    if not is_locked:
        file.close()
    return is_locked


def _is_same(path: Path, file: BinaryIO) -> bool:
    """Whether a path still leads to an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
