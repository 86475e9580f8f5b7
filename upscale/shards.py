"""Shards: equal parts of some work, of which each process or machine of a job array does one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from upscale.errors import UsageError

_SHARD = re.compile(r"(\d{1,6})/(\d{1,6})")
_ID, _COUNT, _MIN, _STEP = (f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "STEP"))


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` parts.

    Attributes:
        number: Number of the part, 1..`count`.
        count: Number of parts, at least 1.
    """

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def has(self, index: int) -> bool:
        """Return whether a piece of work belongs to the part; neighbours belong to different ones.

        Args:
            index: Place of the work among all, from 0.

        Example:
            >>> [Shard(2, 3).has(index) for index in range(6)]
            [False, True, False, False, True, False]
        """
        return index % self.count == self.number - 1

    def span(self, total: int) -> range:
        """Return the places of the part if neighbours stay together.

        Args:
            total: Number of all pieces of work.

        Example:
            >>> Shard(2, 3).span(7)
            range(2, 4)
        """
        return range(total * (self.number - 1) // self.count, total * self.number // self.count)


def parse_shard(label: str, text: str) -> Shard:
    """Return the part that `I/N` names.

    Args:
        label: Name of the option or variable, for the error.
        text: The text.

    Raises:
        UsageError: It is none.

    Example:
        >>> parse_shard("--shard", "3/16")
        Shard(number=3, count=16)
    """
    match = _SHARD.fullmatch(text)
    if match is None:
        raise UsageError(f"{label}: {text!r} is not a shard: use I/N, for example 3/16, or auto")
    number, count = int(match[1]), int(match[2])
    if not 1 <= number <= count:
        raise UsageError(
            f"{label}: {text} does not exist: the shards are 1/{count} to {count}/{count}"
        )
    return Shard(number, count)


def slurm_shard(environ: Mapping[str, str]) -> Shard:
    """Return the part of a task of a Slurm job array.

    Args:
        environ: Environment variables.

    Raises:
        UsageError: This is no such task, or the numbers of the array are no regular sequence.

    Example:
        >>> names = {"ID": "12", "COUNT": "4", "MIN": "10", "STEP": "1"}
        >>> slurm_shard({f"SLURM_ARRAY_TASK_{name}": value for name, value in names.items()})
        Shard(number=3, count=4)
    """
    if _ID not in environ:
        raise UsageError(f"--shard auto: {_ID} is not set; outside a Slurm job array, use I/N")
    number, count = _whole(environ, _ID), _whole(environ, _COUNT)
    first, step = _whole(environ, _MIN, 1), _whole(environ, _STEP, 1)
    place, rest = divmod(number - first, max(step, 1))
    if rest or not 0 <= place < count:
        raise UsageError(
            f"--shard auto: task {number} is not one of {count} tasks from {first} on in steps of "
            f"{step}: use an array without gaps, such as --array=1-{max(count, 1)}"
        )
    return Shard(place + 1, count)


def _whole(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environ.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.isdecimal() or len(text) > 9:
        raise UsageError(f"--shard auto: {name} is {text!r}, not a whole number; use I/N")
    return int(text)
