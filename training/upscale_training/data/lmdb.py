"""LMDBs as BasicSR keeps images in them: PNG files under keys, and `meta_info.txt` beside."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from upscale.errors import DependencyError, ImageError, OutputError, TrainingError
from upscale.files.printable import printable
from upscale_training.data.index import Line, publish_text, read_index, stem_of
from upscale_training.data.parallel import CLAIM, check_apart, claim, each, without_clashes
from upscale_training.data.pixels import png_of, read_rgb

_DATA = "data.mdb"
_INDEX = "meta_info.txt"
_SUFFIX = ".png"
"""Of every name in the index, whatever the image's name was; the key has none."""

_PNG_SIZE = slice(16, 24)
"""Where width and height stand in a PNG file."""

_LEVEL = 4
"""Third on a line of the index: how strongly PNG files are packed. No reader needs it."""

_COMMIT_BYTES = 64 * 1024 * 1024
_FIRST_MAP_BYTES = 1024 * 1024 * 1024


def is_lmdb(path: Path) -> bool:
    """Whether a folder is an LMDB."""
    return (path / _DATA).is_file()


def read_keys(path: Path, index: Path | None = None) -> list[str]:
    """The keys of all images, or of those in an index.

    Raises:
        TrainingError: The index, by default its own `meta_info.txt`, cannot be read.
    """
    return [line.name.removesuffix(_SUFFIX) for line in read_index(index or path / _INDEX)]


def read_value(path: Path, key: str) -> bytes:
    """The file under a key.

    The LMDB is opened anew each time, which costs 50 microseconds: one that is held open may be
    shared neither with other processes nor with another reader in this one.

    Raises:
        ImageError: There is none, or the LMDB cannot be read.
        DependencyError: The package lmdb is not installed.
    """
    lmdb = _library()
    try:
        with (
            lmdb.open(str(path), readonly=True, lock=False, readahead=False) as environment,
            environment.begin() as transaction,
        ):
            value = transaction.get(key.encode())
    except lmdb.Error as error:
        raise ImageError(f"{printable(path)}: cannot be read ({error})") from error
    if value is None:
        raise ImageError(f"{printable(path)}: holds no {key}; make it again")
    return value


def key_of(name: str) -> str:
    """The key of an image: its name without suffix, in the characters that BasicSR's reader takes.

    That reader takes ASCII, up to the first dot and space; others become `%` and their number.
    """
    return quote(stem_of(name), errors="surrogateescape").replace(".", "%2E")


def build_lmdb(
    source: Path, names: Sequence[str], target: Path, jobs: int
) -> Generator[tuple[str, bool | Exception]]:
    """Write an LMDB of images, and yield whether each was added now (or by an earlier run).

    The images are kept as upscale_training takes them: 8-bit RGB. Until all are in, the LMDB has another
    name, which starts with a dot and ends in `.upscale`; a run that was ended is repeated to go on.

    Args:
        source: A folder.
        names: Of images in it.
        target: A new folder, whose name ends in `.lmdb`, as BasicSR wants it.
        jobs: Processes.

    Raises:
        UsageError: The target is in the source.
        OutputError: The target exists or has another name, or cannot be written.
        TrainingError: No image could be read.
        DependencyError: The package lmdb is not installed.
    """
    if target.suffix != ".lmdb":
        raise OutputError(f"{printable(target)}: must end in .lmdb, or BasicSR would not read it")
    if target.exists():
        raise OutputError(f"{printable(target)}: exists already; remove it, or give another name")
    check_apart(source, target)
    lmdb = _library()
    unfinished = target.with_name(f".{target.name}.upscale")
    claim(unfinished, source, {"made": "lmdb"})
    own, clashes = without_clashes(names)
    yield from clashes.items()
    try:
        with _Writer(lmdb, unfinished) as writer:
            present = writer.keys()
            yield from ((name, False) for name in own if key_of(name) in present)
            missing = [name for name in own if key_of(name) not in present]
            for name, result in each(partial(_encode, source), missing, jobs):
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
    (target / CLAIM).unlink()


class _Writer:
    """An LMDB that grows as it must, and what waits to be written to it."""

    def __init__(self, lmdb: Any, path: Path) -> None:  # noqa: ANN401
        self._lmdb = lmdb
        self._environment = lmdb.open(str(path), map_size=_FIRST_MAP_BYTES)
        self._waiting: dict[str, bytes] = {}
        self._bytes = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        """Keep also what an interrupt left waiting."""
        try:
            self.commit()
        finally:
            self._environment.close()

    def keys(self) -> set[str]:
        """What is in already."""
        with self._environment.begin() as transaction:
            return {key.decode() for key in transaction.cursor().iternext(values=False)}

    def put(self, key: str, value: bytes) -> None:
        """Add an image; many are written together, because each time waits for the drive."""
        self._waiting[key] = value
        self._bytes += len(value)
        if self._bytes >= _COMMIT_BYTES:
            self.commit()

    def commit(self) -> None:
        """Write what waits."""
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
        """The lines of `meta_info.txt`."""
        with self._environment.begin(buffers=True) as transaction:
            return "".join(
                f"{Line(bytes(key).decode() + _SUFFIX, struct.unpack('>II', value[_PNG_SIZE]))} "
                f"{_LEVEL}\n"
                for key, value in transaction.cursor()
            )


def _encode(source: Path, name: str) -> bytes:
    return png_of(read_rgb(source / name))


def _library() -> Any:  # noqa: ANN401 -- it has no types
    try:
        return importlib.import_module("lmdb")
    except ImportError as error:
        raise DependencyError('to use an LMDB, run: pip install "upscale[train]"') from error
