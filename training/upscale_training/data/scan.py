"""A look at every image of a folder: what is damaged, too small, or there twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.errors import ImageError, TrainingError
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale_training.data.index import check_name, publish_text
from upscale_training.data.parallel import each
from upscale_training.data.pixels import Pixels, read_rgb

LOOK_SIDE = 8
"""A look has the square of this in bits."""

_MEDIUM_SIDE = 256
"""On the way to a look; as floats a large image would fill the memory."""

_BLOCK = 64
"""Looks that are compared with all others at a time; bounds the memory."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a file.

    Attributes:
        name: Relative to the folder.
        bytes: Its length.
        modified: When it was changed, in nanoseconds.
        width: Pixels across; None where it is damaged.
        height: Pixels down.
        digest: Of the pixels as upscale_training takes them, whatever the format.
        look: Hexadecimal; of images that look alike few bits differ (see `look_of`).
        error: Why it cannot be read.
    """

    name: str
    bytes: int
    modified: int
    width: int | None = None
    height: int | None = None
    digest: str | None = None
    look: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be said of an image.

    Attributes:
        facts: Of its file.
        small: Whether a side is shorter than wanted.
        same_as: An earlier image with the same pixels.
        looks_like: Earlier images that look alike; a person decides which to keep.
    """

    facts: Facts
    small: bool = False
    same_as: str | None = None
    looks_like: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether upscale_training should see it."""
        return self.facts.error is None and not self.small and self.same_as is None

    @property
    def remark(self) -> str | None:
        """What a person should know of an image that can be read."""
        if self.facts.error is not None:
            return None
        if self.small:
            return f"is only {self.facts.width}x{self.facts.height}"
        if self.same_as is not None:
            return f"is the same image as {self.same_as}"
        return f"looks like {', '.join(self.looks_like)}" if self.looks_like else None

    def record(self) -> dict[str, object]:
        """All of it as plain values."""
        own = {"small": self.small, "same_as": self.same_as, "looks_like": list(self.looks_like)}
        return {**asdict(self.facts), **own, "usable": self.usable}


def scan(
    folder: Path, names: Sequence[str], jobs: int, known: Mapping[str, Facts]
) -> Generator[tuple[str, Facts | Exception]]:
    """Look at images and yield the facts of each; damaged ones have an error in theirs.

    Args:
        folder: Where they are.
        names: Relative to it.
        jobs: Processes.
        known: Facts of an earlier scan; a file that has not changed since is not read again.
    """
    new: list[str] = []
    for name in names:
        facts = known.get(name)
        if facts is not None and _state(folder / name) == (facts.bytes, facts.modified):
            yield name, facts
        else:
            new.append(name)
    yield from each(partial(_look_at, folder), new, jobs)


def judge(facts: Iterable[Facts], smallest: int, near: int) -> list[Verdict]:
    """Compare images with what is wanted and with each other, in the order of their names.

    Args:
        facts: Of all of them.
        smallest: Pixels that the shorter side must have.
        near: Bits of the look that may differ between images that look alike.
    """
    firsts: dict[str, str] = {}
    verdicts: list[Verdict] = []
    for one in sorted(facts, key=lambda facts: facts.name):
        small = one.width is not None and min(one.width, one.height or 0) < smallest
        first = one.name if one.digest is None else firsts.setdefault(one.digest, one.name)
        verdicts.append(Verdict(one, small, first if first != one.name else None))
    usable = [verdict.facts for verdict in verdicts if verdict.usable]
    alike = look_alikes([int(one.look or "0", 16) for one in usable], near)
    earlier = {usable[at].name: tuple(usable[i].name for i in alike[at]) for at in alike}
    return [
        Verdict(one.facts, one.small, one.same_as, earlier.get(one.facts.name, ()))
        for one in verdicts
    ]


def look_of(pixels: Pixels) -> int:
    """A number of 64 bits that says how an image looks from afar.

    The signs of its lowest frequencies against their median (the perceptual hash "pHash"): they
    survive resizing and compression, and differ between different images in about half the bits.
    """
    medium = cv2.resize(pixels, (_MEDIUM_SIDE, _MEDIUM_SIDE), interpolation=cv2.INTER_AREA)
    grey = cv2.cvtColor(medium, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(grey, (4 * LOOK_SIDE, 4 * LOOK_SIDE), interpolation=cv2.INTER_AREA)
    low = np.asarray(cv2.dct(small))[:LOOK_SIDE, :LOOK_SIDE].flatten()
    signs = low > np.median(low[1:])  # the first is the brightness
    return int.from_bytes(np.packbits(signs).tobytes(), "big")


def look_alikes(looks: Sequence[int], near: int) -> dict[int, list[int]]:
    """Which earlier looks each differs from in at most `near` bits; places in the sequence."""
    numbers: NDArray[np.uint64] = np.array(looks, np.uint64)
    found: dict[int, list[int]] = {}
    for top in range(0, len(numbers), _BLOCK):
        block = numbers[top : top + _BLOCK]
        apart = np.bitwise_count(block[:, None] ^ numbers[None, : top + len(block)])
        for row, column in zip(*np.nonzero(apart <= near), strict=True):
            if column < top + row:
                found.setdefault(int(top + row), []).append(int(column))
    return found


class Report:
    """Facts on file: those of an earlier scan are there, new ones are written at once."""

    def __init__(self, path: Path) -> None:
        """Open a report, or begin one.

        Raises:
            TrainingError: The file is something else, or cannot be read.
            OutputError: It cannot be written.
        """
        self._path = path
        self.known = _read_report(path)
        self.finish(map(Verdict, self.known.values()))  # without a line that a killed run had cut

    def add(self, facts: Facts) -> None:
        """Write down the facts of one more image."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(facts)) + "\n")

    def finish(self, verdicts: Iterable[Verdict]) -> None:
        """Write the report anew, a JSON object an image.

        Raises:
            OutputError: It cannot be written.
        """
        lines = (json.dumps(verdict.record()) + "\n" for verdict in verdicts)
        publish_text(self._path, "".join(lines), overwrite=True)


def _read_report(path: Path) -> dict[str, Facts]:
    """The facts of an earlier scan by their names; none where there was none."""
    try:
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
    except (OSError, ValueError) as error:
        raise TrainingError(f"{printable(path)}: cannot be read ({one_line(error)})") from error
    found: dict[str, Facts] = {}
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            facts = Facts(**{field.name: record[field.name] for field in fields(Facts)})
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and found:
                break
            raise TrainingError(
                f"{printable(path)}: line {number} is not of a scan's report; give another name"
            ) from error
        found[facts.name] = facts
    return found


def _look_at(folder: Path, name: str) -> Facts:
    path = folder / name
    length, modified = _state(path)
    try:
        check_name(name)
        pixels = read_rgb(path)
    except ImageError as error:
        return Facts(name, length, modified, error=str(error))
    height, width = pixels.shape[:2]
    digest = hashlib.blake2b(f"{width}x{height}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    look = f"{look_of(pixels):016x}"
    return Facts(name, length, modified, width, height, digest.hexdigest(), look)


def _state(path: Path) -> tuple[int, int]:
    with suppress(OSError):
        state = path.stat()
        return state.st_size, state.st_mtime_ns
    return -1, -1
