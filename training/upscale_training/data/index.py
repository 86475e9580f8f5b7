"""Lists of images: those of folders, and those in index files of BasicSR and Real-ESRGAN.

A line of an index is `name (height,width,channels)`, a plain `name`, or for pairs `HR name, LR
name`; names are relative to the folder of the data set.
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
"""Error handler that keeps names that are not UTF-8 unchanged."""


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """An image of an index.

    Attributes:
        name: Name relative to the folder of the data set.
        size: (width, height) in pixels, or None if unknown.
        lr: Name of the LR image relative to the folder of LR images, or None.

    Example:
        >>> IndexEntry.parse("photos/1.png (480,320,3)")
        IndexEntry(name='photos/1.png', size=(320, 480), lr=None)
        >>> print(IndexEntry("1.png", lr="1x4.png"))
        1.png, 1x4.png
    """

    name: str
    size: tuple[int, int] | None = None
    lr: str | None = None

    @classmethod
    def parse(cls, text: str) -> IndexEntry:
        """Parse a line without its line break."""
        match = _SHAPE.fullmatch(text)
        if match:
            return cls(match["name"], (int(match["width"]), int(match["height"])))
        name, _, lr = text.partition(_BETWEEN)
        return cls(name, lr=lr) if lr else cls(text)

    def __str__(self) -> str:
        if self.lr is not None:
            return f"{self.name}{_BETWEEN}{self.lr}"
        return self.name if self.size is None else f"{self.name} ({self.size[1]},{self.size[0]},3)"


def read_index(path: Path) -> tuple[IndexEntry, ...]:
    r"""Read an index of `upscale dataset`, or a `meta_info` file of BasicSR.

    Args:
        path: Path of the file.

    Raises:
        TrainingError: The file cannot be read, or is empty.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("index.txt").write_text("1.png (480,320,3)\n2.png\n")
        >>> [entry.name for entry in read_index(Path("index.txt"))]
        ['1.png', '2.png']
    """
    try:
        text = path.read_text(_ENCODING, _ERRORS)
    except OSError as error:
        raise TrainingError(f"{printable(path)}: cannot be read ({one_line(error)})") from error
    lines = tuple(IndexEntry.parse(line.strip()) for line in text.split("\n") if line.strip())
    if not lines:
        raise TrainingError(f"{printable(path)}: lists no images; write one name per line")
    return lines


def write_index(path: Path, lines: Iterable[IndexEntry], *, overwrite: bool = False) -> None:
    r"""Write an index atomically.

    Args:
        path: Path of the file.
        lines: Entries of the index.
        overwrite: Whether to replace an existing file.

    Raises:
        OutputError: The file exists, or cannot be written.

    Example:
        >>> from pathlib import Path
        >>> write_index(Path("written.txt"), [IndexEntry("1.png", size=(320, 480))])
        >>> Path("written.txt").read_text()
        '1.png (480,320,3)\n'
    """
    publish_text(path, "".join(f"{line}\n" for line in lines), overwrite=overwrite)


def check_name(name: str) -> None:
    """Raise an error for a name that an index cannot contain, such as one with a line break.

    Raises:
        ImageError: The name would be parsed as something else.
    """
    if IndexEntry.parse(name) != IndexEntry(name) or "\n" in name or name != name.strip():
        raise ImageError(f"{printable(Path(name))}: an index cannot contain this name; rename it")


def publish_text(path: Path, text: str, *, overwrite: bool = False) -> None:
    """Write a text file atomically; names that are not UTF-8 stay unchanged.

    Raises:
        OutputError: The file exists, or cannot be written.
    """

    def write(file: BinaryIO) -> None:
        file.write(text.encode(_ENCODING, _ERRORS))

    write_atomically(path, write, overwrite=overwrite)


def images_below(folder: Path) -> list[str]:
    """Return the images of a folder and its subfolders as sorted relative names with `/`.

    Files without the suffix of an image format and names that start with a dot are ignored. Links
    to folders are followed, but no folder is entered twice.

    Args:
        folder: Path of the folder.

    Raises:
        TrainingError: The path is no folder, or a folder in it cannot be read.

    Example:
        >>> from pathlib import Path
        >>> Path("images/sub").mkdir(parents=True)
        >>> for name in ("images/b.png", "images/sub/a.jpg", "images/notes.txt"):
        ...     Path(name).touch()
        >>> images_below(Path("images"))
        ['b.png', 'sub/a.jpg']
    """

    def fail(error: OSError) -> None:
        name = printable(Path(error.filename))
        raise TrainingError(f"{name}: cannot be read ({one_line(error)})") from error

    images: list[str] = []
    entered: set[str] = set()
    for parent, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(parent)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(parent).relative_to(folder)
        images += [
            (relative / name).as_posix()
            for name in names
            if not name.startswith(".") and is_image_name(Path(name))
        ]
    return sorted(images)


def stem_of(name: str) -> str:
    """Return a relative name without its last suffix."""
    return str(PurePosixPath(name).with_suffix(""))
