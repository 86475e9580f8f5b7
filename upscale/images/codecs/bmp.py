"""BMP, through Pillow."""

from __future__ import annotations

from typing import BinaryIO

from PIL import BmpImagePlugin

from upscale.images.codecs import pillow
from upscale.images.codecs.base import Header, Raster
from upscale.images.image import Image, Metadata

_MAX_DPI = 2**31 / 40


def read_header(file: BinaryIO) -> Header:
    """Size and resolution.

    Raises:
        Exception: Whatever Pillow raises on damaged content.
    """
    pil_image = BmpImagePlugin.BmpImageFile(file)
    across, down = pil_image.info.get("dpi", (0, 0))
    dpi = (float(across), float(down)) if across > 0 and down > 0 else None
    width, height = pil_image.size
    return Header(width, height, metadata=Metadata(dpi=dpi))


def decode(file: BinaryIO) -> Raster:
    """Decode the image.

    Raises:
        Exception: Whatever Pillow raises on damaged content.
    """
    return pillow.raster_of(BmpImagePlugin.BmpImageFile(file))


def encode(image: Image, target: BinaryIO) -> None:
    """Encode uint8 pixels without alpha."""
    # Pillow writes 96 dpi when it is told nothing.
    pillow.image_of(image).save(target, "BMP", dpi=_fitting(image.metadata.dpi))


def _fitting(dpi: tuple[float, float] | None) -> tuple[float, float]:
    """A resolution that the header's pixels per metre can hold; zeros say nothing."""
    return dpi if dpi and max(dpi) < _MAX_DPI else (0.0, 0.0)
