"""Atomic writes: a file appears complete or not at all, and replaces another only on request.

The content is written to a temporary file in the target's folder, flushed to the disk and renamed.
A power cut therefore leaves the old file or the new one, never a part of it. Only regular files are
replaced, and their permissions and owner are kept.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from upscale.errors import OutputError
from upscale.files.error_mapping import one_line
from upscale.files.locks import lock, remove_unlocked
from upscale.files.no_replace import rename_to_free_name
from upscale.files.printable import printable
from upscale.files.regular import NotRegularError, special_kind
from upscale.files.system_errors import raise_system_error

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
                replace_file(_followed(target), write)
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
        NotRegularError: The name belongs to a folder, a pipe, a socket or a device.
        OSError: The file cannot be written.
    """
    replaced = _status_of_replaced(target)
    mode = 0o666 if replaced is None else stat.S_IMODE(replaced.st_mode) & 0o600
    with temporary_file(target.parent, mode) as (temporary, file):
        write(file)
        if replaced is not None:
            _keep_access(file, replaced)
        _finish(file)
        _status_of_replaced(target)
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
        OutputError: The path is a folder, a device or the like, or the file exists and must not be
            replaced.
    """
    final = final_path(target)
    if os.path.isdir(final):  # noqa: PTH112 -- Path.is_dir raises for names that are too long.
        raise OutputError(f"{printable(target)}: is a folder; give a file name")
    try:
        kind = special_kind(final.stat().st_mode)
    except OSError:  # it does not exist, or cannot be reached: writing reports the reason
        kind = None
    if kind is not None:
        raise OutputError(f"{printable(target)}: is {kind}; give another file name")
    if not overwrite and os.path.lexists(final):
        raise _exists(target)


def final_path(target: Path) -> Path:
    """Return the path of an output after its missing folders were created.

    `new/../photo.jpg` does not exist as long as there is no folder `new`, and is `photo.jpg` later.
    A link at the end of the path is not followed.

    Args:
        target: The output file.

    Example:
        >>> final_path(Path("new/../photo.jpg")) == Path("photo.jpg").absolute()
        True
    """
    return Path(os.path.realpath(target.parent)) / target.name


@contextmanager
def temporary_file(folder: Path, mode: int = 0o666) -> Generator[tuple[Path, BinaryIO]]:
    """Create a locked temporary file; it is removed afterwards unless it was renamed.

    Args:
        folder: The folder for it; created where it is missing.
        mode: Permissions, which the umask limits.

    Yields:
        The path, and the file open for reading and writing.

    Raises:
        OSError: The file cannot be created.
    """
    path, file = _create_locked(folder, mode)
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


def _create_locked(folder: Path, mode: int) -> tuple[Path, BinaryIO]:
    while True:
        path = folder / f".upscale-{secrets.token_hex(8)}.part"
        try:
            file = open(path, "x+b", opener=lambda name, flags: os.open(name, flags, mode))  # noqa: SIM115
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


def _followed(target: Path) -> Path:
    """Return the file that a link leads to, or the target itself."""
    return Path(os.path.realpath(target))


def _status_of_replaced(target: Path) -> os.stat_result | None:
    """Return the status of the file that will be replaced; None if there is none.

    Raises:
        NotRegularError: It is a folder, a pipe, a socket or a device. A link is replaced itself.
    """
    try:
        status = target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    kind = special_kind(status.st_mode)
    if stat.S_ISLNK(status.st_mode):
        return None
    if kind is not None:
        raise NotRegularError(f"is {kind}, which is not replaced")
    return status


def _keep_access(file: BinaryIO, replaced: os.stat_result) -> None:
    """Give a file the owner and the permissions of the one that it will replace.

    Where the group cannot be kept, the new group gets no more than everybody has.
    """
    if not hasattr(os, "fchown"):  # Windows
        return
    own, mode = os.fstat(file.fileno()), stat.S_IMODE(replaced.st_mode) & 0o777
    for owner, group in ((replaced.st_uid, -1), (-1, replaced.st_gid)):
        if (owner, group) != (own.st_uid, -1) and (owner, group) != (-1, own.st_gid):
            with _refusals_ignored():
                os.fchown(file.fileno(), owner, group)
    if os.fstat(file.fileno()).st_gid != replaced.st_gid:
        mode &= ~0o070 | (mode & 0o007) << 3
    with _refusals_ignored():
        os.fchmod(file.fileno(), mode)


@contextmanager
def _refusals_ignored() -> Generator[None]:
    """Ignore that a drive, or the system, does not let a user set owners or permissions."""
    try:
        yield
    except OSError as error:
        raise_system_error(error)


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
        if not rename_to_free_name(temporary, target):
            _reserve_and_replace(temporary, target)


def _reserve_and_replace(temporary: Path, target: Path) -> None:
    """Rename where nothing else prevents replacing: an empty file reserves the name first.

    A process that is killed here leaves the empty file, which counts as absent for
    `--skip-existing`.
    """
    with target.open("xb"):
        pass
    try:
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise
