"""Short steps of the main thread that an interrupt must not split."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from upscale.interrupts import interrupt_numbers, raises_interrupt


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

    handlers = {n: signal.getsignal(n) for n in interrupt_numbers() if raises_interrupt(n)}
    for number in handlers:
        signal.signal(number, record)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])
