"""What the preparing commands share: images in several processes, and folders that continue."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import warnings
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import cv2

from upscale.errors import ImageError, OutputError, UsageError
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale.images import remove_stale_temporaries
from upscale_training.data.index import publish_text, stem_of

T = TypeVar("T")
R = TypeVar("R")

CLAIM = ".upscale-dataset.json"
"""In a folder of ours: what it was made from, and how."""

_MOST_PROCESSES = 61
"""That Windows can wait for."""

_IGNORED = ("SIGINT", "SIGHUP")
"""They reach all processes of a terminal; the first one lets the others finish their images."""


def each(
    work: Callable[[T], R], items: Sequence[T], jobs: int
) -> Generator[tuple[T, R | Exception]]:
    """Do the same work on every item and yield the results, or what was raised, in their order.

    An item whose work ends its process, twice, is an error like any other.

    Args:
        work: Can be pickled, and repeated; so can what it returns and raises.
        items: What to work on.
        jobs: Processes; with 1, this one.
    """
    run = partial(_tried, work)
    if jobs == 1:
        yield from ((item, run(item)) for item in items)
        return
    coming = iter(items)
    running: deque[tuple[T, Future[R | Exception]]] = deque()
    pool = _pool(jobs)
    try:
        while True:
            for item in islice(coming, 2 * jobs - len(running)):
                running.append((item, _submitted(pool, run, item)))
            if not running:
                return
            item, future = running.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:
                pool.shutdown()
                result = _alone(run, item)
                pool = _pool(jobs)
                running = deque((other, _submitted(pool, run, other)) for other, _ in running)
            yield item, result
    finally:
        pool.shutdown(cancel_futures=True)


def without_clashes(names: Sequence[str]) -> tuple[list[str], dict[str, ImageError]]:
    """Part names that lead to outputs of their own from those that lead to another's."""
    taken: dict[str, str] = {}
    clashes: dict[str, ImageError] = {}
    for name in names:
        rival = taken.setdefault(stem_of(name), name)
        if rival != name:
            clashes[name] = ImageError(f"{name}: has the same outputs as {rival}; rename it")
    return list(taken.values()), clashes


def check_apart(source: Path, target: Path) -> None:
    """Refuse outputs among the inputs, where the next run would take them for some.

    Raises:
        UsageError: The target is the source, or in it.
    """
    if target.resolve().is_relative_to(source.resolve()):
        raise UsageError(
            f"-o {printable(target)}: lies in {printable(source)}; give a folder beside it"
        )


def claim(folder: Path, source: Path, settings: Mapping[str, object]) -> None:
    """Make a folder for outputs, or take up one that was begun from the same with the same.

    Args:
        folder: For outputs.
        source: The folder of the inputs.
        settings: What the outputs depend on, beside the inputs; plain values.

    Raises:
        OutputError: The folder holds something else, or cannot be made.
    """
    text = json.dumps({"source": str(source.resolve()), **settings}, indent=1)
    for place, _, _ in os.walk(folder):
        remove_stale_temporaries(Path(place))
    try:
        begun = (folder / CLAIM).read_text("utf-8") if (folder / CLAIM).exists() else None
        if begun is None and folder.exists() and any(folder.iterdir()):
            raise OutputError(f"{printable(folder)}: holds other files; give a new folder")
    except OSError as error:
        raise OutputError(f"{printable(folder)}: cannot be read ({one_line(error)})") from error
    if begun is None:
        publish_text(folder / CLAIM, text)
    elif begun != text:
        raise OutputError(
            f"{printable(folder)}: was begun from or with something else ({CLAIM} in it says what); "
            "give another folder, or remove this one"
        )


def _tried(work: Callable[[T], R], item: T) -> R | Exception:
    try:
        return work(item)
    except Exception as error:  # one image's failure, whatever it is, is a result
        return error


def _alone(run: Callable[[T], R | Exception], item: T) -> R | Exception:
    """Work on an item that was there when a process ended; now it is known whether it was it."""
    with _pool(1) as pool:
        try:
            return pool.submit(run, item).result()
        except BrokenProcessPool:
            return ImageError(f"{item}: ended the process that worked on it; take it out")


def _submitted(
    pool: ProcessPoolExecutor, run: Callable[[T], R | Exception], item: T
) -> Future[R | Exception]:
    try:
        return pool.submit(run, item)
    except BrokenProcessPool as error:
        future: Future[R | Exception] = Future()
        future.set_exception(error)
        return future


def _pool(jobs: int) -> ProcessPoolExecutor:
    # A fork would copy locks that threads of this process (progress bars, OpenCV) may hold.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(min(jobs, _MOST_PROCESSES), mp_context=context, initializer=_begin)


def _begin() -> None:
    """Prepare a process of the pool."""
    for name in _IGNORED:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when the one that started it was killed: the pool would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
