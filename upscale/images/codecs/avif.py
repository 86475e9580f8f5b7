"""Read AVIF: 8 bits through Pillow; 10 and 12, which Pillow would cut to 8, through imagecodecs."""

from __future__ import annotations

import io
import math
import struct
from typing import BinaryIO

import imagecodecs
import numpy as np
from PIL import AvifImagePlugin

from upscale.images.codecs import pillow
from upscale.images.codecs.base import Header, Raster
from upscale.images.codecs.iso_boxes import boxes, properties
from upscale.images.image import Metadata
from upscale.images.metadata import cicp, exif
from upscale.images.pixels.bits import stretched

_IDENTITY = 0


def read_header(file: BinaryIO) -> Header:
    """Size, frames, orientation, depth and metadata.

    Raises:
        Exception: Whatever Pillow raises on damaged content.
    """
    data = file.read()
    pil_image = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    # Pillow's `info` has an EXIF block that it wrote anew, without maker notes and thumbnail.
    (width, height), frames, _, icc, block, turned, xmp = pil_image._decoder.get_info()  # pyright: ignore[reportPrivateUsage]
    primaries, transfer, matrix = _numbered_colour(data)
    bits, _ = _coding(data)
    # The orientation of the container counts, not that of EXIF.
    metadata = Metadata(
        icc=icc or None,
        exif=exif.reset_orientation(exif.without_prefix(block or None)),
        xmp=exif.reset_xmp_orientation(xmp or None),
        cicp=None if icc else cicp.named(primaries, transfer),
    )
    return Header(
        width,
        height,
        turned,
        frames,
        plays=_plays(data) if frames > 1 else 1,
        metadata=metadata,
        bits=bits if bits > 8 else None,
        # Who stores red, green and blue as they are wants them exact.
        lossless=matrix == _IDENTITY,
    )


def decode(file: BinaryIO) -> Raster:
    """Decode the image; 10 and 12 bits are stretched over 16.

    Raises:
        Exception: Whatever the decoders raise on damaged content.
    """
    data = file.read()
    pil_image = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    bits, grey = _coding(data)
    if bits == 8:
        raster = pillow.raster_of(pil_image)
        return Raster(raster.pixels[..., :1], raster.alpha) if grey else raster
    samples = imagecodecs.avif_decode(data)
    return Raster.of(stretched(samples, bits) if samples.dtype == np.uint16 else samples)


def _plays(data: bytes) -> int:
    """How often an animation is shown: as often as its edit list fits into its track."""
    video = dict(boxes(data)).get(b"moov", b"")
    track = dict(boxes(next((body for kind, body in boxes(video) if kind == b"trak"), b"")))
    edits = dict(boxes(track.get(b"edts", b""))).get(b"elst")
    if edits is None:
        return 0
    head = track[b"tkhd"]
    (once,) = struct.unpack_from(">Q" if edits[0] else ">I", edits, 8)
    (whole,) = struct.unpack_from(">Q" if head[0] else ">I", head, 28 if head[0] else 20)
    if not edits[3] & 1:
        return 1
    for_ever = whole == (2**64 - 1 if head[0] else 2**32 - 1) or not once
    return 0 if for_ever else max(1, math.ceil(whole / once))


def _coding(data: bytes) -> tuple[int, bool]:
    """Bits a sample, and whether the image is grey, as the codec's configuration states.

    An image made of tiles, and an animation, have it elsewhere than the primary item; the first
    one in the file is theirs then.
    """
    body = dict(properties(data)).get(b"av1C") or data.partition(b"av1C")[2]
    high, twelve, grey = (bool(body[2] & bit) for bit in (0x40, 0x20, 0x10))
    return 8 + 2 * high + 2 * (high and twelve), grey


def _numbered_colour(data: bytes) -> tuple[int, int, int]:
    """Primaries, transfer function and matrix by their numbers; 2 where they are not stated."""
    for kind, body in properties(data):
        if kind == b"colr" and body[:4] == b"nclx" and len(body) >= 10:
            return struct.unpack_from(">HHH", body, 4)
    return 2, 2, 2
