"""Write TIFF through tifffile: any depth, with everything that travels beside the pixels.

An EXIF block is a TIFF file without pixels. So the image is appended to the block, whose own
offsets stay right, maker notes included; then the header is pointed at the image's directory.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

from tifffile import TiffWriter

from upscale.images.image import Image, Metadata
from upscale.images.metadata import exif

_LEVEL = 5
_CLASSIC_MAX_BYTES = 4_000_000_000
_ASCII, _BYTE, _LONG, _UNDEFINED = 2, 1, 4, 7
_XMP, _IPTC = 700, 33723
_Tag = tuple[int | str, int | str, int | None, Any, bool]


def encode(pages: Iterable[Image], target: BinaryIO, count: int = 1) -> None:
    """Encode pages losslessly in the depth of their pixels, into an empty file.

    Only the first page's EXIF is written: the file has one place for it. Offsets become longer than
    32 bits where `count` pages like the first may need them.
    """
    remaining = iter(pages)
    first = next(remaining)
    block = first.metadata.exif
    big = count * first.pixels.nbytes * 4 // 3 > _CLASSIC_MAX_BYTES
    behind = None if big or block is None else _base(block)
    if behind is not None:
        target.write(behind.block)
        target.seek(0)
    with TiffWriter(target, bigtiff=big, append="force" if behind else False) as writer:
        _write(writer, first, behind.tags if behind else [])
        for page in remaining:
            _write(writer, page, [])
    if behind is not None:
        target.seek(behind.following)
        place = target.read(4)
        target.seek(4)
        target.write(place)
        target.seek(0, 2)


@dataclass(frozen=True, slots=True)
class _Base:
    """An EXIF block that pages are appended to.

    `tags` go into the first page's directory; at `following` stands where that directory is.
    """

    block: bytes
    tags: list[_Tag]
    following: int


def _base(block: bytes) -> _Base | None:
    """An EXIF block to append to; None when it is damaged or says nothing."""
    try:
        # There is no place for a thumbnail.
        block = exif.with_thumbnail(block, None)
        order, start = exif.header(block)
        entries = list(exif.entries(block))
        tags = [_shot_tag(block, order, entry) for entry in entries if entry.tag in exif.POINTERS]
        texts = (entry for entry in entries if entry.tag in exif.DESCRIPTIVE)
        tags += [_text_tag(block, order, entry) for entry in texts]
        following = start + 2 + 12 * len(entries)
        plain = bytearray(block) + b"\0" * (len(block) % 2)
        struct.pack_into(order + "I", plain, following, 0)
    except (ValueError, struct.error):
        return None
    return _Base(bytes(plain), tags, following) if tags else None


def _shot_tag(block: bytes, order: str, entry: exif.Entry) -> _Tag:
    """The tag that points to a directory inside the block; by name, for tifffile guards numbers."""
    name = {exif.SHOT: "ExifTag", exif.PLACE: "GPSTag"}[entry.tag]
    return name, _LONG, 1, struct.unpack_from(order + "I", block, entry.place)[0], False


def _text_tag(block: bytes, order: str, entry: exif.Entry) -> _Tag:
    """A descriptive tag; what is no text becomes empty text."""
    place = entry.place
    if entry.count > 4:
        (place,) = struct.unpack_from(order + "I", block, place)
    text = block[place : place + entry.count] if entry.kind == _ASCII else b""
    return entry.tag, _ASCII, entry.count, text, False


def _write(writer: TiffWriter, image: Image, tags: list[_Tag]) -> None:
    """Write a page: deflated strips with the predictor of their type."""
    samples, metadata = image.samples(), image.metadata
    if metadata.xmp:
        tags = [*tags, (_XMP, _BYTE, len(metadata.xmp), metadata.xmp, False)]
    if metadata.iptc:
        tags = [*tags, (_IPTC, _UNDEFINED, len(metadata.iptc), metadata.iptc, False)]
    resolution = _resolution(metadata)
    writer.write(
        samples if samples.shape[2] > 1 else samples[..., 0],
        photometric="rgb" if image.pixels.shape[2] == 3 else "minisblack",
        planarconfig="contig" if samples.shape[2] > 1 else None,
        extrasamples=None if image.alpha is None else ["unassalpha"],
        compression="zlib",
        compressionargs={"level": _LEVEL},
        predictor=True,
        iccprofile=metadata.icc,
        resolution=resolution,
        resolutionunit="inch" if resolution else None,
        extratags=tags,
        metadata=None,
        software=False,
    )


def _resolution(metadata: Metadata) -> tuple[float, float] | None:
    """A resolution that two 32-bit integers can hold."""
    dpi = metadata.dpi
    return dpi if dpi and max(dpi) < 2**31 and min(dpi) > 1e-4 else None
