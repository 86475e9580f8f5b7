"""Lists of images: a folder's, and those in text files as BasicSR and Real-ESRGAN write them.

A line is `name (height,width,channels)`, a plain `name`, or for pairs `good name, bad name`; names
are relative to the folder of the data set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from upscale.errors import ImageError, TrainingError
from upscale.files.atomic import write_atomically
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale.images import is_image_name

_SHAPE = re.compile(r"(?P<name>.+?) \((?P<height>\d+), ?(?P<width>\d+)(?:, ?\d+)?\)(?: \d+)?")
_BETWEEN = ", "
_ENCODING = "utf-8"
_ERRORS = "surrogateescape"
"""Names that are not UTF-8 go through unchanged."""


@dataclass(frozen=True, slots=True)
class Line:
    """An image of an index.

    Attributes:
        name: Relative to the folder of the data set.
        size: (width, height), where the index says it.
        low: The name of its bad partner, relative to the folder of those.
    """

    name: str
    size: tuple[int, int] | None = None
    low: str | None = None

    @classmethod
    def parse(cls, text: str) -> Line:
        """Read a line without its end."""
        match = _SHAPE.fullmatch(text)
        if match:
            return cls(match["name"], (int(match["width"]), int(match["height"])))
        name, _, low = text.partition(_BETWEEN)
        return cls(name, low=low) if low else cls(text)

    def __str__(self) -> str:
        if self.low is not None:
            return f"{self.name}{_BETWEEN}{self.low}"
        return self.name if self.size is None else f"{self.name} ({self.size[1]},{self.size[0]},3)"


def read_index(path: Path) -> tuple[Line, ...]:
    """Read an index, ours or an official `meta_info` file.

    Raises:
        TrainingError: It cannot be read, or names nothing.
    """
    try:
        text = path.read_text(_ENCODING, _ERRORS)
    except OSError as error:
        raise TrainingError(f"{printable(path)}: cannot be read ({one_line(error)})") from error
    lines = tuple(Line.parse(line.strip()) for line in text.split("\n") if line.strip())
    if not lines:
        raise TrainingError(f"{printable(path)}: names no images; give an index, a name a line")
    return lines


def write_index(path: Path, lines: Iterable[Line], *, overwrite: bool = False) -> None:
    """Write an index, whole.

    Raises:
        OutputError: It exists, or cannot be written.
    """
    publish_text(path, "".join(f"{line}\n" for line in lines), overwrite=overwrite)


def check_name(name: str) -> None:
    """Refuse a name that no index could hold, such as one with a line break.

    Raises:
        ImageError: It would be read as something else.
    """
    if Line.parse(name) != Line(name) or "\n" in name or name != name.strip():
        raise ImageError(f"{printable(Path(name))}: cannot stand in an index; rename it")


def publish_text(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write a text file, whole; names that are not UTF-8 go through unchanged.

    Raises:
        OutputError: It exists, or cannot be written.
    """

    def write(file: BinaryIO) -> None:
        file.write(text.encode(_ENCODING, _ERRORS))

    write_atomically(path, write, overwrite=overwrite)


def images_below(folder: Path) -> list[str]:
    """The images in a folder and the folders in it, as relative names with `/`, sorted.

    What has the suffix of no image format, and what starts with a dot, is passed over. Links to
    folders are followed, but no folder is entered twice.

    Raises:
        TrainingError: It is no folder, or a folder in it cannot be read.
    """

    def refuse(error: OSError) -> None:
        name = printable(Path(error.filename))
        raise TrainingError(f"{name}: cannot be read ({one_line(error)})") from error

    found: list[str] = []
    entered: set[str] = set()
    for here, below, names in os.walk(folder, onerror=refuse, followlinks=True):
        place = os.path.realpath(here)
        if place in entered:
            below.clear()
            continue
        entered.add(place)
        below[:] = sorted(name for name in below if not name.startswith("."))
        relative = Path(here).relative_to(folder)
        found += [
            (relative / name).as_posix()
            for name in names
            if not name.startswith(".") and is_image_name(Path(name))
        ]
    return sorted(found)


def stem_of(name: str) -> str:
    """A relative name without its last suffix."""
    return str(PurePosixPath(name).with_suffix(""))
