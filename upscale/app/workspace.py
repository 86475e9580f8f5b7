"""The private folder of a server: uploads and results, deleted when the server ends."""

from __future__ import annotations

import getpass
import secrets
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from upscale.errors import OutputError
from upscale.files.error_mapping import one_line
from upscale.files.locks import try_lock
from upscale.files.printable import printable
from upscale.files.private_folder import make_private_folder

_LOCK_SUFFIX = ".lock"


class Workspace:
    """A folder that only its owner can read, and that is deleted at the end.

    A lock file beside it shows that its server is alive. Folders of servers that were killed are
    deleted by the next one.

    Args:
        parent: Folder of all servers of this user; None for one in the system's temporary folder.

    Attributes:
        folder: The folder.

    Raises:
        OutputError: The folder cannot be created, or other users have power over it.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or Path(tempfile.gettempdir()) / f"upscale-app-{_user()}"
        try:
            make_private_folder(parent)
            _remove_stale(parent)
            self._lock_path, self._lock = _claim(parent)
            self.folder = self._lock_path.with_suffix("")
            self.folder.mkdir(mode=0o700)
        except OSError as error:
            raise OutputError(
                f"{printable(parent)}: cannot be used ({one_line(error)}); set TMPDIR to a folder "
                "that you can write to"
            ) from error

    def subfolder(self, name: str) -> Path:
        """Create a subfolder and return its path."""
        path = self.folder / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def close(self) -> None:
        """Delete the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()
        with suppress(OSError):
            self._lock_path.unlink()


def _user() -> str:
    try:
        return "".join(char for char in getpass.getuser() if char.isalnum()) or "user"
    except (OSError, KeyError, ImportError):
        return "user"


def _claim(parent: Path) -> tuple[Path, BinaryIO]:
    """Create a lock file and lock it; another server may take it for a stale one before that."""
    while True:
        path = parent / f"{secrets.token_hex(8)}{_LOCK_SUFFIX}"
        file = path.open("xb")
        if try_lock(file) and path.exists():
            return path, file
        file.close()


def _remove_stale(parent: Path) -> None:
    for path in parent.glob(f"*{_LOCK_SUFFIX}"):
        with suppress(OSError):
            with path.open("r+b") as file:
                if not try_lock(file):
                    continue
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            path.unlink()
