"""Read and write LMDBs of images in the format of BasicSR: PNG files and `meta_info.txt`."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from upscale.errors import DependencyError, ImageError, OutputError, TrainingError
from upscale.files.printable import printable
from upscale_training.data.index import IndexEntry, publish_text, read_index, stem_of
from upscale_training.data.parallel import (
    CLAIM_FILE,
    check_apart,
    claim_folder,
    map_parallel,
    split_clashes,
)
from upscale_training.data.pixels import png_of, read_rgb

_DATA = "data.mdb"
_INDEX = "meta_info.txt"
_SUFFIX = ".png"
"""Suffix of every name in the index; keys have none."""

PNG_SIZE = slice(16, 24)
"""Position of width and height in a PNG file."""

_LEVEL = 4
"""Compression level of PNG files, the last value of a line of the index; no reader needs it."""

_COMMIT_BYTES = 64 * 1024 * 1024
_FIRST_MAP_BYTES = 1024 * 1024 * 1024


def is_lmdb(path: Path) -> bool:
    """Return whether a folder is an LMDB."""
    return (path / _DATA).is_file()


def read_keys(path: Path, index: Path | None = None) -> list[str]:
    """Return the keys of all images, or of those in an index.

    Args:
        path: Folder of the LMDB.
        index: Path of the index; None for the LMDB's own `meta_info.txt`, or without that for all
            keys, whatever they are called.

    Raises:
        TrainingError: The index cannot be read, or the LMDB is incomplete.
        DependencyError: The package lmdb is not installed.
    """
    if index is None and (path / _INDEX).is_file():
        index = path / _INDEX
    stored = _stored_keys(path, limit=None if index is None else 1)
    if index is None:
        return stored
    names = [line.name for line in read_index(index)]
    if stored and stored[0].endswith(_SUFFIX):  # keys are names of files
        return names
    return [name.removesuffix(_SUFFIX) for name in names]


def _stored_keys(path: Path, limit: int | None) -> list[str]:
    """Return the first keys of an LMDB, which is checked for completeness."""
    try:
        with _opened(path) as transaction:
            keys = islice(transaction.cursor().iternext(values=False), limit)
            return [key.decode("utf-8", "surrogateescape") for key in keys]
    except ImageError as error:
        raise TrainingError(str(error)) from error


def read_value(path: Path, key: str) -> bytes:
    """Return the file of a key.

    The LMDB is opened each time, which takes 50 microseconds: an open one can be shared neither
    with other processes nor with another reader in the same process.

    Raises:
        ImageError: There is no such key, or the LMDB is incomplete or cannot be read.
        DependencyError: The package lmdb is not installed.
    """
    with _opened(path) as transaction:
        value = transaction.get(key.encode("utf-8", "surrogateescape"))
    if value is None:
        raise ImageError(f"{printable(path)}: contains no {key}; create the LMDB again")
    return value


@contextmanager
def _opened(path: Path) -> Generator[Any]:
    """Open an LMDB for one transaction, after a check that no page is missing."""
    lmdb = _library()
    try:
        with (
            lmdb.open(str(path), readonly=True, lock=False, readahead=False) as environment,
            environment.begin() as transaction,
        ):
            _check_complete(environment, path)
            yield transaction
    except (lmdb.Error, OSError) as error:
        raise ImageError(f"{printable(path)}: cannot be read ({error})") from error


def key_of(name: str) -> str:
    """Return the key of an image: its name without suffix, in characters that BasicSR can read.

    BasicSR reads ASCII up to the first dot or space; other characters become `%` and their code.
    """
    return quote(stem_of(name), errors="surrogateescape").replace(".", "%2E")


def build_lmdb(
    source: Path, names: Sequence[str], target: Path, jobs: int
) -> Generator[tuple[str, bool | Exception]]:
    """Write an LMDB of images, and yield for each if it was added now or by an earlier run.

    Images are stored as training uses them: 8-bit RGB. Until it is complete, the LMDB has another
    name, which starts with a dot and ends in `.upscale`. An interrupted run resumes when it is
    repeated.

    Args:
        source: Folder of the images.
        names: Names of images, relative to the folder.
        target: New folder, whose name ends in `.lmdb`, as BasicSR requires.
        jobs: Number of processes.

    Raises:
        UsageError: The target is inside the source.
        OutputError: The target exists, has another name, or cannot be written.
        TrainingError: No image could be read.
        DependencyError: The package lmdb is not installed.
    """
    if target.suffix != ".lmdb":
        raise OutputError(f"{printable(target)}: must end in .lmdb, as BasicSR requires")
    if target.exists():
        raise OutputError(f"{printable(target)}: exists already; remove it, or use another name")
    check_apart(source, target)
    lmdb = _library()
    unfinished = target.with_name(f".{target.name}.upscale")
    claim_folder(unfinished, source, {"made": "lmdb"})
    unique, clashes = split_clashes(names)
    yield from clashes.items()
    try:
        with _Writer(lmdb, unfinished) as writer:
            present = writer.keys()
            yield from ((name, False) for name in unique if key_of(name) in present)
            missing = [name for name in unique if key_of(name) not in present]
            for name, result in map_parallel(partial(_encode, source), missing, jobs):
                if not isinstance(result, Exception):
                    writer.put(key_of(name), result)
                    yield name, True
                else:
                    yield name, result
            writer.commit()
            lines = writer.index()
    except lmdb.Error as error:
        raise OutputError(f"{printable(target)}: cannot be written ({error})") from error
    if not lines:
        raise TrainingError(f"{printable(source)}: no image could be read, so there is no LMDB")
    publish_text(unfinished / _INDEX, lines, overwrite=True)
    unfinished.rename(target)
    (target / CLAIM_FILE).unlink()


class _Writer:
    """An LMDB that grows as needed, with a buffer of images to write."""

    def __init__(self, lmdb: Any, path: Path) -> None:  # noqa: ANN401
        self._lmdb = lmdb
        self._environment = lmdb.open(str(path), map_size=_FIRST_MAP_BYTES)
        _check_complete(self._environment, path)
        self._waiting: dict[str, bytes] = {}
        self._bytes = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        """Write the buffered images, also after an interrupt."""
        try:
            self.commit()
        finally:
            self._environment.close()

    def keys(self) -> set[str]:
        """Return the keys of all images in the LMDB."""
        with self._environment.begin() as transaction:
            return {key.decode() for key in transaction.cursor().iternext(values=False)}

    def put(self, key: str, value: bytes) -> None:
        """Add an image to the buffer; many are written together, because each commit is slow."""
        self._waiting[key] = value
        self._bytes += len(value)
        if self._bytes >= _COMMIT_BYTES:
            self.commit()

    def commit(self) -> None:
        """Write the buffered images."""
        while self._waiting:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, value in self._waiting.items():
                        transaction.put(key.encode(), value)
            except self._lmdb.MapFullError:
                self._environment.set_mapsize(2 * self._environment.info()["map_size"])
            else:
                self._waiting, self._bytes = {}, 0

    def index(self) -> str:
        """Return the content of `meta_info.txt`."""
        with self._environment.begin(buffers=True) as transaction:
            entries = [
                IndexEntry(bytes(key).decode() + _SUFFIX, struct.unpack(">II", value[PNG_SIZE]))
                for key, value in transaction.cursor()
            ]
        return "".join(f"{entry} {_LEVEL}\n" for entry in entries)


def _check_complete(environment: Any, path: Path) -> None:  # noqa: ANN401
    """Raise an error for a file that was cut, since access to its missing pages ends the process.

    Raises:
        ImageError: Pages are missing at the end.
    """
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    length = (path / _DATA).stat().st_size
    if length < needed:
        raise ImageError(
            f"{printable(path)}: {_DATA} has {length} of {needed} bytes; copy or create it again"
        )


def _encode(source: Path, name: str) -> bytes:
    return png_of(read_rgb(source / name))


def _library() -> Any:  # noqa: ANN401 -- it has no types
    try:
        return importlib.import_module("lmdb")
    except ImportError as error:
        raise DependencyError('LMDBs need lmdb; run: pip install "upscale[train]"') from error
