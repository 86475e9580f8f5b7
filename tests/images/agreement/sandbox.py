"""Calls functions in another process, with limits, so that no file harms the machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

MEMORY_BYTES = 4 * 1024**3
FILE_BYTES = 1024**3
SECONDS = 40
_SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "VIPS_CONCURRENCY": "1",
    "VIPS_WARNING": "1",
}


class Refusal(Exception):  # noqa: N818
    """A reader did not read a file; the message is its reason."""


class Sandbox:
    """A process with bounded memory that calls functions; replaced when it dies or takes too long.

    Programs that the functions start have the same limits.
    """

    def __init__(self) -> None:
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def call(self, function: Callable[..., Any], *arguments: object) -> Any:
        """Return what the function returns.

        Raises:
            Refusal: The function raised it or any other exception, crashed, or took too long.
        """
        if self._pipe is None:
            self._start()
        assert self._pipe is not None
        self._pipe.send((function, arguments))
        try:
            if not self._pipe.poll(SECONDS):
                raise Refusal(f"took more than {SECONDS} s")
            succeeded, result = self._pipe.recv()
        except EOFError:
            self.close()
            raise Refusal("crashed") from None
        except Refusal:
            self.close()
            raise
        if not succeeded:
            raise Refusal(result)
        return result

    def close(self) -> None:
        """End the process and the programs that it has started."""
        if self._process is not None and self._process.pid is not None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                self._process.kill()
            self._process.join()
        self._process = self._pipe = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end,), daemon=True)
        self._process.start()
        far_end.close()
        # Its first message says that its process group exists.
        self._pipe.recv()


def _serve(pipe: Connection) -> None:
    """Call functions until the other end of the pipe is closed."""
    os.setpgid(0, 0)
    # Decoders write remarks about damaged files there.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.environ.update(_SETTINGS)
    _limit()
    pipe.send(None)
    while True:
        try:
            function, arguments = pipe.recv()
        except EOFError:
            return
        try:
            answer = (True, function(*arguments))
        except Exception as error:
            answer = (False, " ".join(str(error).split()) or type(error).__name__)
        pipe.send(answer)


def _limit() -> None:
    """Bound memory and the size of files; core dumps are not wanted."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
