"""The exception tree. Every class carries the exit code that the command line returns for it.

A message is one line: it names the file or option, says what is wrong and what to do about it.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the program; part of its interface."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    SOME_FAILED = 3
    INTERRUPTED = 130


class UpscaleError(Exception):
    """Anything that stops a job and that the user can act on."""

    exit_code = ExitCode.FAILED


class UsageError(UpscaleError):
    """The request itself is impossible: a wrong option, or options that exclude each other."""

    exit_code = ExitCode.USAGE


class ImageError(UpscaleError):
    """An input image cannot be read."""


class VideoError(UpscaleError):
    """An input video cannot be read."""


class OutputError(UpscaleError):
    """An output cannot be written, or would overwrite something."""


class CheckpointError(UpscaleError):
    """A file is not a usable checkpoint, or a model name is not known."""


class DownloadError(UpscaleError):
    """A checkpoint could not be fetched or is not the expected file."""


class DependencyError(UpscaleError):
    """An optional package is needed and not installed."""


class DeviceError(UpscaleError):
    """A requested device or precision is not available."""


class MemoryExhaustedError(UpscaleError):
    """The smallest tile still does not fit memory."""


class TrainingError(UpscaleError):
    """A recipe, data set or upscale_training run cannot be used."""
