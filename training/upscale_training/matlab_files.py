"""Read matrices from MATLAB's MAT files of version 5, which are untrusted.

The format is described in "MAT-File Format", The MathWorks. Only numeric matrices are read: no
cells, structures, sparse or complex matrices, and no files of version 7.3, which are HDF5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from math import prod

import numpy as np
from numpy.typing import NDArray

MAGIC = b"MATLAB 5.0 MAT-file"

_HEADER = 128
_BYTE_ORDERS = {b"IM": "<", b"MI": ">"}
_MATRIX, _COMPRESSED = 14, 15
_CODES = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
"""Types of numbers in a file, as NumPy names them."""
_NUMERIC = range(6, 16)
"""Classes of arrays that consist of numbers."""
_COMPLEX = 0x0800
_LARGEST = 1 << 26
"""Bytes that compressed data may expand to."""


def read_matrices(content: bytes) -> dict[str, NDArray[np.float64]]:
    """Return the numeric matrices of a MAT file by name.

    Args:
        content: Content of the file.

    Raises:
        ValueError: The content is not a MAT file of version 5, or is damaged.

    Example:
        >>> read_matrices(b"something else")
        Traceback (most recent call last):
        ValueError: is not a MAT file of version 5
    """
    order = _BYTE_ORDERS.get(content[126:_HEADER])
    if not content.startswith(MAGIC) or order is None:
        raise ValueError("is not a MAT file of version 5")
    try:
        return dict(_matrices(content[_HEADER:], order))
    except (struct.error, zlib.error, UnicodeDecodeError) as error:
        raise ValueError("is damaged") from error


def _matrices(data: bytes, order: str) -> Iterator[tuple[str, NDArray[np.float64]]]:
    for kind, body in _elements(data, order):
        if kind == _COMPRESSED:
            yield from _matrices(_expanded(body), order)
        elif kind == _MATRIX and (named := _numeric(body, order)) is not None:
            yield named


def _expanded(body: bytes) -> bytes:
    decoder = zlib.decompressobj()
    data = decoder.decompress(body, _LARGEST)
    if decoder.unconsumed_tail:
        raise ValueError(f"expands to more than {_LARGEST >> 20} MB")
    return data


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the content of each element of a sequence."""
    place = 0
    while place < len(data):
        (first,) = struct.unpack_from(f"{order}I", data, place)
        if first >> 16:  # a small element: type, size and content in 8 bytes
            kind, size, start, end = first & 0xFFFF, first >> 16, place + 4, place + 8
        else:
            kind, size = struct.unpack_from(f"{order}2I", data, place)
            start = place + 8
            padding = 0 if kind == _COMPRESSED else -size % 8
            end = start + size + padding
        if start + size > len(data):
            raise ValueError("is cut off")
        yield kind, data[start : start + size]
        place = end


def _numeric(body: bytes, order: str) -> tuple[str, NDArray[np.float64]] | None:
    """Read the body of a matrix; None if it does not consist of real numbers."""
    parts = list(_elements(body, order))
    if len(parts) < 4:
        return None
    (_, flags), (_, dimensions), (_, name), (code, values) = parts[:4]
    word = struct.unpack_from(f"{order}I", flags)[0]
    if word & 0xFF not in _NUMERIC or word & _COMPLEX or code not in _CODES:
        return None
    shape = np.frombuffer(dimensions, f"{order}i4").tolist()
    numbers = np.frombuffer(values, f"{order}{_CODES[code]}").astype(np.float64)
    if min(shape, default=-1) < 0 or prod(shape) != numbers.size:
        raise ValueError("is damaged")
    return name.decode("ascii"), numbers.reshape(shape, order="F")
