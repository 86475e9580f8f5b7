"""Temporary folders of processes; those that killed processes have left are removed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from filelock import FileLock, Timeout

from upscale.files.private_folder import make_private_folder

_GUARD, _OWN = "guard.lock", "lock"


class ScratchFolder:
    """A folder of this process for temporary files.

    It is locked as long as the process lives. The system releases a lock when a process ends,
    however it ends, so a folder without a lock was left by a killed process.

    Args:
        name: Name of the folder for the folders of all such processes of the user.
        base: Folder that contains it; None for the system's folder for temporary files.

    Attributes:
        path: The folder, which is empty.

    Raises:
        OutputError: Another user has power over the folder.
        OSError: The folder cannot be created.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as base:
        ...     scratch = ScratchFolder("examples", Path(base))
        ...     scratch.remove()
        ...     scratch.path.exists()
        False
    """

    def __init__(self, name: str, base: Path | None = None) -> None:
        user = getattr(os, "getuid", lambda: 0)()
        parent = (base or Path(tempfile.gettempdir())) / f"{name}-{user}"
        make_private_folder(parent)
        with FileLock(parent / _GUARD):
            for folder in parent.iterdir():
                if folder.is_dir() and not folder.is_symlink():
                    _remove_abandoned(folder)
            self._root = Path(tempfile.mkdtemp(dir=parent))
            self._lock = FileLock(self._root / _OWN)
            self._lock.acquire()
        self.path = self._root / "files"
        self.path.mkdir()

    def remove(self) -> None:
        """Remove the folder with its files."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()
        shutil.rmtree(self._root, ignore_errors=True)


def _remove_abandoned(folder: Path) -> None:
    try:
        FileLock(folder / _OWN).acquire(timeout=0).lock.release()
    except (Timeout, OSError):
        return
    shutil.rmtree(folder, ignore_errors=True)
