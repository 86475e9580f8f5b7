"""The inputs: files, folders and streams, as the user named them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from upscale.errors import ImageError
from upscale.images import (
    SNIFF_BYTES,
    format_named,
    is_image_name,
    is_spelling,
    sniff,
    suffix_of,
)

STANDARD_STREAM = "-"
FALLBACK_FORMAT = "png"
"""Holds any size, depth and transparency."""


@dataclass(frozen=True, slots=True)
class Source:
    """One input: `data` is its path, or what standard input or a pipe held."""

    label: str
    data: Path | bytes
    folder: Path = Path()

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return "stdin" if self.label == STANDARD_STREAM else Path(self.label).stem

    @property
    def suffix(self) -> str:
        """The suffix without its dot, that of the format where the name has none."""
        found = Path(self.label).suffix[1:]
        return found or extension(self, own_format(self) or FALLBACK_FORMAT)

    @property
    def parent(self) -> str:
        """The name of the folder it lies in; that of a stream is where the program runs."""
        # unlike Path.resolve it leaves links alone
        return Path(os.path.abspath(self.label)).parent.name  # noqa: PTH100

    def is_same(self, other: Source) -> bool:
        """Whether two names lead to one file."""
        if isinstance(self.data, bytes) or isinstance(other.data, bytes):
            return self.data is other.data
        return self.data == other.data or file_key(self.data) == file_key(other.data)


class Finder:
    """Turns what the user named into sources; counts what it passes over."""

    def __init__(self, recursive: bool, output: Path | None) -> None:
        self._recursive = recursive
        self._output = None if output is None else os.path.realpath(output)
        self.ignored = 0
        self.failures: list[ImageError] = []

    def find(self, name: str, stdin: Callable[[], bytes]) -> Iterator[Source]:
        """Yield the sources of one argument, in the order of their names."""
        if name == STANDARD_STREAM:
            yield Source(STANDARD_STREAM, stdin())
        elif Path(name).is_dir():
            yield from self._walk(Path(name))
        elif Path(name).is_fifo():  # can be read only once
            yield Source(name, Path(name).read_bytes())
        else:
            yield Source(name, Path(name))

    def _walk(self, root: Path) -> Iterator[Source]:
        for folder, below, files in os.walk(root, onerror=self._note):
            here = Path(folder)
            below[:] = sorted(name for name in below if self._enters(here / name))
            for name in sorted(files):
                path = here / name
                if name.startswith(".") or not is_image_name(path) or _is_special(path):
                    self.ignored += 1
                else:
                    yield Source(str(path), path, here.relative_to(root))

    def _enters(self, folder: Path) -> bool:
        """Whether to look into a folder: never into hidden ones, nor into our own output.

        Links to folders are not followed (by os.walk), because they can lead back.
        """
        if not self._recursive or folder.name.startswith("."):
            return False
        return os.path.realpath(folder) != self._output

    def _note(self, error: OSError) -> None:
        self.failures.append(ImageError(f"{error.filename}: {error.strerror}"))


def file_key(path: Path) -> str:
    """Return what two names of one file have in common."""
    return os.path.normcase(os.path.realpath(path))


def _is_special(path: Path) -> bool:
    """Whether a file is a pipe, a socket or a device, which nobody meant by naming its folder."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:  # a link to nothing is not passed over: reading it tells
        return False


def read_names(listing: bytes) -> list[str]:
    """Return the names of a list: ended by NUL where it holds any, else one a line."""
    end = b"\0" if b"\0" in listing else b"\n"
    names = listing.split(end)
    if end == b"\n":
        names = [name.removesuffix(b"\r") for name in names]
    return [os.fsdecode(name) for name in names if name]


def own_format(source: Source) -> str | None:
    """Return the format of an input: by its first bytes, else by its suffix."""
    if isinstance(source.data, bytes):
        return sniff(source.data[:SNIFF_BYTES])
    with source.data.open("rb") as file:
        found = sniff(file.read(SNIFF_BYTES))
    return found or format_named(source.data.name)


def extension(source: Source, format: str) -> str:
    """Return the suffix to write, without its dot: the input's own spelling where it fits."""
    if isinstance(source.data, Path) and is_spelling(source.data.suffix, format):
        return source.data.suffix[1:]
    return suffix_of(format)[1:]
