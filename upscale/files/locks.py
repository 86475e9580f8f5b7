"""Advisory locks on open files: a temporary file is locked as long as its writer is alive.

The system releases a lock when the process ends, however it ends. A temporary file without a lock
was therefore left behind by a killed run. On drives without locks, such files are never removed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt

    def try_lock(file: BinaryIO) -> bool:
        """Lock an open file until it is closed; return whether no other process has it locked."""
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def lock(file: BinaryIO) -> None:
        """Do nothing: Windows does not remove a file that is open."""

    def remove_unlocked(path: Path) -> None:
        """Remove a file unless a process has it open.

        Raises:
            OSError: The file is open, or cannot be removed.
        """
        path.unlink()

else:
    import fcntl

    def try_lock(file: BinaryIO) -> bool:
        """Lock an open file until it is closed; return whether no other process has it locked.

        Raises:
            OSError: The drive has no locks.
        """
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def lock(file: BinaryIO) -> None:
        """Lock an open file until it is closed.

        Raises:
            OSError: The drive has no locks.
        """
        fcntl.flock(file, fcntl.LOCK_EX)

    def remove_unlocked(path: Path) -> None:
        """Remove a file unless a process holds its lock.

        Raises:
            OSError: The file is locked, cannot be removed, or its drive has no locks.
        """
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
