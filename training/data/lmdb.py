"""LMDBs as BasicSR keeps pictures in them: PNG files under keys, and `meta_info.txt` beside."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from training.data.index import read_index
from upscale.errors import DependencyError, PictureError
from upscale.pictures.names import shown

_DATA = "data.mdb"
_INDEX = "meta_info.txt"
_SUFFIX = ".png"
"""Of every name in the index, whatever the picture's name was; the key has none."""


def is_lmdb(path: Path) -> bool:
    """Whether a folder is an LMDB."""
    return (path / _DATA).is_file()


def read_keys(path: Path) -> list[str]:
    """The keys of all pictures.

    Raises:
        TrainingError: `meta_info.txt` is not there, or names nothing.
    """
    return [line.name.removesuffix(_SUFFIX) for line in read_index(path / _INDEX)]


def read_value(path: Path, key: str) -> bytes:
    """The file under a key.

    The LMDB is opened anew each time, which costs 50 microseconds: one that is held open may be
    shared neither with other processes nor with another reader in this one.

    Raises:
        PictureError: There is none, or the LMDB cannot be read.
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
        raise PictureError(f"{shown(path)}: cannot be read ({error})") from error
    if value is None:
        raise PictureError(f"{shown(path)}: holds no {key}; make it again")
    return value


def _library() -> Any:  # noqa: ANN401 -- it has no types
    try:
        return importlib.import_module("lmdb")
    except ImportError as error:
        raise DependencyError('to use an LMDB, run: pip install "upscale[train]"') from error
