"""Signals that end the program: the first one interrupts it, a second one ends it at once."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from upscale.errors import ExitCode

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that interrupt; Windows has not all of them."""

_SHOW_CURSOR = b"\x1b[?25h"
_STDERR = 2


def interrupt_numbers() -> list[int]:
    """Return the numbers of the signals that interrupt."""
    return [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


def install() -> None:
    """Let signals raise KeyboardInterrupt, except those that are ignored, as under nohup."""
    for number in interrupt_numbers():
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, raise_interrupt)


def raises_interrupt(number: int) -> bool:
    """Return whether a signal raises KeyboardInterrupt at present."""
    return signal.getsignal(number) in (raise_interrupt, signal.default_int_handler)


def raise_interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Raise KeyboardInterrupt; signals that follow end the program without cleaning up.

    Temporary files that stay are removed by the next run.

    Args:
        number: The signal.
        frame: The frame that it interrupted.

    Raises:
        KeyboardInterrupt: Always.
    """
    del number, frame
    for each in interrupt_numbers():
        if signal.getsignal(each) is raise_interrupt:
            signal.signal(each, _end_at_once)
    raise KeyboardInterrupt


def _end_at_once(number: int, frame: FrameType | None) -> NoReturn:
    del number, frame
    with suppress(Exception):
        if sys.stderr.isatty():
            os.write(_STDERR, _SHOW_CURSOR)  # progress bars hide it
    os._exit(ExitCode.INTERRUPTED)
