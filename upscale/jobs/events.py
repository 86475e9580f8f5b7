"""What a job tells its caller while it runs, and what is left of it at the end."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypedDict

from upscale.errors import UpscaleError


class Status(StrEnum):
    """How one input ended."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    PLANNED = "planned"


class JobRecord(TypedDict):
    """One line of `--json`, an interface that docs/json.md describes."""

    input: str
    output: str | None
    status: str
    model: str
    scale: float | None
    size_in: list[int] | None
    size_out: list[int] | None
    frames: int | None
    tile: int | None
    device: str | None
    precision: str | None
    seconds: float | None
    notes: list[str]
    error: str | None


@dataclass(frozen=True, slots=True)
class JobResult:
    """The end of one input.

    `scale` is the output/input ratio of the widths, `frames` the number of frames or pages (1 for a
    still image), `tile` a side in input pixels (0: none), `seconds` runs from the start of
    computing to the file being whole, `resize` is the last resize where the network's own scale was
    not what was asked for, `notes` say what was done otherwise than asked. `trace` is the traceback
    as text: an exception would keep the images of its stack alive.
    """

    input: str
    output: str | None
    status: Status
    model: str
    scale: float | None = None
    size_in: tuple[int, int] | None = None
    size_out: tuple[int, int] | None = None
    frames: int | None = None
    tile: int | None = None
    device: str | None = None
    precision: str | None = None
    seconds: float | None = None
    error: str | None = None
    resize: str | None = None
    notes: tuple[str, ...] = ()
    trace: str | None = None

    def record(self) -> JobRecord:
        """Return the fields that `--json` prints."""
        return {
            "input": self.input,
            "output": self.output,
            "status": str(self.status),
            "model": self.model,
            "scale": self.scale,
            "size_in": list(self.size_in) if self.size_in else None,
            "size_out": list(self.size_out) if self.size_out else None,
            "frames": self.frames,
            "tile": self.tile,
            "device": self.device,
            "precision": self.precision,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "notes": list(self.notes),
            "error": self.error,
        }


@dataclass(frozen=True, slots=True)
class Planned:
    """Every input has been looked at: so many in all, so many files were no images."""

    total: int
    ignored: int
    devices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Started:
    """The network starts on this input, on a device as the user named it."""

    input: str
    device: str


@dataclass(frozen=True, slots=True)
class Advanced:
    """So many tiles of a device's current image are computed; the total can grow."""

    device: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Finished:
    """One input has ended, in one way or another."""

    result: JobResult


Event = Planned | Started | Advanced | Finished
Listener = Callable[[Event], None]


def error_text(error: Exception) -> str:
    """Return one line for any exception; those that are not for users are named as faults."""
    if isinstance(error, UpscaleError):
        text = str(error)
    elif isinstance(error, MemoryError):
        text = "not enough memory for this image: ask for a smaller size or a smaller --tile"
    elif isinstance(error, OSError):
        text = f"{error.filename or 'file'}: {error.strerror or error}"
    else:
        text = f"internal error: {type(error).__name__}: {error}; run again with -v"
    return " ".join(text.split())


def traceback_text(error: Exception) -> str:
    """Return the traceback of an exception, as Python prints it, without a last newline."""
    return "".join(traceback.format_exception(error)).rstrip()


def path_text(path: Path | None) -> str | None:
    """Return a path as results show it; None (standard output) is `-`."""
    return "-" if path is None else str(path)
