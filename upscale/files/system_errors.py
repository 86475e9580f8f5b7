"""Errors of the system that say nothing about a file's content: full disks, quotas, broken drives.

Code that tries something and continues if it fails must not take such an error for a "no".
"""

from __future__ import annotations

import errno

_CODES = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EFBIG", "EIO", "EMFILE", "ENFILE", "EROFS")
    if hasattr(errno, name)
)

_NO_FOLDER = "No usable temporary directory"
"""Part of Python's message where no temporary file can be created, which has no such number."""


def is_system_error(error: BaseException) -> bool:
    """Return whether the disk, a quota or a limit of the system caused an error.

    Those of FFmpeg count as well, which have the same numbers. So do errors that were raised from
    such a one.

    Args:
        error: Any error.

    Example:
        >>> is_system_error(OSError(errno.ENOSPC, "No space left on device"))
        True
        >>> is_system_error(ValueError("bad header"))
        False
    """
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in _CODES or _NO_FOLDER in str(cause):
            return True
        cause = cause.__cause__
    return False


def raise_system_error(error: BaseException) -> None:
    """Raise an error again if the disk, a quota or a limit of the system caused it.

    Args:
        error: Any error.

    Raises:
        BaseException: The error itself.
    """
    if is_system_error(error):
        raise error
