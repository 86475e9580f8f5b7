"""File work without torch: checksums, writing whole or not at all, safetensors headers."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import safetensors

from upscale.errors import CheckpointError

_SHOWN = 160
"""Characters of a foreign error message that are passed on."""


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 lower-case hex digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def replacing(target: Path) -> Generator[Path]:
    """Give a temporary path in the target's folder that becomes the target if the block succeeds.

    The file is flushed to the disk before it is renamed, so that a power cut leaves the old file
    or the new one. A block that fails leaves nothing behind.

    Raises:
        OSError: the folder cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(target: Path) -> None:
    """Remove what killed processes left of `replacing(target)`; only for holders of its lock."""
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        leftover.unlink(missing_ok=True)


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file, empty if it has none.

    Raises:
        CheckpointError: The file cannot be read or is not a safetensors file.
    """
    try:
        with safetensors.safe_open(path, framework="np") as opened:
            return dict(opened.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path}: not a usable safetensors file ({one_line(error)})"
        ) from error


def one_line(error: BaseException) -> str:
    """Return the first line of a foreign error's message, or its class when it has none."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    lines = text.strip().splitlines()
    return lines[0][:_SHOWN].rstrip(" .:") if lines else type(error).__name__
