"""Atomic writes: a file appears complete or not at all, and replaces another only on request.

The content is written to a temporary file in the target's folder, flushed to the disk and renamed.
A power cut therefore leaves the old file or the new one, never a part of it.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from upscale.errors import OutputError
from upscale.files.error_mapping import one_line
from upscale.files.locks import lock, remove_unlocked
from upscale.files.printable import printable

_TEMPORARY_NAME = re.compile(r"\.upscale-[0-9a-f]{16}\.part")
_NO_LINKS = {
    errno.EPERM,
    errno.EACCES,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.EXDEV,
    errno.EINVAL,
}


def write_atomically(
    target: Path, write: Callable[[BinaryIO], object], *, overwrite: bool = False
) -> None:
    """Write an output file atomically; missing folders are created.

    Errors raised by `write` pass through and leave nothing behind.

    Args:
        target: The output file.
        write: Function that writes the content to an open, seekable binary file.
        overwrite: Replace an existing file; by default, an existing file is an error, also one
            that appears during the write.

    Raises:
        OutputError: The file exists, or cannot be written.
    """
    check_target_free(target, overwrite=overwrite)
    with _no_new_folders_left(target.parent):
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(
                f"{printable(target)}: its folder cannot be created ({one_line(error)})"
            ) from error
        try:
            if overwrite:
                replace_file(Path(os.path.realpath(target)), write)
            else:
                _write_new(target, write)
        except FileExistsError as error:
            raise _exists(target) from error
        except OSError as error:
            raise OutputError(
                f"{printable(target)}: cannot be written ({one_line(error)})"
            ) from error


def replace_file(target: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file atomically in place of an older one, for files that are no output of a user.

    Args:
        target: The file; its folder is created where it is missing.
        write: Function that writes the content to an open, seekable binary file.

    Raises:
        OSError: The file cannot be written.
    """
    with temporary_file(target.parent) as (temporary, file):
        write(file)
        _finish(file)
        temporary.replace(target)


def replace_text(target: Path, text: str) -> None:
    r"""Write a UTF-8 text file with `\n` line ends atomically in place of an older one.

    Args:
        target: The file; its folder is created where it is missing.
        text: The whole content.

    Raises:
        OSError: The file cannot be written.
    """
    content = text.encode()
    replace_file(target, lambda file: file.write(content))


def check_target_free(target: Path, *, overwrite: bool) -> None:
    """Check that an output file can be created, before any work is done for it.

    Args:
        target: The output file.
        overwrite: Whether it may replace an existing file.

    Raises:
        OutputError: The path is a folder, or the file exists and must not be replaced.
    """
    if os.path.isdir(target):  # noqa: PTH112 -- Path.is_dir raises for names that are too long.
        raise OutputError(f"{printable(target)}: is a folder; give a file name")
    if not overwrite and os.path.lexists(target):
        raise _exists(target)


@contextmanager
def temporary_file(folder: Path) -> Generator[tuple[Path, BinaryIO]]:
    """Create a locked temporary file; it is removed afterwards unless it was renamed.

    Args:
        folder: The folder for it; created where it is missing.

    Yields:
        The path, and the file open for reading and writing.

    Raises:
        OSError: The file cannot be created.
    """
    path, file = _create_locked(folder)
    try:
        with file:
            yield path, file
    finally:
        with suppress(OSError):
            path.unlink()


def remove_stale_temporaries(folder: Path) -> None:
    """Remove temporary files that killed runs left in a folder; those in use stay.

    Args:
        folder: The folder; one that does not exist is ignored.

    Example:
        >>> stale = Path(".upscale-0123456789abcdef.part")
        >>> stale.touch()
        >>> remove_stale_temporaries(Path("."))
        >>> stale.exists()
        False
    """
    with suppress(OSError):
        for path in folder.iterdir():
            if _TEMPORARY_NAME.fullmatch(path.name):
                with suppress(OSError):
                    remove_unlocked(path)


def flush_to_disk(file: BinaryIO) -> None:
    """Flush an open file to the disk, so that a power cut cannot undo what was written.

    Raises:
        OSError: The content cannot be stored.
    """
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk; Windows does so by itself.

    Raises:
        OSError: The folder cannot be opened.
    """
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exists(target: Path) -> OutputError:
    return OutputError(f"{printable(target)}: exists already; pass --overwrite to replace it")


@contextmanager
def _no_new_folders_left(folder: Path) -> Generator[None]:
    """Remove the folders that the block created if it fails and they are still empty."""
    new = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for path in new:
                path.rmdir()
        raise


def _create_locked(folder: Path) -> tuple[Path, BinaryIO]:
    while True:
        path = folder / f".upscale-{secrets.token_hex(8)}.part"
        try:
            # Exclusive, and with the permissions that the umask gives to any new file.
            file = path.open("x+b")
        except FileNotFoundError:
            if folder.exists():
                raise
            # Another writer failed and removed the folder that it had created.
            folder.mkdir(parents=True, exist_ok=True)
            continue
        with suppress(OSError):
            lock(file)
        if path.exists():
            return path, file
        file.close()  # Another run removed it as stale before it was locked.


def _write_new(target: Path, write: Callable[[BinaryIO], object]) -> None:
    with temporary_file(target.parent) as (temporary, file):
        write(file)
        _finish(file)
        _rename_to_new(temporary, target)


def _finish(file: BinaryIO) -> None:
    """Flush a temporary file to the disk; on Windows, close it, since it is to be renamed."""
    flush_to_disk(file)
    if os.name == "nt":
        file.close()


def _rename_to_new(temporary: Path, target: Path) -> None:
    """Rename a file to a name that does not exist yet; FileExistsError if it does."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
        _reserve_and_replace(temporary, target)


def _reserve_and_replace(temporary: Path, target: Path) -> None:
    """Rename where the drive has no hard links: an empty file reserves the name first."""
    with target.open("xb"):
        pass
    try:
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise
