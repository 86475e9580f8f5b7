"""Write saved states while training continues.

`StateWriter.start` copies a state to CPU memory, and a thread of each process writes its part into
a folder whose name starts with a dot. `StateWriter.finish` renames the folder when all parts are on
disk. The training loops of all processes call it, so that threads exchange nothing.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import torch
from torch import Tensor

from upscale.errors import CheckpointError, OutputError
from upscale.files.atomic import flush_to_disk, sync_folder
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale_training.loop.distributed import Processes
from upscale_training.loop.state import COMMON, WEIGHTS, SavedState, StateInfo, write_info

WeightsWriter = Callable[[Path, Mapping[str, Tensor]], None]
"""Writes averaged weights to a path."""


@dataclass(frozen=True, slots=True, eq=False)
class StateContent:
    """The tensors and values of a state.

    Attributes:
        weights: The averaged weights.
        common: The part that all processes share.
        own: The part of this process.
    """

    weights: Mapping[str, Tensor]
    common: Mapping[str, Any]
    own: Mapping[str, Any]


class StateWriter:
    """Writes the states of one stage, at most one at a time.

    All processes must call `start` and `finish` together. Leaving the context waits for the thread;
    an interrupt does not.

    Args:
        folder: Folder of the stage's states.
        processes: Processes of the run.
    """

    def __init__(self, folder: Path, processes: Processes) -> None:
        self._folder, self._processes = folder, processes
        self._state: SavedState | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread is None or isinstance(error, KeyboardInterrupt):
            return
        self._thread.join()
        if self._processes.world == 1 and self._error is None:
            self._attempt(self._commit)

    def start(self, info: StateInfo, content: StateContent, write_weights: WeightsWriter) -> None:
        """Copy a state, and start to write it.

        If a state of this step exists (after an interrupt, or after resuming), only its information
        is updated.

        Args:
            info: Information about the state.
            content: Tensors and values, which may change once this returns.
            write_weights: Function that writes the averaged weights, in the first process.

        Raises:
            OutputError: The folder cannot be written; older states are unchanged.
        """
        assert self._state is None, "the state before is finished first"
        self._state = SavedState(self._folder / f"{info.step:08d}", info)
        self._error = None
        exists = self._processes.any(self._state.path.exists())
        if self._processes.first:
            self._attempt(lambda: self._prepare(exists))
        self._processes.wait()
        if exists or self._processes.any(self._error is not None):
            return
        first = self._processes.first
        copies = StateContent(
            to_cpu(content.weights) if first else {},
            to_cpu(content.common) if first else {},
            to_cpu(content.own),
        )
        work = partial(self._write, info, copies, write_weights)
        self._thread = threading.Thread(target=self._attempt, args=(work,), daemon=True)
        self._thread.start()

    def finish(self, *, wait: bool = True) -> SavedState | None:
        """Complete a state whose parts are written, and return it; None if there is none.

        Args:
            wait: Whether to wait for the parts; otherwise the state stays in progress until all of
                them are written.

        Raises:
            OutputError: The state cannot be saved; older states are unchanged.
        """
        if self._state is None:
            return None
        if self._thread is not None:
            if not wait and self._processes.any(self._thread.is_alive()):
                return None
            self._thread.join()
            self._raise_error()
            if self._processes.first:
                self._attempt(self._commit)
        self._raise_error()
        state, self._state, self._thread = self._state, None, None
        return state

    @property
    def _draft(self) -> Path:
        assert self._state is not None, "a state is in progress"
        return self._folder / f".{self._state.path.name}.part"

    def _prepare(self, exists: bool) -> None:
        """Update the information about an existing state, or make the folder of a new one."""
        assert self._state is not None, "a state is in progress"
        if exists:
            write_info(self._state.path, self._state.info)
            return
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir(parents=True)

    def _write(self, info: StateInfo, content: StateContent, write_weights: WeightsWriter) -> None:
        _write_part(self._draft / f"process-{self._processes.rank}.pt", content.own)
        if self._processes.first:
            write_weights(self._draft / WEIGHTS, content.weights)
            _write_part(self._draft / COMMON, content.common)
            write_info(self._draft, info)

    def _commit(self) -> None:
        assert self._state is not None, "a state is in progress"
        sync_folder(self._draft)
        self._draft.rename(self._state.path)
        sync_folder(self._folder)

    def _attempt(self, work: Callable[[], None]) -> None:
        """Do some work, and keep its error for the training loop."""
        try:
            work()
        except BaseException as error:  # a thread has nobody else to tell
            self._error = error

    def _raise_error(self) -> None:
        """Raise the error of any process in all of them."""
        assert self._state is not None, "a state is in progress"
        texts = self._processes.gather(None if self._error is None else one_line(self._error))
        reason = next((text for text in texts if text is not None), None)
        if reason is None:
            return
        path, error = self._state.path, self._error
        if self._processes.first:
            shutil.rmtree(self._draft, ignore_errors=True)
        self._state = self._thread = None
        if error is not None and not isinstance(error, OSError | CheckpointError):
            raise error
        raise OutputError(
            f"{printable(path)}: cannot be saved ({reason}); free disk space and start again to "
            "resume from the previous state"
        ) from error


def to_cpu(value: Any) -> Any:  # noqa: ANN401  # whatever a state contains
    """Return a copy of nested values whose tensors are in CPU memory.

    Tensors of a GPU are copied to pinned memory, all at once.

    Args:
        value: Mappings, lists, tuples, tensors and plain values.

    Example:
        >>> weight = torch.ones(2)
        >>> copy = to_cpu({"weights": [weight]})
        >>> _ = weight.zero_()
        >>> copy
        {'weights': [tensor([1., 1.])]}
    """
    copy = _copied(value)
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return copy


def _copied(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Tensor):
        tensor = value.detach()
        if tensor.device.type != "cuda":
            return tensor.to("cpu", copy=True)
        pinned = torch.empty_like(tensor, device="cpu", pin_memory=True)
        return pinned.copy_(tensor, non_blocking=True)
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        return {key: _copied(each) for key, each in items}
    if isinstance(value, list | tuple):
        return type(value)(map(_copied, cast("list[Any]", value)))
    return value


def _write_part(path: Path, content: Mapping[str, Any]) -> None:
    with path.open("wb") as stream:
        torch.save(content, stream)
        flush_to_disk(stream)
