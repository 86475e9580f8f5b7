"""Write TIFF through tifffile: any depth, with everything that travels beside the pixels.

An EXIF block is a TIFF file without pixels. So the picture is appended to the block, whose own
offsets stay right, maker notes included; then the header is pointed at the picture's directory.
"""

from __future__ import annotations

import io
import struct
from typing import Any

from tifffile import TiffWriter

from upscale.pictures import exif
from upscale.pictures.picture import Metadata, Picture

_LEVEL = 5
_CLASSIC_MAX_BYTES = 4_000_000_000
_ASCII, _BYTE, _SHORT, _LONG = 2, 1, 3, 4
_ORIENTATION, _XMP = 274, 700
_Tag = tuple[int | str, int | str, int | None, Any, bool]


def encode(picture: Picture) -> bytes:
    """Encode losslessly in the depth of the pixels."""
    block = picture.metadata.exif
    big = picture.samples().nbytes > _CLASSIC_MAX_BYTES
    if block and not big:
        try:
            return _behind(block, picture)
        except (ValueError, struct.error):
            # A damaged block has no place in the file.
            pass
    target = io.BytesIO()
    with TiffWriter(target, bigtiff=big) as writer:
        _write(writer, picture, [])
    return target.getvalue()


def _behind(block: bytes, picture: Picture) -> bytes:
    """The picture appended to an EXIF block.

    Raises:
        ValueError: The block is damaged or says nothing; also struct.error.
    """
    order, start = exif.header(block)
    entries = list(exif.entries(block))
    tags = [_shot_tag(block, order, entry) for entry in entries if entry.tag in exif.POINTERS]
    tags += [_text_tag(block, order, entry) for entry in entries if entry.tag in exif.DESCRIPTIVE]
    if not tags:
        raise ValueError("says nothing")
    following = start + 2 + 12 * len(entries)
    plain = bytearray(block) + b"\0" * (len(block) % 2)
    # Behind the first directory may follow one of a thumbnail, which is out of date.
    struct.pack_into(order + "I", plain, following, 0)
    target = io.BytesIO(plain)
    with TiffWriter(target, append="force") as writer:
        _write(writer, picture, tags)
    content = target.getbuffer()
    content[4:8] = content[following : following + 4]
    return bytes(content)


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


def _write(writer: TiffWriter, picture: Picture, tags: list[_Tag]) -> None:
    """Write the only page: deflated strips with the predictor of their type."""
    samples, metadata = picture.samples(), picture.metadata
    if metadata.xmp:
        tags = [*tags, (_XMP, _BYTE, len(metadata.xmp), metadata.xmp, False)]
    resolution = _resolution(metadata)
    writer.write(
        samples if samples.shape[2] > 1 else samples[..., 0],
        photometric="rgb" if picture.pixels.shape[2] == 3 else "minisblack",
        planarconfig="contig" if samples.shape[2] > 1 else None,
        extrasamples=None if picture.alpha is None else ["unassalpha"],
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
