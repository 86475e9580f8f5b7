"""Steps of the main thread that an interrupt must not tear apart."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def whole_step() -> Generator[None]:
    """Hold back what would interrupt a short step until it is done.

    Only signals that raise KeyboardInterrupt are held back; elsewhere than in the main thread,
    which alone is interrupted, nothing is to be done.

    Raises:
        KeyboardInterrupt: At the end, when there was an interrupt.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, _: FrameType | None) -> None:
        held.append(number)

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    raising = [n for n in numbers if signal.getsignal(n) is signal.default_int_handler]
    for number in raising:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number in raising:
            signal.signal(number, signal.default_int_handler)
    if held:
        raise KeyboardInterrupt
