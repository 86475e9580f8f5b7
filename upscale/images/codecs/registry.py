"""Registry of image formats: each module in this folder registers the codec of one format.

A format is added by one module that calls `register`. Reading, writing, detection, suffixes,
`--format` and the checks of what a format can hold all use this registry. The modules in this
folder are imported at the first use.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import BinaryIO, Literal

from upscale.images.codecs.base import Header, Raster, StoredFrame
from upscale.images.encoding import Encoding, ResolvedEncoding
from upscale.images.image import Image, ImageSequence, Metadata

SNIFF_BYTES = 64
"""Number of bytes at the start of a file that a codec's `sniff` receives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """Properties of a format that can be written.

    Attributes:
        depth: Largest number of bits per sample: 8, 10, 12, 16, or 32 for floats.
        grey: Whether grey images are stored as one channel.
        alpha: Levels of transparency: none, two (binary), or all of the depth.
        frames: Kind of several images in one file: none (one), an animation, or pages.
        lossy: Whether pixels are not stored exactly by default.
        has_quality: Whether `quality` has a meaning for a lossy format.
        lossless: Whether pixels can be stored exactly.
        max_side: Longest side in pixels.
        is_linear: Whether values are linear light, and may exceed 1.
        carries: Fields of `Metadata` that are stored.
    """

    depth: int
    grey: bool = True
    alpha: Literal["none", "binary", "full"] = "none"
    frames: Literal["one", "animation", "pages"] = "one"
    lossy: bool = False
    has_quality: bool = True
    lossless: bool = True
    max_side: int = 2**31 - 1
    is_linear: bool = False
    carries: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvage:
    """Functions that read what they can of a damaged file, and say what is missing.

    They are called where the strict functions of the codec fail, and may fail, too.

    Attributes:
        decode: Function that decodes the image, or the first frame or page.
        read_header: Function that reads everything except the pixels; None uses the strict one.
        decode_frames: Function that yields the frames or pages; None uses the strict one. A frame
            that cannot be decoded is left out.
    """

    decode: Callable[[BinaryIO], Raster]
    read_header: Callable[[BinaryIO], Header] | None = None
    decode_frames: Callable[[BinaryIO], Iterator[StoredFrame]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """Reader and writer of one image format.

    All functions receive a binary file at its start. They may raise any exception on damaged
    content; `MalformedError` and `UnsupportedError` provide the reason.

    Attributes:
        name: Name in options and recipes, for example `jpeg`; also accepted as a suffix.
        label: Name in messages, for example `JPEG`.
        suffixes: File name suffixes without a dot, in lower case; the first is used for new files.
        read_header: Function that reads everything except the pixels.
        decode: Function that decodes the pixels of the image, or of the first frame or page.
        sniff: Function that detects the format from the first `SNIFF_BYTES` bytes; None where only
            the suffix identifies it.
        read_shape: Faster `read_header` that need only return size and orientation.
        decode_frames: Function that yields the frames or pages.
        salvage: Functions for damaged files; None where only whole files can be decoded.
        foreign_suffixes: Suffixes among `suffixes` that must not be used for new files.
        traits: Properties of written files; None for formats that are only read.
        encode: Function that writes an image; pixels are in the depth of the traits.
        encode_sequence: Function that writes an animation or pages.
        check_size: Function of (width, height) that returns why a size is impossible, or None.
        oversized: Function that returns the fields of `Metadata` too large for a file.
        remarks: Function that returns what an encoding changes of an image, one clause each; it
            raises `DependencyError` if the encoding needs a package that is not installed.
        reads_more: Whether files may hold what cannot be written; headers then say so.
        rank: Position in lists of formats; lower comes first.
    """

    name: str
    label: str
    suffixes: tuple[str, ...]
    read_header: Callable[[BinaryIO], Header]
    decode: Callable[[BinaryIO], Raster]
    sniff: Callable[[bytes], bool] | None = None
    read_shape: Callable[[BinaryIO], Header] | None = None
    decode_frames: Callable[[BinaryIO], Iterator[StoredFrame]] | None = None
    salvage: Salvage | None = None
    foreign_suffixes: tuple[str, ...] = ()
    traits: Traits | None = None
    encode: Callable[[Image, BinaryIO, ResolvedEncoding], None] | None = None
    encode_sequence: Callable[[ImageSequence, BinaryIO, Encoding], None] | None = None
    check_size: Callable[[int, int], str | None] | None = None
    oversized: Callable[[Metadata], Iterable[str]] | None = None
    remarks: Callable[[Image, ResolvedEncoding], tuple[str, ...]] | None = None
    reads_more: bool = False
    rank: int = 100


_codecs: dict[str, Codec] = {}
_lock = threading.Lock()


def register(codec: Codec) -> None:
    """Add a format, or replace the codec of the same name.

    Args:
        codec: The codec.

    Raises:
        ValueError: It has traits without an encoder, or a suffix of another format.
    """
    if (codec.traits is None) != (codec.encode is None):
        raise ValueError(f"{codec.name}: give both traits and encode, or neither")
    with _lock:
        for other in _codecs.values():
            common = set(codec.suffixes) & set(other.suffixes)
            if other.name != codec.name and common:
                raise ValueError(f"{codec.name}: .{min(common)} is a suffix of {other.name}")
        _codecs[codec.name] = codec


def unregister(name: str) -> None:
    """Remove a format.

    Args:
        name: Name of the format.

    Raises:
        KeyError: There is no format of that name.
    """
    with _lock:
        del _codecs[name]


def codecs() -> Mapping[str, Codec]:
    """Return all codecs by name, in the order of their rank."""
    _import_all()
    with _lock:
        return dict(sorted(_codecs.items(), key=lambda item: item[1].rank))


@cache
def _import_all() -> None:
    """Import all modules of this folder, which register themselves.

    The lock must not be held meanwhile: another thread may be importing one of them, and waits for
    the lock in `register`.
    """
    package = importlib.import_module(__package__ or "")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)


def starts_with(*signatures: bytes) -> Callable[[bytes], bool]:
    r"""Return a function that detects a format by the first bytes of its files.

    Args:
        signatures: Alternatives.

    Example:
        >>> starts_with(b"GIF87a", b"GIF89a")(b"GIF89a\x10\x00")
        True
    """
    return lambda start: start.startswith(signatures)
