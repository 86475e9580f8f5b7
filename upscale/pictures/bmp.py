"""BMP, through Pillow."""

from __future__ import annotations

from typing import BinaryIO

from PIL import BmpImagePlugin

from upscale.pictures import flat
from upscale.pictures.decoded import Header, Raster
from upscale.pictures.picture import Metadata, Picture

_MAX_DPI = 2**31 / 40


def read_header(file: BinaryIO) -> Header:
    """Size and resolution.

    Raises:
        Exception: Whatever Pillow raises on damaged content.
    """
    image = BmpImagePlugin.BmpImageFile(file)
    across, down = image.info.get("dpi", (0, 0))
    dpi = (float(across), float(down)) if across > 0 and down > 0 else None
    width, height = image.size
    return Header(width, height, metadata=Metadata(dpi=dpi))


def decode(file: BinaryIO) -> Raster:
    """Decode the picture.

    Raises:
        Exception: Whatever Pillow raises on damaged content.
    """
    return flat.raster_of(BmpImagePlugin.BmpImageFile(file))


def encode(picture: Picture, target: BinaryIO) -> None:
    """Encode uint8 pixels without alpha."""
    # Pillow writes 96 dpi when it is told nothing.
    flat.image_of(picture).save(target, "BMP", dpi=_fitting(picture.metadata.dpi))


def _fitting(dpi: tuple[float, float] | None) -> tuple[float, float]:
    """A resolution that the header's pixels per metre can hold; zeros say nothing."""
    return dpi if dpi and max(dpi) < _MAX_DPI else (0.0, 0.0)
