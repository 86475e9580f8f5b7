"""JPEG: read by Pillow, written by libjpeg-turbo straight from the array; its segments by us.

Pillow would copy the array into its own four bytes a pixel first.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from typing import BinaryIO

import imagecodecs
import numpy as np
from PIL import JpegImagePlugin

from upscale.images.codecs import pillow
from upscale.images.codecs.base import Header, Raster
from upscale.images.encoding import ResolvedEncoding
from upscale.images.image import Image, Metadata
from upscale.images.metadata import exif, iptc

# What one segment holds beside its name; a larger block of EXIF or XMP has no place in a JPEG.
_SEGMENT_BYTES = 65533
_EXIF_NAME, _XMP_NAME = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_XMP_EXTENSION_NAME = b"http://ns.adobe.com/xmp/extension/\0"
_ICC_NAME, _PHOTOSHOP_NAME = b"ICC_PROFILE\0", b"Photoshop 3.0\0"
_APP0, _APP1, _APP2, _APP13, _COMMENT = 0xE0, 0xE1, 0xE2, 0xED, 0xFE
# The start and the JFIF segment that libjpeg writes, which gives way to ours.
_PLAIN_START_BYTES = 20
_MAX_ICC_SEGMENTS = 255
# To optimise its codes libjpeg holds all coefficients: six bytes a pixel.
_MAX_OPTIMISED_PIXELS = 64 * 1024 * 1024
# ITU-T T.81, table K.1.
_LUMA = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113,
    92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
])  # fmt: skip


def read_header(file: BinaryIO) -> Header:
    """Size, orientation and metadata.

    Raises:
        Exception: Whatever Pillow raises on damaged content.
    """
    pil_image = JpegImagePlugin.JpegImageFile(file)
    info = pil_image.info
    block = exif.without_prefix(info.get("exif"))
    metadata = Metadata(
        icc=info.get("icc_profile") or None,
        exif=block,
        xmp=info.get("xmp") or None,
        iptc=iptc.of_resources(info.get("photoshop")),
        dpi=_dpi(info.get("jfif_unit", 0), info.get("jfif_density", (0, 0))),
        comment=info.get("comment", b"").decode("utf-8", "replace").rstrip("\0") or None,
    )
    width, height = pil_image.size
    extended = any(body.startswith(_XMP_EXTENSION_NAME) for _, body in pil_image.applist)
    return Header(
        width,
        height,
        exif.orientation_of(block),
        metadata=metadata,
        quality=_quality(pil_image.quantization),
        notes=("its extended XMP was left out",) if extended else (),
    )


def decode(file: BinaryIO) -> Raster:
    """Decode the (main) image.

    Raises:
        Exception: Whatever Pillow raises on damaged content.
    """
    return pillow.raster_of(JpegImagePlugin.JpegImageFile(file))


def encode(image: Image, target: BinaryIO, settled: ResolvedEncoding) -> None:
    """Encode uint8 pixels without alpha, colour at full resolution."""
    pixels = image.pixels
    plain = imagecodecs.jpeg8_encode(
        np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels),
        settled.quality,
        subsampling="444" if pixels.shape[2] == 3 else None,
        optimize=image.width * image.height <= _MAX_OPTIMISED_PIXELS,
    )
    target.write(b"\xff\xd8" + b"".join(_segments(image.metadata)))
    target.write(memoryview(plain)[_PLAIN_START_BYTES:])


def holds(metadata: Metadata) -> Mapping[str, bool]:
    """Whether the fields whose size is limited fit into their segments."""
    return {
        "exif": len(metadata.exif or b"") <= _SEGMENT_BYTES - len(_EXIF_NAME),
        "xmp": len(metadata.xmp or b"") <= _SEGMENT_BYTES - len(_XMP_NAME),
        "iptc": len(metadata.iptc or b"") <= iptc.MAX_BYTES,
        "icc": len(metadata.icc or b"") <= _icc_part_bytes() * _MAX_ICC_SEGMENTS,
    }


def _segments(metadata: Metadata) -> Iterator[bytes]:
    """What stands before the image itself."""
    fits = holds(metadata)
    yield _segment(_APP0, b"JFIF\0\1\1" + _density(metadata.dpi) + b"\0\0")
    if metadata.exif and fits["exif"]:
        yield _segment(_APP1, exif.with_prefix(metadata.exif))
    if metadata.xmp and fits["xmp"]:
        yield _segment(_APP1, _XMP_NAME + metadata.xmp)
    if metadata.icc and fits["icc"]:
        step = _icc_part_bytes()
        parts = [metadata.icc[at : at + step] for at in range(0, len(metadata.icc), step)]
        for number, part in enumerate(parts, 1):
            yield _segment(_APP2, _ICC_NAME + bytes((number, len(parts))) + part)
    if metadata.iptc and fits["iptc"]:
        yield _segment(_APP13, _PHOTOSHOP_NAME + iptc.as_resource(metadata.iptc))
    if metadata.comment:
        yield _segment(_COMMENT, metadata.comment.encode()[:_SEGMENT_BYTES])


def _segment(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body


def _icc_part_bytes() -> int:
    return _SEGMENT_BYTES - len(_ICC_NAME) - 2


def _density(dpi: tuple[float, float] | None) -> bytes:
    """Unit and resolution of a JFIF header; one pixel by one when there is none that fits."""
    across, down = (round(value) for value in dpi) if dpi else (0, 0)
    if not (0 < across < 2**16 and 0 < down < 2**16):
        return struct.pack(">BHH", 0, 1, 1)
    return struct.pack(">BHH", 1, across, down)


def _dpi(unit: int, density: tuple[int, int]) -> tuple[float, float] | None:
    """Pixels per inch from the JFIF header alone: where it has none, Pillow makes up 72."""
    inch = {1: 1.0, 2: 2.54}.get(unit)
    if inch is None or math.prod(density) <= 0:
        return None
    return density[0] * inch, density[1] * inch


def _quality(tables: Mapping[int, list[int]] | None) -> int | None:
    """The least libjpeg quality whose luma table is as fine as the file's."""
    if not tables or len(table := tables.get(0, [])) != 64:
        return None
    return next((q for q in range(1, 101) if int(_luma_table(q).sum()) <= sum(table)), 100)


def _luma_table(quality: int) -> np.ndarray:
    """Luma quantisation as libjpeg scales it (jpeg_quality_scaling)."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((_LUMA * percent + 50) // 100).clip(1, 255)
