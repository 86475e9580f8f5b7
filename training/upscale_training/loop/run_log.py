"""The logs of a run: JSON lines, and curves and images for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscale.errors import DependencyError, TrainingError
from upscale.files.atomic import flush_to_disk
from upscale.files.printable import printable
from upscale_training.loop.events import (
    Baseline,
    Changed,
    Event,
    Listener,
    Logged,
    Validated,
    as_record,
)

LOG = "log.jsonl"
BOARDS = "tensorboard"


class RunLog:
    """Forwards events to a listener, and writes some of them to the log, one object per line.

    Args:
        folder: Folder of the run.
        size: Bytes of the log up to the state that the run resumes from; later lines are removed,
            because the run writes them again.
        listener: Function that receives all events.

    Raises:
        TrainingError: The log is shorter than the given size.
    """

    def __init__(self, folder: Path, size: int, listener: Listener) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LOG
        self._listener, self._board = listener, None
        self._stream = path.open("ab")
        if self._stream.tell() < size:
            self._stream.close()
            raise TrainingError(
                f"{printable(path)}: is shorter than when the state was saved; restore it"
            )
        self._stream.truncate(size)

    def open_board(self, folder: Path, step: int) -> None:
        """Start to write curves and images; see `Board`."""
        self._board = Board(folder, step)

    def emit(self, event: Event) -> None:
        """Write an event to the log if it belongs there, and forward it."""
        if isinstance(event, Logged | Baseline | Validated | Changed):
            self._stream.write(json.dumps(as_record(event)).encode() + b"\n")
            self._stream.flush()
        if self._board is not None and isinstance(event, Logged | Validated):
            self._board.write(event)
        self._listener(event)

    def add_image(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Add an image (H, W, 3) to TensorBoard, if it is used."""
        if self._board is not None:
            self._board.add_image(name, pixels, step)

    def flush(self) -> int:
        """Flush the log to disk and return its size in bytes."""
        if self._board is not None:
            self._board.flush()
        flush_to_disk(self._stream)
        return self._stream.tell()

    def close(self) -> None:
        """Close all files."""
        self._stream.close()
        if self._board is not None:
            self._board.close()


class Board:
    """The TensorBoard files of one stage.

    Args:
        folder: Folder of the files.
        step: Number of iterations done; values of later iterations are removed.

    Raises:
        DependencyError: The package tensorboard is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise DependencyError(
                'TensorBoard is not installed; run: pip install "upscale[train]", or use --set '
                "logging.tensorboard=false"
            ) from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, event: Logged | Validated) -> None:
        """Add points to the curves."""
        for name, value in _points(event).items():
            self._writer.add_scalar(name, value, event.step)

    def add_image(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Add an image (H, W, 3)."""
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def flush(self) -> None:
        """Write all values to the file."""
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def _points(event: Logged | Validated) -> dict[str, float]:
    if isinstance(event, Validated):
        return {
            f"{name}/{metric}": value
            for name, scores in event.scores.items()
            for metric, value in scores.items()
        }
    return {
        **{f"loss/{name}": value for name, value in event.losses.items()},
        "rate/learning": event.learning_rate,
        "rate/images a second": event.images_per_second,
        **{f"time/{name}": value for name, value in event.shares.items()},
    }
