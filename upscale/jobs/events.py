"""Events that a job reports while it runs, and the results at its end."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from upscale.dependencies import find_import_problem
from upscale.errors import UpscaleError
from upscale.files.printable import printable
from upscale.jobs.auto import ChoiceRecord, choice_record
from upscale.out_of_memory import is_out_of_memory

if TYPE_CHECKING:
    from upscale.selection import Choice


class Status(StrEnum):
    """Final state of one input."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    PLANNED = "planned"
    SHARE = "share"


class JobRecord(TypedDict):
    """One line of `--json`; docs/reference/json.md describes this interface."""

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
    damaged: list[str]
    choice: ChoiceRecord | None
    colour_kept: bool | None
    faces: int | None


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result of one input.

    Attributes:
        input: The input as the user named it.
        output: Path of the output, `-` for standard output, None if there is none.
        status: Final state.
        model: Name of the network; several, whose results were averaged, are joined by ` + `.
        scale: Output width divided by input width.
        size_in: Input (width, height) in pixels.
        size_out: Output (width, height) in pixels.
        frames: Number of frames or pages, 1 for a still image.
        tile: Tile side in input pixels, 0 for no tiles.
        device: Device that computed the result.
        precision: Precision of the computation, for example `fp16`.
        seconds: Time from the start of the computation until the output is complete.
        error: Error message, one line.
        convolutions: Kernels that computed the convolutions; see `upscale.engine.report.Report`.
        resize: Filter of the final resize, if the network's scale differs from the requested one.
        notes: Remarks on what differs from the request.
        damaged: Clauses that say what is missing in the output, because the input is damaged.
        choice: Why the network was chosen; None if the user named it.
        colour_kept: Whether the colours of the input were kept; None if nothing was computed, or
            for normal maps.
        faces: Number of faces that were found, over all distinct frames; None if none were looked
            for.
        trace: Traceback as text; an exception object would keep the images of its stack alive.
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
    convolutions: str | None = None
    resize: str | None = None
    notes: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    choice: Choice | None = None
    colour_kept: bool | None = None
    faces: int | None = None
    trace: str | None = None

    def record(self) -> JobRecord:
        """Return the object that `--json` prints."""
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
            "damaged": list(self.damaged),
            "choice": None if self.choice is None else choice_record(self.choice),
            "colour_kept": self.colour_kept,
            "faces": self.faces,
        }


@dataclass(frozen=True, slots=True)
class Planned:
    """All inputs are planned.

    Attributes:
        total: Number of inputs.
        ignored: Number of files in folders that are not images.
        devices: Devices as the user named them.
        jobs: Number of inputs that will be computed.
        elsewhere: Number of inputs that belong to other shards, and do not count here.
    """

    total: int
    ignored: int
    devices: tuple[str, ...]
    jobs: int
    elsewhere: int = 0


@dataclass(frozen=True, slots=True)
class Started:
    """A device starts to compute this input."""

    input: str
    device: str


@dataclass(frozen=True, slots=True)
class Advanced:
    """A device has done `done` of `total` steps of its current image; the total can grow.

    The steps are tiles, or before them the iterations of a training.
    """

    device: str
    done: int
    total: int
    unit: str = "tiles"


@dataclass(frozen=True, slots=True)
class Finished:
    """An input has its result."""

    result: JobResult


Event = Planned | Started | Advanced | Finished
Listener = Callable[[Event], None]


def error_text(error: Exception) -> str:
    """Return one line for any exception; unexpected ones are marked as internal errors."""
    problem = find_import_problem(error)
    if problem is not None:
        text = str(problem)
    elif isinstance(error, UpscaleError):
        text = str(error)
    elif is_out_of_memory(error):
        text = "not enough memory for this image: use a smaller size or a smaller --tile"
    elif isinstance(error, OSError):
        name = printable(str(error.filename or "file"))
        text = f"{name}: {error.strerror or error}"
    else:
        text = f"internal error: {type(error).__name__}: {error}; run again with -v"
    return " ".join(text.split())


def traceback_text(error: Exception) -> str:
    """Return the traceback of an exception as Python prints it, without a final newline."""
    return "".join(traceback.format_exception(error)).rstrip()


def path_text(path: Path | None) -> str | None:
    """Return a path as results contain it; None (standard output) becomes `-`."""
    return "-" if path is None else str(path)
