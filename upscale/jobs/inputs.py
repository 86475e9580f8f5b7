"""Inputs: files, folders and streams as the user named them."""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from upscale.errors import ImageError, UpscaleError, VideoError
from upscale.files.identity import file_key
from upscale.files.printable import printable, shell_word
from upscale.files.video_files import PROBE_BYTES, is_video_content, is_video_name
from upscale.images import (
    SNIFF_BYTES,
    UNNAMED,
    ImageSequence,
    first_suffix,
    format_named,
    is_image_name,
    is_spelling,
    read_file,
    sniff,
    suffix_of,
)

STANDARD_STREAM = "-"
FALLBACK_FORMAT = "png"
"""Format that supports every size and depth, and transparency."""

DEFAULT_MAX_INPUT = 1 << 30
"""Most bytes that are read from standard input or a pipe by default."""

_CHUNK_BYTES = 1 << 20

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_MOVING_FORMATS = ("gif", "png", "webp", "avif", "jxl")
"""Image formats that can hold animations, which FFmpeg reads as videos."""


@dataclass(frozen=True, slots=True)
class Source:
    """One input image or video.

    Attributes:
        label: Name as the user gave it, or path below a folder that the user gave.
        data: Path of the file, or the content of standard input or a pipe.
        folder: Folder of the file relative to the folder that the user gave.
    """

    label: str
    data: Path | bytes
    folder: Path = Path()

    @property
    def stem(self) -> str:
        """The file name without its suffix."""
        return "stdin" if self.label == STANDARD_STREAM else Path(self.label).stem

    @property
    def suffix(self) -> str:
        """The suffix without its dot; that of the format if the name has no suffix."""
        suffix = Path(self.label).suffix[1:]
        return suffix or first_suffix(own_format(self) or FALLBACK_FORMAT)

    @property
    def parent(self) -> str:
        """The name of the containing folder; for a stream, of the current folder."""
        # Unlike Path.resolve, abspath does not follow links.
        return Path(os.path.abspath(self.label)).parent.name  # noqa: PTH100

    def is_same(self, other: Source) -> bool:
        """Whether both sources are the same file."""
        if isinstance(self.data, bytes) or isinstance(other.data, bytes):
            return self.data is other.data
        return self.data == other.data or file_key(self.data) == file_key(other.data)


class Finder:
    """Search for the sources that the user's arguments name.

    Args:
        recursive: Also search subfolders.
        output: Folder that is not searched: that of the outputs, or of the references.
        max_input: Most bytes that are read from a pipe.
        accepts: Function that says by its name whether a file in a folder is a source.

    Attributes:
        ignored: Number of files in folders that are not sources.
        failures: Errors of folders that cannot be read.
    """

    def __init__(
        self,
        recursive: bool,
        output: Path | None,
        max_input: int = DEFAULT_MAX_INPUT,
        accepts: Callable[[Path], bool] = is_image_name,
    ) -> None:
        self._recursive = recursive
        self._accepts = accepts
        self._max_input = max_input
        self._output = None if output is None else os.path.realpath(output)
        self.ignored = 0
        self.failures: list[ImageError] = []

    def find(self, name: str, stdin: Callable[[], bytes]) -> Iterator[Source]:
        """Yield the sources of one argument, sorted by name.

        Args:
            name: File, folder, or `-` for standard input.
            stdin: Function that reads all of standard input; called for `-` only.

        Raises:
            ImageError: A pipe contains more than the limit.
        """
        if name == STANDARD_STREAM:
            yield Source(STANDARD_STREAM, stdin())
        elif Path(name).is_dir():
            yield from self._walk(Path(name))
        elif Path(name).is_fifo():  # can be read only once
            with Path(name).open("rb") as pipe:
                yield Source(name, read_stream(name, pipe, self._max_input))
        else:
            yield Source(name, Path(name))

    def _walk(self, root: Path) -> Iterator[Source]:
        for folder, subfolders, files in os.walk(root, onerror=self._record_failure):
            here = Path(folder)
            subfolders[:] = sorted(name for name in subfolders if self._is_searched(here / name))
            for name in sorted(files):
                path = here / name
                if name.startswith(".") or not self._accepts(path) or _is_special(path):
                    self.ignored += 1
                else:
                    yield Source(str(path), path, here.relative_to(root))

    def _is_searched(self, folder: Path) -> bool:
        """Whether to search a subfolder: hidden folders and the output folder are not searched.

        os.walk does not follow links to folders, which could form loops.
        """
        if not self._recursive or folder.name.startswith("."):
            return False
        return os.path.realpath(folder) != self._output

    def _record_failure(self, error: OSError) -> None:
        self.failures.append(ImageError(f"{printable(error.filename)}: {error.strerror}"))


def read_stream(name: str, stream: BinaryIO, limit: int = DEFAULT_MAX_INPUT) -> bytes:
    """Read all of standard input or a pipe, which may have no end.

    Args:
        name: Name for messages.
        stream: The stream.
        limit: Most bytes that are read.

    Raises:
        ImageError: The stream contains more.

    Example:
        >>> import io
        >>> read_stream("-", io.BytesIO(b"content"))
        b'content'
    """
    content = io.BytesIO()
    while chunk := stream.read(min(_CHUNK_BYTES, limit + 1 - content.tell())):
        content.write(chunk)
        if content.tell() > limit:
            raise ImageError(
                f"{printable(name)}: is larger than {limit} bytes: pass a higher --max-input if "
                "that is what you want"
            )
    return content.getvalue()


def is_address(name: str) -> bool:
    """Return whether an argument is an address such as `https://example.com/a.jpg`.

    Example:
        >>> is_address("https://example.com/a.jpg"), is_address("C:/photos/a.jpg")
        (True, False)
    """
    return _ADDRESS.match(name) is not None


def reject_address(name: str) -> None:
    """Reject an address; nothing is fetched from the internet.

    Raises:
        ImageError: The name is an address.
    """
    if is_address(name):
        raise ImageError(f"{printable(name)}: addresses are not fetched; download the file first")


def named(label: str, message: str) -> str:
    """Return the error message of a stream with its name in place of "the image"."""
    return (
        f"{printable(label)}{message.removeprefix(UNNAMED)}"
        if message.startswith(UNNAMED)
        else message
    )


def unreadable(source: Source, error: ImageError, output: str = "OUT.mp4") -> ImageError:
    """Return the error of a source that cannot be read as an image, with the best advice.

    Args:
        source: The source.
        error: Error of the attempt to read it.
        output: Name of the output in a command that is suggested.
    """
    name = printable(source.label)
    if isinstance(source.data, bytes):
        if _is_video(source.data[:PROBE_BYTES], Path()):
            return ImageError(f"{name}: is a video; run: upscale video - {output}")
        return type(error)(named(source.label, str(error)))
    if not source.data.exists():
        is_pattern = any(char in source.label for char in "*?")
        return ImageError(f"{name}: matches no file") if is_pattern else error
    if is_video(source.data):
        command = f"upscale video {shell_word(source.label)} {output}"
        return ImageError(f"{name}: is a video; run: {command}")
    return error


def is_video(path: Path) -> bool:
    """Return whether a file is a video and not an image, by its content and its suffix."""
    return _is_video(_first_bytes(path), path)


def _is_video(start: bytes, path: Path) -> bool:
    if not start or sniff(start[:SNIFF_BYTES]):
        return False
    return is_video_content(start) or is_video_name(path)


def reject_image(path: Path) -> None:
    """Reject a still image where a video is expected.

    Raises:
        VideoError: The file is an image.
    """
    format = sniff(_first_bytes(path)[:SNIFF_BYTES])
    if format is None or (format in _MOVING_FORMATS and _is_moving(path)):
        return
    raise VideoError(f"{printable(path)}: is an image; run: upscale {shell_word(path)}")


def _is_moving(path: Path) -> bool:
    """Whether a file holds an animation, or might."""
    try:
        return isinstance(read_file(path), ImageSequence)
    except UpscaleError:
        return True


def _first_bytes(path: Path) -> bytes:
    """Return the start of a regular file; empty if it cannot be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(PROBE_BYTES)
    except OSError:
        return b""


def _is_special(path: Path) -> bool:
    """Whether a file is a pipe, a socket or a device."""
    try:
        return not stat.S_ISREG(path.stat().st_mode)
    except OSError:  # a broken link is not ignored: reading it reports the error
        return False


def read_names(listing: bytes) -> list[str]:
    """Return the names in a list that is separated by NUL if it contains any, else by lines."""
    separator = b"\0" if b"\0" in listing else b"\n"
    names = listing.split(separator)
    if separator == b"\n":
        names = [name.removesuffix(b"\r") for name in names]
    return [os.fsdecode(name) for name in names if name]


def own_format(source: Source) -> str | None:
    """Return the format of an input, detected from its first bytes, else from its suffix."""
    if isinstance(source.data, bytes):
        return sniff(source.data[:SNIFF_BYTES])
    with source.data.open("rb") as file:
        detected = sniff(file.read(SNIFF_BYTES))
    return detected or format_named(source.data.name)


def extension(source: Source, format: str) -> str:
    """Return the suffix to write without its dot, spelled as in the input's name if that fits."""
    if isinstance(source.data, Path) and is_spelling(source.data.suffix, format):
        return source.data.suffix[1:]
    return suffix_of(format)[1:]
