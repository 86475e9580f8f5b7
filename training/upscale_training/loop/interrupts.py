"""A wish to end, kept until a step is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Self

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


def leave_readers_to_their_queue() -> None:
    """Have a reading process that ends be noticed where its batch is waited for.

    Torch would raise an error wherever this process is, in the middle of a step or a save. Call it
    after the first batch.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if in_main and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


class Interrupts:
    """Notes the first signal that would raise KeyboardInterrupt; a second one raises it.

    In other threads than the main one, which alone is interrupted, nothing is noted.

    Attributes:
        asked: whether there was one.
    """

    def __init__(self) -> None:
        self.asked = False
        self._held: list[int] = []

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
            self._held = [
                each for each in numbers if signal.getsignal(each) is signal.default_int_handler
            ]
        for number in self._held:
            signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._held:
            signal.signal(number, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
