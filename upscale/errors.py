"""Exceptions, each with the exit code that the command line returns for it.

A message is one line: it names the file or option, says what is wrong and what to do.
"""

from __future__ import annotations

import warnings
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the program; part of its public interface."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    SOME_FAILED = 3
    INTERRUPTED = 130


class UpscaleError(Exception):
    """Base class of all errors that a user can act on."""

    exit_code = ExitCode.FAILED


class UsageError(UpscaleError):
    """An option is invalid, or options cannot be combined."""

    exit_code = ExitCode.USAGE


class ImageError(UpscaleError):
    """An input image cannot be read."""


class DamagedImageError(ImageError):
    """An input image is damaged or cut off.

    Attributes:
        may_be_kept: Whether `keep_damaged` may read a part of it.
    """

    may_be_kept = False


class VideoError(UpscaleError):
    """An input video cannot be read."""


class OutputError(UpscaleError):
    """An output cannot be written, or would overwrite an existing file."""


class CheckpointError(UpscaleError):
    """A file is not a usable checkpoint, or a model name is unknown."""


class DownloadError(UpscaleError):
    """A checkpoint cannot be downloaded, or its checksum is wrong."""


class DependencyError(UpscaleError):
    """An optional package is needed and not installed."""


class DeviceError(UpscaleError):
    """A device or precision is not available."""


class MemoryExhaustedError(UpscaleError):
    """The smallest tile does not fit into memory."""


class TrainingError(UpscaleError):
    """A recipe, a dataset or a training run cannot be used."""


_OLD_NAMES = {"PictureError": "ImageError"}


def __getattr__(name: str) -> type[UpscaleError]:
    """Return a class that was renamed, with a DeprecationWarning."""
    if name not in _OLD_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    new = _OLD_NAMES[name]
    warnings.warn(f"{name} was renamed to {new}", DeprecationWarning, stacklevel=2)
    renamed: type[UpscaleError] = globals()[new]
    return renamed
