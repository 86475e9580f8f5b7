"""Work before and behind a slow step, in threads of its own, with little between them in memory."""

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
class Waiting:
    """Seconds that the middle of a pipeline has waited for the one side or the other."""

    for_input: float = 0.0
    for_output: float = 0.0


class _End:
    """Stands behind the last item; carries what ended the work."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


@contextmanager
def read_ahead(
    items: Iterable[T], depth: int, waiting: Waiting | None = None
) -> Generator[Iterator[T]]:
    """Walk items in a thread, up to `depth` of them before they are asked for.

    What walking raises is raised where the items are taken. When the block is left, the thread
    ends after the item that it is at.
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
        except BaseException as raised:  # whatever it is, the other thread shall see it
            error = raised
        queue.put(_End(error))

    def taken() -> Iterator[T]:
        while True:
            began = perf_counter()
            item = queue.get()
            if waiting is not None:
                waiting.for_input += perf_counter() - began
            if isinstance(item, _End):
                queue.put(item)  # for the end of the block, and for another try
                if item.error is not None:
                    raise item.error
                return
            yield item

    thread = threading.Thread(target=walk, name="upscale-read")
    thread.start()
    try:
        yield taken()
    finally:
        stopped.set()
        while thread.is_alive():  # makes room for what it still has to put
            while not queue.empty():
                queue.get()
            thread.join(0.05)


class WriteBehind(Generic[T]):
    """Hands items to a thread that works on them in order, `depth` of them at most on the way.

    As a context manager it waits for all of them at the end, also when the block fails.

    Args:
        work: What is done with each.
        depth: How many may wait.
        waiting: Where the time spent waiting for room is counted.
    """

    def __init__(
        self, work: Callable[[T], None], depth: int, waiting: Waiting | None = None
    ) -> None:
        self._work = work
        self._queue: Queue[T | _End] = Queue(depth)
        self._waiting = waiting or Waiting()
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
        """Hand over an item.

        Raises:
            BaseException: What the work on an earlier one raised.
        """
        if self._error is not None:
            raise self._error
        began = perf_counter()
        self._queue.put(item)
        self._waiting.for_output += perf_counter() - began

    def _run(self) -> None:
        while not isinstance(item := self._queue.get(), _End):
            if self._error is not None:
                continue
            try:
                self._work(item)
            except BaseException as error:  # the other thread shall see it
                self._error = error
