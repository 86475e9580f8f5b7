"""Process images in several processes, and resume interrupted output folders."""

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

CLAIM_FILE = ".upscale-dataset.json"
"""File in an output folder that records the inputs and settings."""

_MOST_PROCESSES = 61
"""Number of processes that Windows can wait for."""

_IGNORED = ("SIGINT", "SIGHUP")
"""Signals that a terminal sends to all processes; workers finish their images first."""


def map_parallel(
    work: Callable[[T], R], items: Sequence[T], jobs: int
) -> Generator[tuple[T, R | Exception]]:
    """Call a function for every item and yield each item with its result or exception, in order.

    An item that ends its process twice gives an error like any other.

    Args:
        work: Function that can be pickled and repeated, as can its results and exceptions.
        items: Items to process.
        jobs: Number of processes; with 1, this process is used.
    """
    run = partial(_result_or_error, work)
    if jobs == 1:
        yield from ((item, run(item)) for item in items)
        return
    waiting = iter(items)
    running: deque[tuple[T, Future[R | Exception]]] = deque()
    pool = _pool(jobs)
    try:
        while True:
            for item in islice(waiting, 2 * jobs - len(running)):
                running.append((item, _submitted(pool, run, item)))
            if not running:
                return
            item, future = running.popleft()
            try:
                result = future.result()
            except BrokenProcessPool:
                pool.shutdown()
                result = _run_alone(run, item)
                pool = _pool(jobs)
                running = deque((other, _submitted(pool, run, other)) for other, _ in running)
            yield item, result
    finally:
        pool.shutdown(cancel_futures=True)


def split_clashes(names: Sequence[str]) -> tuple[list[str], dict[str, ImageError]]:
    """Return the names with unique outputs, and errors for names with the outputs of another."""
    unique: dict[str, str] = {}
    clashes: dict[str, ImageError] = {}
    for name in names:
        other = unique.setdefault(stem_of(name), name)
        if other != name:
            clashes[name] = ImageError(f"{name}: has the same outputs as {other}; rename it")
    return list(unique.values()), clashes


def check_apart(source: Path, target: Path) -> None:
    """Raise an error for outputs among the inputs, which the next run would use as inputs.

    Raises:
        UsageError: The target is the source, or inside it.
    """
    if target.resolve().is_relative_to(source.resolve()):
        raise UsageError(
            f"-o {printable(target)}: is inside {printable(source)}; use a folder outside of it"
        )


def claim_folder(folder: Path, source: Path, settings: Mapping[str, object]) -> None:
    """Create an output folder, or resume one with the same inputs and settings.

    Args:
        folder: Folder of the outputs.
        source: Folder of the inputs.
        settings: Plain values that the outputs depend on, besides the inputs.

    Raises:
        OutputError: The folder contains something else, or cannot be created.
    """
    text = json.dumps({"source": str(source.resolve()), **settings}, indent=1)
    for path, _, _ in os.walk(folder):
        remove_stale_temporaries(Path(path))
    file = folder / CLAIM_FILE
    try:
        existing = file.read_text("utf-8") if file.exists() else None
        if existing is None and folder.exists() and any(folder.iterdir()):
            raise OutputError(f"{printable(folder)}: contains other files; use a new folder")
    except OSError as error:
        raise OutputError(f"{printable(folder)}: cannot be read ({one_line(error)})") from error
    if existing is None:
        publish_text(file, text)
    elif existing != text:
        raise OutputError(
            f"{printable(folder)}: has other inputs or settings (see {CLAIM_FILE} in it); use "
            "another folder, or remove this one"
        )


def map_into_folder(
    work: Callable[[str], R],
    names: Sequence[str],
    source: Path,
    target: Path,
    *,
    settings: Mapping[str, object],
    jobs: int,
) -> Generator[tuple[str, R | Exception]]:
    """Write outputs of images into a claimed folder, and yield the result of each image.

    Names that would give the same output yield an error.

    Args:
        work: Function of a name, which keeps outputs that exist; it must be picklable.
        names: Names of images, relative to the source.
        source: Folder of the images.
        target: New folder, or the folder of an interrupted run.
        settings: Plain values that the outputs depend on, besides the images.
        jobs: Number of processes.

    Raises:
        UsageError: The target is inside the source.
        OutputError: The target contains something else, or cannot be created.
    """
    check_apart(source, target)
    claim_folder(target, source, settings)
    unique, clashes = split_clashes(names)
    yield from clashes.items()
    yield from map_parallel(work, unique, jobs)


def release_folder(folder: Path) -> None:
    """Remove an output folder that got no outputs, so that it can have other settings.

    Args:
        folder: Folder that `claim_folder` created. If it contains anything else, it stays.
    """
    if [path.name for path in folder.iterdir()] == [CLAIM_FILE]:
        (folder / CLAIM_FILE).unlink()
        folder.rmdir()


def _result_or_error(work: Callable[[T], R], item: T) -> R | Exception:
    try:
        return work(item)
    except Exception as error:  # any failure of one image is a result
        return error


def _run_alone(run: Callable[[T], R | Exception], item: T) -> R | Exception:
    """Process an item alone, to find out if it was the one that ended its process."""
    with _pool(1) as pool:
        try:
            return pool.submit(run, item).result()
        except BrokenProcessPool:
            return ImageError(f"{item}: ended the process that read it; remove it")


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
    return ProcessPoolExecutor(min(jobs, _MOST_PROCESSES), mp_context=context, initializer=_prepare)


def _prepare() -> None:
    """Prepare a process of the pool."""
    for name in _IGNORED:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    cv2.setNumThreads(1)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exit when the parent process was killed: the pool would wait forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
