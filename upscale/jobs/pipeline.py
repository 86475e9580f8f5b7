"""Run the steps before and after a slow step in threads, with few items in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Queue
from time import perf_counter
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class WaitTimes:
    """Time that the slow step of a pipeline has waited.

    Attributes:
        for_input: Seconds spent waiting for the next item.
        for_output: Seconds spent waiting for room in the output queue.
    """

    for_input: float = 0.0
    for_output: float = 0.0


class _End:
    """Marks the end of a queue, with the error that caused it, if any."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


@contextmanager
def read_ahead(
    items: Iterable[T], depth: int, waits: WaitTimes | None = None
) -> Generator[Iterator[T]]:
    """Iterate in a thread, ahead of the consumer; a context manager that yields the items.

    An error of the iterable is raised to the consumer. At the end of the block, the thread stops
    after its current item.

    Args:
        items: Iterable to read.
        depth: Maximum number of queued items.
        waits: Wait times to which the consumer's waiting is added.
    """
    queue: Queue[T | _End] = Queue(depth)
    stopped = threading.Event()

    def walk() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                queue.put(item)
                if stopped.is_set():
                    break
        except BaseException as raised:  # re-raised in the consumer
            error = raised
        queue.put(_End(error))

    def consume() -> Iterator[T]:
        while True:
            start = perf_counter()
            item = queue.get()
            if waits is not None:
                waits.for_input += perf_counter() - start
            if isinstance(item, _End):
                queue.put(item)  # for a second iteration
                if item.error is not None:
                    raise item.error
                return
            yield item

    thread = threading.Thread(target=walk, name="upscale-read")
    thread.start()
    try:
        yield consume()
    finally:
        stopped.set()
        while thread.is_alive():  # make room, because the thread may wait to put an item
            while not queue.empty():
                queue.get()
            thread.join(0.05)


class WriteBehind(Generic[T]):
    """Process items in order in a thread.

    Use it as a context manager, which waits for all items at the end, even if the block fails.

    Args:
        process: Function that is called with each item.
        depth: Maximum number of queued items.
        waits: Wait times to which the producer's waiting is added.
    """

    def __init__(
        self, process: Callable[[T], None], depth: int, waits: WaitTimes | None = None
    ) -> None:
        self._process = process
        self._queue: Queue[T | _End] = Queue(depth)
        self._waits = waits or WaitTimes()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="upscale-write")

    def __enter__(self) -> WriteBehind[T]:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._queue.put(_End())
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def put(self, item: T) -> None:
        """Queue an item.

        Raises:
            BaseException: The error of an earlier item.
        """
        if self._error is not None:
            raise self._error
        start = perf_counter()
        self._queue.put(item)
        self._waits.for_output += perf_counter() - start

    def _run(self) -> None:
        while not isinstance(item := self._queue.get(), _End):
            if self._error is not None:
                continue
            try:
                self._process(item)
            except BaseException as error:  # re-raised in the producer
                self._error = error
