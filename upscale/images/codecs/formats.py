"""Formats: their names, their suffixes, how their files start, and what they can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from upscale.errors import OutputError

Format = Literal[
    "jpeg", "png", "webp", "tiff", "bmp", "avif", "gif", "heic", "jxl",
    "jpeg2000", "pnm", "tga", "qoi", "ico", "psd", "dds",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Traits:
    """What a format that can be written holds.

    Attributes:
        label: Its name in messages.
        suffix: Its usual suffix, with the dot.
        depth: The most bits a sample: 8, 10, 12, 16, or 32 for floats.
        grey: Whether one channel is stored as one.
        alpha: Levels of transparency: none, 2 (all or nothing), or all of the depth.
        frames: What several images in one file are: nothing, an animation, or pages.
        lossy: Whether `quality` means something.
        lossless: Whether pixels can be stored exactly.
        max_side: The longest side in pixels.
        carries: The fields of `Metadata` that it stores.
    """

    label: str
    suffix: str
    depth: int
    grey: bool
    alpha: Literal["none", "binary", "full"]
    frames: Literal["one", "animation", "pages"]
    lossy: bool
    lossless: bool
    max_side: int
    carries: frozenset[str]


def _carries(*fields: str) -> frozenset[str]:
    return frozenset(fields)


# Longest sides: libjpeg stops short of the 65535 that the file format allows; libpng could take
# 2**31 - 1, but is built with this limit against hostile files; libavif refuses more than 2**16.
TRAITS: Mapping[Format, Traits] = {
    "jpeg": Traits(
        "JPEG", ".jpg", 8, True, "none", "one", True, False, 65500,
        _carries("icc", "exif", "xmp", "iptc", "dpi", "comment"),
    ),
    "png": Traits(
        "PNG", ".png", 16, True, "full", "animation", False, True, 1_000_000,
        _carries("icc", "exif", "xmp", "iptc", "dpi", "comment", "cicp"),
    ),
    "webp": Traits(
        "WebP", ".webp", 8, False, "full", "animation", True, True, 16383,
        _carries("icc", "exif", "xmp"),
    ),
    "tiff": Traits(
        "TIFF", ".tif", 32, True, "full", "pages", False, True, 2**31 - 1,
        _carries("icc", "exif", "xmp", "iptc", "dpi"),
    ),
    "bmp": Traits(
        "BMP", ".bmp", 8, True, "none", "one", False, True, 2**31 - 1, _carries("dpi"),
    ),
    "avif": Traits(
        "AVIF", ".avif", 12, True, "full", "animation", True, True, 65536,
        _carries("icc", "exif", "xmp", "cicp"),
    ),
    "gif": Traits(
        "GIF", ".gif", 8, False, "binary", "animation", False, False, 65535, _carries("comment"),
    ),
    "heic": Traits(
        "HEIC", ".heic", 12, True, "full", "one", True, True, 16384,
        _carries("icc", "exif", "xmp", "cicp"),
    ),
    "jxl": Traits(
        "JPEG XL", ".jxl", 32, True, "full", "one", True, True, 2**30 - 1,
        _carries("exif", "xmp"),
    ),
}  # fmt: skip

_READ_ONLY: Mapping[Format, str] = {
    "jpeg2000": "JPEG 2000",
    "pnm": "PNM",
    "tga": "Targa",
    "qoi": "QOI",
    "ico": "ICO",
    "psd": "Photoshop",
    "dds": "DDS",
}
_NAMES: Mapping[str, Format] = {
    "jpg": "jpeg",
    "jpeg": "jpeg",
    "jpe": "jpeg",
    "jfif": "jpeg",
    "mpo": "jpeg",
    "png": "png",
    "apng": "png",
    "webp": "webp",
    "tif": "tiff",
    "tiff": "tiff",
    "bmp": "bmp",
    "dib": "bmp",
    "avif": "avif",
    "avifs": "avif",
    "gif": "gif",
    "heic": "heic",
    "heif": "heic",
    "hif": "heic",
    "jxl": "jxl",
    "jp2": "jpeg2000",
    "j2k": "jpeg2000",
    "jpx": "jpeg2000",
    "pnm": "pnm",
    "pbm": "pnm",
    "pgm": "pnm",
    "ppm": "pnm",
    "pfm": "pnm",
    "tga": "tga",
    "qoi": "qoi",
    "ico": "ico",
    "psd": "psd",
    "dds": "dds",
}
_SIGNATURES: tuple[tuple[bytes, Format], ...] = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"BM", "bmp"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"\xff\x0a", "jxl"),
    (b"\0\0\0\x0cJXL ", "jxl"),
    (b"\0\0\0\x0cjP  ", "jpeg2000"),
    (b"\xff\x4f\xff\x51", "jpeg2000"),
    (b"qoif", "qoi"),
    (b"\0\0\1\0", "ico"),
    (b"8BPS\0\1", "psd"),
    (b"DDS ", "dds"),
)
SNIFF_BYTES = 64
"""How much of a file's start `sniff` wants to see."""

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_BMP_MAX_BYTES = 2**32 - 1 - 1078


def format_of(suffix_or_name: str) -> Format:
    """The format, among those that can be written, that `jpg`, `.JPG` or `photo.jpg` stands for.

    Raises:
        OutputError: It stands for no format that can be written.
    """
    name = suffix_or_name.rpartition(".")[2].lower()
    found = _NAMES.get(name)
    if found is None or found not in TRAITS:
        shown = ascii(suffix_or_name)[1:-1]
        raise OutputError(
            f"'{shown}' is not an image format that can be written; use {', '.join(TRAITS)}"
        )
    return found


def traits_of(format: str) -> Traits:
    """What a format holds.

    Raises:
        OutputError: It cannot be written.
    """
    return TRAITS[format_of(format)]


def suffix_of(format: str) -> str:
    """The usual suffix of a format, with its dot.

    Raises:
        OutputError: It cannot be written.
    """
    return traits_of(format).suffix


def can_write(format: str) -> bool:
    """Whether there is an encoder for a format that `format_named` or `sniff` gave."""
    return format in TRAITS


def format_named(name: str) -> Format | None:
    """The format that a file's suffix stands for; some have no other sign."""
    return _NAMES.get(name.rpartition(".")[2].lower())


def label_of(format: Format) -> str:
    """A format's name in messages."""
    return TRAITS[format].label if format in TRAITS else _READ_ONLY[format]


def is_spelling(suffix: str, format: str) -> bool:
    """Whether a suffix is usual for what is written in a format; `.mpo` promises two images."""
    return format_named(suffix) == format and suffix.lower() != ".mpo"


def is_image_name(path: Path) -> bool:
    """Whether the suffix is one of a format that can be read."""
    return path.suffix[1:].lower() in _NAMES


def sniff(start: bytes) -> Format | None:
    """The format of a file by its first bytes, whatever its name says."""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "webp"
    if start[4:8] == b"ftyp":
        return _brand(start)
    if start[:1] == b"P" and start[1:2] in b"123456Ff" and start[2:3].isspace():
        return "pnm"
    return next((name for signature, name in _SIGNATURES if start.startswith(signature)), None)


def _brand(start: bytes) -> Format | None:
    """The format by the brands of an ISO base media file; the general ones leave it to others."""
    length = min(int.from_bytes(start[:4], "big"), len(start))
    brands = {start[at : at + 4] for at in (8, *range(16, length, 4))}
    if start[8:12] not in _AVIF_BRANDS | _HEIC_BRANDS:
        return None
    return "avif" if brands & _AVIF_BRANDS else "heic"


def foreign_kind(start: bytes) -> str | None:
    """The name of a kind of file that is recognised but not read, from its first bytes."""
    if start[4:8] == b"ftyp":
        return "a video"
    kinds = {b"%PDF": "PDF", b"<svg": "SVG", b"\x76\x2f\x31\x01": "OpenEXR", b"\x1a\x45": "a video"}
    return next((kind for signature, kind in kinds.items() if start.startswith(signature)), None)


def kept_depth(format: str, depth: int) -> int:
    """The bits a sample that an image of `depth` bits (8 to 16, or 32) has after writing."""
    return min(depth, traits_of(format).depth)


def can_hold(
    format: str,
    *,
    alpha: bool,
    depth: int,
    width: int,
    height: int,
    frames: int = 1,
    animated: bool = False,
    cicp: tuple[int, int] | None = None,
) -> str | None:
    """Why a format cannot hold such an image, in a few words; None when it can.

    A depth beyond what the format has is no reason: the samples are rounded (see `kept_depth`).

    Args:
        format: The format's name.
        alpha: Whether the image is transparent.
        depth: Bits a sample: 8, 16 or 32.
        width: Pixels across.
        height: Pixels down.
        frames: How many frames or pages there are.
        animated: Whether they are frames rather than pages.
        cicp: `Metadata.cicp`, where there is no profile beside it.

    Raises:
        OutputError: It cannot be written.
    """
    traits = traits_of(format)
    sequence, sequence_name = ("animation", "an animation") if animated else ("pages", "pages")
    bmp_bytes = (width * 3 + 3) // 4 * 4 * height
    reasons = (
        (depth not in (8, 16, 32), f"{depth} bits a sample are not supported"),
        (alpha and traits.alpha == "none", f"{traits.label} cannot hold transparency"),
        (
            max(width, height) > traits.max_side,
            f"{traits.label} is limited to {traits.max_side} px a side",
        ),
        (traits.label == "BMP" and bmp_bytes > _BMP_MAX_BYTES, "BMP is limited to 4 GB"),
        (
            frames > 1 and traits.frames != sequence,
            f"{traits.label} cannot hold {sequence_name}",
        ),
        (
            cicp is not None and "cicp" not in traits.carries,
            f"{traits.label} cannot name its colour space (H.273: {cicp})",
        ),
    )
    return next((reason for applies, reason in reasons if applies), None)
