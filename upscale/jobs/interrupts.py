"""Short steps of the main thread that an interrupt must not split."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def defer_interrupts() -> Generator[None]:
    """Delay interrupts until the block has ended.

    Only signals that raise KeyboardInterrupt are delayed. Outside the main thread, which alone
    receives them, this does nothing.

    Raises:
        KeyboardInterrupt: An interrupt arrived during the block; raised at its end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def record(number: int, _: FrameType | None) -> None:
        received.append(number)

    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    raising = [n for n in numbers if signal.getsignal(n) is signal.default_int_handler]
    for number in raising:
        signal.signal(number, record)
    try:
        yield
    finally:
        for number in raising:
            signal.signal(number, signal.default_int_handler)
    if received:
        raise KeyboardInterrupt
