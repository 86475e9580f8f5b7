"""Row chunks: parts of an array that are converted one after another to limit temporary memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_SAMPLES = 4 * 1024 * 1024
"""Largest number of samples in a row chunk, unless a single row has more."""


def row_chunks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Yield slices that cut an array into row chunks from the top.

    Args:
        shape: Shape of the array, rows first.

    Example:
        >>> list(row_chunks((3000, 1000, 3)))
        [slice(0, 1398, None), slice(1398, 2796, None), slice(2796, 4194, None)]
    """
    rows = max(1, CHUNK_SAMPLES // max(1, int(np.prod(shape[1:]))))
    return (slice(top, top + rows) for top in range(0, shape[0], rows))


def looked_up(table: NDArray[Any], samples: NDArray[Any]) -> NDArray[Any]:
    """Return the entry of a table for each sample, in row chunks.

    Args:
        table: One-dimensional array.
        samples: Unsigned integers, indices of the table.

    Raises:
        IndexError: A sample is beyond the end of the table.
    """
    result = np.empty(samples.shape, table.dtype)
    for chunk in row_chunks(samples.shape):
        result[chunk] = table[samples[chunk]]
    return result
