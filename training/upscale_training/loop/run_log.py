"""What a run writes down: a log of JSON lines, and curves and images for TensorBoard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from upscale.errors import DependencyError, TrainingError
from upscale.files.atomic import flush_to_disk
from upscale.files.printable import printable
from upscale_training.loop.events import Baseline, Event, Listener, Logged, Validated, as_record

LOG = "log.jsonl"
BOARDS = "tensorboard"


class Records:
    """Passes events on, and writes those that last into the log, an object a line.

    Args:
        folder: of the run.
        size: bytes of the log that belong to the state that the run goes on from; what comes
            after them was lost with the run that wrote it, and will be written again.
        listener: is given all events.

    Raises:
        TrainingError: the log has become shorter.
    """

    def __init__(self, folder: Path, size: int, listener: Listener) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LOG
        self._listener, self._board = listener, None
        self._stream = path.open("ab")
        if self._stream.tell() < size:
            self._stream.close()
            raise TrainingError(
                f"{printable(path)}: is shorter than when the state was saved; put it back"
            )
        self._stream.truncate(size)

    def open_board(self, folder: Path, step: int) -> None:
        """Write curves and images, too; see `Board`."""
        self._board = Board(folder, step)

    def tell(self, event: Event) -> None:
        """Write down what lasts, and pass it on."""
        if isinstance(event, Logged | Baseline | Validated):
            self._stream.write(json.dumps(as_record(event)).encode() + b"\n")
            self._stream.flush()
        if self._board is not None and isinstance(event, Logged | Validated):
            self._board.write(event)
        self._listener(event)

    def show(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Add an image (H, W, 3) to the board, if there is one."""
        if self._board is not None:
            self._board.show(name, pixels, step)

    def settled(self) -> int:
        """Bytes of the log, which are on the disk."""
        if self._board is not None:
            self._board.flush()
        flush_to_disk(self._stream)
        return self._stream.tell()

    def close(self) -> None:
        """Write no more."""
        self._stream.close()
        if self._board is not None:
            self._board.close()


class Board:
    """TensorBoard's files of one stage.

    Args:
        folder: of these files.
        step: iterations done; what a lost run wrote of later ones is taken back.

    Raises:
        DependencyError: tensorboard is not installed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise DependencyError(
                'TensorBoard is not installed; run: pip install "upscale[train]", or give '
                "--set logging.tensorboard=false"
            ) from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, event: Logged | Validated) -> None:
        """Add points to the curves."""
        for name, value in _points(event).items():
            self._writer.add_scalar(name, value, event.step)

    def show(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Add an image, (H, W, 3)."""
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def flush(self) -> None:
        """Have everything in the file."""
        self._writer.flush()

    def close(self) -> None:
        """Write no more."""
        self._writer.close()


def _points(event: Logged | Validated) -> dict[str, float]:
    if isinstance(event, Validated):
        return {
            f"{place}/{metric}": value
            for place, found in event.figures.items()
            for metric, value in found.items()
        }
    return {
        **{f"loss/{name}": value for name, value in event.losses.items()},
        "rate/learning": event.learning_rate,
        "rate/images a second": event.images_per_second,
        **{f"time/{name}": value for name, value in event.shares.items()},
    }
