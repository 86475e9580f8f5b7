"""Formats: their names, their suffixes, how their files start, and what they can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from upscale.errors import OutputError

Format = Literal["jpeg", "png", "webp", "tiff", "bmp"]

_NAMES: dict[str, Format] = {
    "jpg": "jpeg",
    "jpeg": "jpeg",
    "jpe": "jpeg",
    "jfif": "jpeg",
    "png": "png",
    "webp": "webp",
    "tif": "tiff",
    "tiff": "tiff",
    "bmp": "bmp",
    "dib": "bmp",
}
_SUFFIXES: dict[Format, str] = {
    "jpeg": ".jpg",
    "png": ".png",
    "webp": ".webp",
    "tiff": ".tif",
    "bmp": ".bmp",
}
_SIGNATURES: tuple[tuple[bytes, Format], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"BM", "bmp"),
)
MAX_SIDE: dict[Format, int] = {
    # libjpeg stops short of the 65535 that the file format allows.
    "jpeg": 65500,
    "webp": 16383,
    # libpng could take 2**31 - 1, but is built with this limit against hostile files.
    "png": 1_000_000,
    "tiff": 2**31 - 1,
    "bmp": 2**31 - 1,
}
_BMP_MAX_BYTES = 2**32 - 1 - 1078


def format_of(suffix_or_name: str) -> Format:
    """The format that a name such as `jpg`, `.JPG` or `photo.jpg` stands for.

    Raises:
        OutputError: It stands for no format that can be written.
    """
    name = suffix_or_name.rpartition(".")[2].lower()
    if name not in _NAMES:
        shown = ascii(suffix_or_name)[1:-1]
        raise OutputError(f"'{shown}' is not a known picture format; use {', '.join(_SUFFIXES)}")
    return _NAMES[name]


def suffix_of(format: str) -> str:
    """The usual suffix of a format, with its dot.

    Raises:
        OutputError: There is no such format.
    """
    return _SUFFIXES[format_of(format)]


def is_picture_name(path: Path) -> bool:
    """Whether the suffix is one of a format that can be read."""
    return path.suffix[1:].lower() in _NAMES


def sniff(start: bytes) -> Format | None:
    """The format of a file by its first bytes (16 are enough), whatever its name says."""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "webp"
    return next((name for signature, name in _SIGNATURES if start.startswith(signature)), None)


def foreign_kind(start: bytes) -> str | None:
    """The name of a picture format that is recognised but not read, from a file's first bytes."""
    if start[4:8] == b"ftyp":
        brand = start[8:12]
        return "AVIF" if brand in (b"avif", b"avis") else "HEIF, or a film"
    kinds = {
        b"GIF8": "GIF",
        b"\xff\x0a": "JPEG XL",
        b"\0\0\0\x0cJXL ": "JPEG XL",
        b"\0\0\0\x0cjP": "JPEG 2000",
        b"\xff\x4f\xff\x51": "JPEG 2000",
        b"8BPS": "Photoshop",
        b"%PDF": "PDF",
    }
    return next((kind for signature, kind in kinds.items() if start.startswith(signature)), None)


def kept_depth(format: str, depth: int) -> int:
    """The bits a sample that a picture of `depth` bits (8, 16 or 32) has after writing."""
    most = {"png": 16, "tiff": 32}.get(format_of(format), 8)
    return min(depth, most)


def can_hold(format: str, *, alpha: bool, depth: int, width: int, height: int) -> str | None:
    """Why a format cannot hold such a picture, in a few words; None when it can.

    A depth beyond what the format has is no reason: the samples are rounded (see `kept_depth`).

    Raises:
        OutputError: There is no such format.
    """
    name = format_of(format)
    shown = "BMP" if name == "bmp" else {"webp": "WebP"}.get(name, name.upper())
    if depth not in (8, 16, 32):
        return f"{depth} bits a sample are not supported"
    if alpha and name in ("jpeg", "bmp"):
        return f"{shown} cannot hold transparency"
    if max(width, height) > MAX_SIDE[name]:
        return f"{shown} is limited to {MAX_SIDE[name]} px a side"
    if name == "bmp" and (width * 3 + 3) // 4 * 4 * height > _BMP_MAX_BYTES:
        return "BMP is limited to 4 GB"
    return None
