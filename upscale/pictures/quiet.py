"""Silence for libraries that talk to standard error about files that they refuse anyway."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import cv2


class _Hush:
    """Switches that belong to the whole process: the first user sets them, the last resets them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._undo = ExitStack()

    def enter(self) -> None:
        """Be quiet from now on."""
        with self._lock:
            if self._users == 0:
                log = cv2.utils.logging
                self._undo.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                self._undo.callback(log.setLogLevel, log.getLogLevel())
                log.setLogLevel(log.LOG_LEVEL_SILENT)
            self._users += 1

    def leave(self) -> None:
        """Be as before, when nobody else needs the quiet."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self._undo.close()


_hush = _Hush()


@contextmanager
def quiet() -> Generator[None]:
    """Keep Python warnings and OpenCV's log off standard error, in any number of threads."""
    _hush.enter()
    try:
        yield
    finally:
        _hush.leave()
