"""The files of pools: found, and compared with a description."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

from pydantic import Field

from upscale.errors import TrainingError
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable

_LONGEST_LABEL = 24

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def files_of(pool: Path, suffixes: Collection[str], content: str) -> tuple[str, ...]:
    """Return the sorted paths of the files of a pool.

    Names that start with a dot are ignored, as are other suffixes.

    Args:
        pool: Folder, searched with its subfolders, or a single file.
        suffixes: Suffixes of the files in lower case.
        content: Name of their content, for messages.

    Raises:
        TrainingError: The pool does not exist, or contains no such file.
    """

    def fail(error: OSError) -> None:
        name = printable(Path(error.filename))
        raise TrainingError(
            f"{name}: cannot be read ({one_line(error)}); name a folder of {content} as pool"
        ) from error

    if pool.is_file():
        return (str(pool),)
    files = [
        os.path.join(parent, name)  # noqa: PTH118 # keeps the spelling of the folder
        for parent, _, names in os.walk(pool, onerror=fail)
        for name in names
        if not name.startswith(".") and Path(name).suffix.lower() in suffixes
    ]
    if not files:
        raise TrainingError(
            f"{printable(pool)}: contains no {content} ({', '.join(suffixes)}); name another pool"
        )
    return tuple(sorted(files))


def label_of(file: str) -> str:
    """Return the name of a file for the label of a sample; of long names the end, with the number.

    Args:
        file: Path of the file.
    """
    name = printable(Path(Path(file).name))
    return name if len(name) <= _LONGEST_LABEL else f"…{name[1 - _LONGEST_LABEL :]}"


def check_digest(file: str, found: str, described: str) -> None:
    """Raise an error for a file that is not the one of a description.

    Args:
        file: Path of the file.
        found: Its SHA-256.
        described: The SHA-256 in the description.

    Raises:
        TrainingError: They differ.
    """
    if found != described:
        raise TrainingError(
            f"{printable(Path(file))}: has changed since it was described; restore it, or sample "
            "degradations again"
        )
