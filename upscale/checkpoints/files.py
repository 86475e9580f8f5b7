"""Metadata of safetensors files, read without torch."""

from __future__ import annotations

from pathlib import Path

import safetensors

from upscale.errors import CheckpointError
from upscale.files.error_mapping import one_line


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
