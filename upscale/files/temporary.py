"""Files on their way to a name: one that is being written is locked, so that stale_temporaries are known.

A lock goes with its process, however that ends. What a killed run left is therefore any file of
this kind that nobody holds; on drives without locks it stays.
"""

from __future__ import annotations

import re
import secrets
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_NAME = re.compile(r"\.upscale-[0-9a-f]{16}\.part")


@contextmanager
def temporary_file(folder: Path) -> Generator[tuple[Path, BinaryIO]]:
    """Make a new file in a folder and hold it; it is gone afterwards, unless it was renamed.

    Raises:
        OSError: It cannot be made.
    """
    path, file = _held(folder)
    try:
        with file:
            yield path, file
    finally:
        with suppress(OSError):
            path.unlink()


def remove_stale_temporaries(folder: Path) -> None:
    """Remove what runs that were killed left in a folder; never what one alive is writing."""
    with suppress(OSError):
        for path in folder.iterdir():
            if _NAME.fullmatch(path.name):
                with suppress(OSError):
                    _remove_unheld(path)


def _held(folder: Path) -> tuple[Path, BinaryIO]:
    while True:
        path = folder / f".upscale-{secrets.token_hex(8)}.part"
        try:
            # Exclusive, and with the permissions that the umask leaves to any new file.
            file = path.open("x+b")
        except FileNotFoundError:
            if folder.exists():
                raise
            # A neighbour that failed has taken its new folder away.
            folder.mkdir(parents=True, exist_ok=True)
            continue
        with suppress(OSError):
            _hold(file)
        if path.exists():
            return path, file
        file.close()  # another run that tidies up had it first


if sys.platform == "win32":

    def _hold(file: BinaryIO) -> None:
        """Nothing: an open file cannot be removed there."""

    def _remove_unheld(path: Path) -> None:
        path.unlink()

else:
    import fcntl

    def _hold(file: BinaryIO) -> None:
        """Lock a file; OSError on drives without locks."""
        fcntl.flock(file, fcntl.LOCK_EX)

    def _remove_unheld(path: Path) -> None:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
