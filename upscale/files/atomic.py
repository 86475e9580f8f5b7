"""Let a file appear under its name: whole or not at all, and never over another by accident."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from upscale.errors import OutputError
from upscale.files.printable import printable
from upscale.files.temporary import temporary_file

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
    target: Path, write: Callable[[BinaryIO], None], *, overwrite: bool = False
) -> None:
    """Write a file beside its target under a name of its own, then give it the target's name.

    Missing folders are made. Whatever `write` raises goes through, and leaves nothing behind.

    Args:
        target: The file that shall appear.
        write: Writes the content to an open binary file that can seek.
        overwrite: Replace an existing file. Without it, one that appears meanwhile is kept too.

    Raises:
        OutputError: The file exists, or cannot be written.
    """
    check_target_free(target, overwrite=overwrite)
    with _no_new_folders_left(target.parent):
        _write_in_folder(target, write, overwrite)


def _write_in_folder(target: Path, write: Callable[[BinaryIO], None], overwrite: bool) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = one_line(error)
        raise OutputError(f"{printable(target)}: its folder cannot be made ({reason})") from error
    try:
        _write_and_rename(target, write, overwrite)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError as error:
        raise OutputError(f"{printable(target)}: cannot be written ({one_line(error)})") from error


def check_target_free(target: Path, *, overwrite: bool) -> None:
    """Refuse a target that cannot be written, before any work is done.

    Raises:
        OutputError: It is a folder, or it exists and may not be replaced.
    """
    if os.path.isdir(target):  # noqa: PTH112 -- Path.is_dir raises for names that are too long.
        raise OutputError(f"{printable(target)}: is a folder; give a file name")
    if not overwrite and os.path.lexists(target):
        raise _exists(target)


def one_line(error: Exception) -> str:
    """What an error says, on one line."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__


def _exists(target: Path) -> OutputError:
    return OutputError(f"{printable(target)}: exists already; pass --overwrite to replace it")


@contextmanager
def _no_new_folders_left(folder: Path) -> Generator[None]:
    """Take away the folders that were made, and are still empty, when the work in them fails."""
    made = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        yield
    except BaseException:
        with suppress(OSError):
            for place in made:
                place.rmdir()
        raise


def _write_and_rename(target: Path, write: Callable[[BinaryIO], None], overwrite: bool) -> None:
    place = Path(os.path.realpath(target)) if overwrite else target
    with temporary_file(place.parent) as (temporary, file):
        write(file)
        file.flush()
        os.fsync(file.fileno())
        if os.name == "nt":  # an open file cannot be renamed there
            file.close()
        if overwrite:
            temporary.replace(place)
        else:
            _rename_to_new(temporary, place)


def _rename_to_new(temporary: Path, target: Path) -> None:
    """Give a file a second name that must be new; FileExistsError when it is not."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
        _reserve_and_replace(temporary, target)


def _reserve_and_replace(temporary: Path, target: Path) -> None:
    """The same on a filesystem without hard links: an empty file holds the name meanwhile."""
    with target.open("xb"):
        pass
    try:
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            target.unlink()
        raise
