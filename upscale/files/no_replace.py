"""Rename a file to a name that is still free, in one step."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCL = 4


def rename_to_free_name(source: Path, target: Path) -> bool:
    """Rename a file, unless another one has the name; a drive needs no hard links for this.

    Args:
        source: The file.
        target: Its new name, on the same drive.

    Returns:
        False if the system or the drive cannot do this; nothing was changed then.

    Raises:
        FileExistsError: The name is taken.
        OSError: The file cannot be renamed.
    """
    if os.name == "nt":
        os.rename(source, target)  # noqa: PTH104 -- Path.rename promises less: it may replace.
        return True
    rename = _system_call()
    if rename is None:
        return False
    if rename(os.fsencode(source), os.fsencode(target)) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(target))


@cache
def _system_call() -> Callable[[bytes, bytes], int] | None:
    """Return a function of two encoded paths that sets errno; None where there is none."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        exclude = library.renamex_np if sys.platform == "darwin" else library.renameat2
    except (AttributeError, OSError):
        return None

    def rename(source: bytes, target: bytes) -> int:
        paths = ctypes.c_char_p(source), ctypes.c_char_p(target)
        if sys.platform == "darwin":
            return exclude(*paths, ctypes.c_uint(_RENAME_EXCL))
        here = ctypes.c_int(_AT_FDCWD)
        return exclude(here, paths[0], here, paths[1], ctypes.c_uint(_RENAME_NOREPLACE))

    return rename
