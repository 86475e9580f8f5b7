"""Hold a million names in a few arrays, which processes can share."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Move = Callable[[NDArray[Any]], Any]
"""Copies an array to memory that other processes can map; returns something like an array."""


@dataclass(frozen=True, slots=True, eq=False)
class PackedNames:
    """A sequence of names: 8 bytes for each, besides its characters.

    As Python objects, they would need about ten times as much, and again in each worker process.

    Attributes:
        characters: Array of shape (B,), uint8: all names in UTF-8, one after the other.
        ends: Array of shape (N,), int64: position behind the last byte of each name.

    Example:
        >>> names = PackedNames.of(["a.png", "sub/b.png"])
        >>> names[1], len(names)
        ('sub/b.png', 2)
    """

    characters: Any
    ends: Any

    @classmethod
    def of(cls, names: Iterable[str]) -> PackedNames:
        """Pack names."""
        characters, ends = bytearray(), array("q")
        for name in names:
            characters += name.encode("utf-8", "surrogateescape")
            ends.append(len(characters))
        return cls(np.array(characters, np.uint8), np.array(ends, np.int64))

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        """Return a name; the index must not be negative."""
        start = int(self.ends[index - 1]) if index else 0
        name = np.asarray(self.characters[start : int(self.ends[index])])
        return name.tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        """Yield all names."""
        return (self[index] for index in range(len(self)))

    def moved(self, move: Move) -> PackedNames:
        """Return the names with their arrays in other memory."""
        return PackedNames(move(self.characters), move(self.ends))
