"""JPEG, through Pillow."""

from __future__ import annotations

import io
import math
from typing import BinaryIO

from PIL import JpegImagePlugin

from upscale.pictures import exif, flat
from upscale.pictures.decoded import Header, Raster
from upscale.pictures.picture import Metadata, Picture

_DEFAULT_QUALITY = 95
_FULL_CHROMA = 0
# What one APP1 segment holds beside its name; a larger block has no place in a JPEG.
_MAX_EXIF_BYTES = 65533 - 6
_MAX_XMP_BYTES = 65533 - 29


def read_header(file: BinaryIO) -> Header:
    """Size, orientation and metadata.

    Raises:
        Exception: Whatever Pillow raises on damaged content.
    """
    image = JpegImagePlugin.JpegImageFile(file)
    info = image.info
    block = exif.without_prefix(info.get("exif"))
    dpi = _dpi(info.get("jfif_unit", 0), info.get("jfif_density", (0, 0)))
    metadata = Metadata(info.get("icc_profile") or None, block, info.get("xmp") or None, dpi)
    width, height = image.size
    return Header(width, height, exif.orientation_of(block), 1, metadata)


def decode(data: bytes) -> Raster:
    """Decode the (main) picture.

    Raises:
        Exception: Whatever Pillow raises on damaged content.
    """
    return flat.raster_of(JpegImagePlugin.JpegImageFile(io.BytesIO(data)))


def encode(picture: Picture, quality: int | None) -> bytes:
    """Encode uint8 pixels without alpha, colour at full resolution."""
    metadata, target = picture.metadata, io.BytesIO()
    block = metadata.exif if len(metadata.exif or b"") <= _MAX_EXIF_BYTES else None
    packet = metadata.xmp if len(metadata.xmp or b"") <= _MAX_XMP_BYTES else None
    dpi = metadata.dpi if metadata.dpi and max(metadata.dpi) < 65535.5 else None
    flat.image_of(picture).save(
        target,
        "JPEG",
        quality=_DEFAULT_QUALITY if quality is None else quality,
        subsampling=_FULL_CHROMA,
        icc_profile=metadata.icc,
        exif=exif.with_prefix(block) if block else b"",
        xmp=packet or b"",
        dpi=tuple(round(value) for value in dpi) if dpi else (0, 0),
    )
    return target.getvalue()


def _dpi(unit: int, density: tuple[int, int]) -> tuple[float, float] | None:
    """Pixels per inch from the JFIF header alone: where it has none, Pillow makes up 72."""
    inch = {1: 1.0, 2: 2.54}.get(unit)
    if inch is None or math.prod(density) <= 0:
        return None
    return density[0] * inch, density[1] * inch
