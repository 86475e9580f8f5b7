"""Interrupts that wait until an iteration is complete."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self

from upscale.interrupts import interrupt_numbers, raises_interrupt


def ignore_worker_exits() -> None:
    """Make the exit of a data loader worker raise an error only where its batch is expected.

    Torch would raise an error at any point of this process, for example during a step or a save.
    Call this after the first batch.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class Interrupts:
    """Records the first signal that would raise KeyboardInterrupt; a second one raises it.

    Signals interrupt only the main thread, so nothing is recorded in other threads.

    Attributes:
        requested: Whether an interrupt was requested.
    """

    def __init__(self) -> None:
        self.requested = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            numbers = filter(raises_interrupt, interrupt_numbers())
            self._handlers = {number: signal.getsignal(number) for number in numbers}
        for number in self._handlers:
            signal.signal(number, self._record)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _record(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
