"""Metadata of safetensors files, read without torch."""

from __future__ import annotations

from pathlib import Path

from upscale.errors import CheckpointError
from upscale.files.error_mapping import one_line

MAX_HEADER_BYTES = 1 << 23
"""The header of a network with 1,000 tensors has about 100,000 bytes."""


def read_metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file, empty if it has none.

    Raises:
        CheckpointError: The file cannot be read or is not a safetensors file.
    """
    import safetensors  # here, so that the catalogue can be read without it

    check_header(path)
    try:
        with safetensors.safe_open(path, framework="np") as opened:
            return dict(opened.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path}: not a usable safetensors file ({one_line(error)})"
        ) from error


def check_header(path: Path) -> None:
    """Check that the header of a safetensors file is short enough to be read.

    Raises:
        CheckpointError: The file cannot be read, or its header is too long.
    """
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({one_line(error)})") from error
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(f"{path}: not a usable safetensors file (its header is too long)")
