"""JPEG: read through Pillow, encoded by libjpeg-turbo through imagecodecs.

For encoding, Pillow would first copy the array to four bytes per pixel. imagecodecs writes no
metadata, so the segments are written by `jpeg_segments`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

import imagecodecs
import numpy as np
from PIL import JpegImagePlugin

from upscale.images.codecs import pillow
from upscale.images.codecs.base import Header, MalformedError, Raster, rows_missing
from upscale.images.codecs.jpeg_markers import (
    END,
    check_kind,
    has_all_scans,
    without_short_segments,
)
from upscale.images.codecs.jpeg_parts import (
    MULTI_PICTURE_BYTES,
    multi_picture_index,
    parts_of,
)
from upscale.images.codecs.jpeg_segments import (
    APP2,
    metadata_of,
    notes_of,
    oversized,
    segment,
    segments,
)
from upscale.images.codecs.registry import Codec, Salvage, Traits, register, starts_with
from upscale.images.encoding import ResolvedEncoding
from upscale.images.image import Image
from upscale.images.metadata import exif
from upscale.selection.jpeg_quality import quality_of

# Start and JFIF segment as written by libjpeg, which are replaced.
_PLAIN_START_BYTES = 20
# For optimised Huffman codes libjpeg keeps all coefficients: six bytes per pixel.
_MAX_OPTIMISED_PIXELS = 64 * 1024 * 1024
# Bits that a scan could go on with. No one of them is a marker.
_FILLERS, _FILLER_REPEATS = (b"\0", b"\x55", b"\xaa"), 4096


def read_header(file: BinaryIO) -> Header:
    """Read size, orientation and metadata, and what follows the image."""
    header = read_shape(file)
    file.seek(0)
    parts = parts_of(file.read())
    metadata = replace(header.metadata, gain_map=parts.gain_map)
    return replace(header, metadata=metadata, notes=(*header.notes, *parts.notes))


def read_shape(file: BinaryIO) -> Header:
    """Read size, orientation and metadata; only the start of the file is read."""
    check_kind(file)
    try:
        pil_image = JpegImagePlugin.JpegImageFile(file)
    except SyntaxError:
        file.seek(0)
        pil_image = _open(file.read())
    metadata = metadata_of(pil_image)
    return Header(
        *pil_image.size,
        exif.orientation_of(metadata.exif),
        metadata=metadata,
        quality=quality_of(_luma_steps(pil_image)),
        notes=notes_of(pil_image),
    )


def decode(file: BinaryIO) -> Raster:
    """Decode the image; of several, the main one.

    A file without its end marker is whole if nothing that could follow changes its pixels.

    Raises:
        MalformedError: Cut off.
    """
    data = file.read()
    try:
        return pillow.raster_of(_open(data))
    except OSError as error:
        data = data.rstrip(END[:1])
        if data.endswith(END) or not has_all_scans(data):
            raise
        if "truncated" not in str(error) and "broken" not in str(error):
            raise
    raster = pillow.raster_of(_open(data + END))
    if _first_uncertain_row(data, raster) is not None:
        raise MalformedError("is cut off")
    return replace(raster, notes=("its end marker is missing",))


def salvage(file: BinaryIO) -> Raster:
    """Decode what there is of a file that is damaged or cut off; the rest is grey.

    Raises:
        MalformedError: No row is complete.
    """
    data = file.read().rstrip(END[:1])
    pil_image = _open(data + END)
    try:
        pil_image.load()
    except OSError:
        # Pillow keeps the rows that it has decoded.
        pil_image.tile = []
        return replace(pillow.raster_of(pil_image), damage=("a part of it could not be decoded",))
    raster = pillow.raster_of(pil_image)
    row = _first_uncertain_row(data, raster)
    height = raster.pixels.shape[0]
    if row is None or not has_all_scans(data):
        return replace(raster, damage=("some details are missing",))
    if row == 0:
        raise MalformedError("is cut off")
    return replace(raster, damage=(rows_missing(row, height),))


def _open(data: bytes) -> JpegImagePlugin.JpegImageFile:
    try:
        return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    except SyntaxError:
        # Pillow rejects the file for them; decoders ignore them.
        return JpegImagePlugin.JpegImageFile(io.BytesIO(without_short_segments(data)))


def _first_uncertain_row(data: bytes, raster: Raster) -> int | None:
    """Return the first row that other data behind the last byte would change; None for no row."""
    first: int | None = None
    for filler in _FILLERS:
        other = pillow.raster_of(_open(data + filler * _FILLER_REPEATS + END))
        rows = np.flatnonzero((other.pixels != raster.pixels).any(axis=(1, 2)))
        if len(rows):
            first = int(rows[0]) if first is None else min(first, int(rows[0]))
    return first


def encode(image: Image, target: BinaryIO, encoding: ResolvedEncoding) -> None:
    """Encode uint8 pixels without alpha, without chroma subsampling."""
    pixels = image.pixels
    plain = imagecodecs.jpeg8_encode(
        np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels),
        encoding.quality,
        subsampling="444" if pixels.shape[2] == 3 else None,
        optimize=image.width * image.height <= _MAX_OPTIMISED_PIXELS,
    )
    head = b"\xff\xd8" + b"".join(segments(image.metadata))
    body = memoryview(plain)[_PLAIN_START_BYTES:]
    gain_map = image.metadata.gain_map
    if gain_map is None:
        target.write(head)
        target.write(body)
        return
    if gain_map.announcement:
        head += segment(APP2, gain_map.announcement)
    start = len(head) + len(segment(APP2, b""))
    total = start + MULTI_PICTURE_BYTES + len(body)
    target.write(head + segment(APP2, multi_picture_index(start, total, len(gain_map.data))))
    target.write(body)
    target.write(gain_map.data)


def _luma_steps(pil_image: JpegImagePlugin.JpegImageFile) -> Sequence[int]:
    """Return the quantisation table of the first component, whichever its number."""
    return pil_image.quantization.get(pil_image.layer[0][3], ()) if pil_image.layer else ()


register(
    Codec(
        name="jpeg",
        label="JPEG",
        suffixes=("jpg", "jpeg", "jpe", "jfif", "mpo"),
        foreign_suffixes=("mpo",),
        sniff=starts_with(b"\xff\xd8\xff"),
        read_header=read_header,
        read_shape=read_shape,
        decode=decode,
        salvage=Salvage(decode=salvage),
        traits=Traits(
            depth=8,
            lossy=True,
            lossless=False,
            # libjpeg stops before the 65535 of the file format.
            max_side=65500,
            carries=frozenset(
                {
                    *("icc", "exif", "xmp", "iptc", "photoshop", "dpi", "density_ratio", "comment"),
                    "gain_map",
                }
            ),
        ),
        encode=encode,
        oversized=oversized,
        rank=1,
    )
)
