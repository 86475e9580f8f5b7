"""BMP, through Pillow; those with masks are read by `bmp_masks`."""

from __future__ import annotations

import struct
from typing import BinaryIO

from PIL import BmpImagePlugin

from upscale.images.codecs import bmp_masks, pillow
from upscale.images.codecs.base import Header, Raster
from upscale.images.codecs.registry import Codec, Traits, register, starts_with
from upscale.images.encoding import ResolvedEncoding
from upscale.images.image import Image, Metadata

# Resolutions are stored as pixels per metre in 32 bits with sign.
_MAX_DPI = 2**31 / 40
_RESOLUTION, _METRES_PER_INCH = 38, 0.0254
_MAX_BYTES = 2**32 - 1 - 1078


def read_header(file: BinaryIO) -> Header:
    """Read size and resolution."""
    bitmap = bmp_masks.masked_bitmap(file)
    if bitmap is not None:
        metadata = Metadata(dpi=_dpi(file))
        has_alpha = bitmap.layout.alpha > 0
        return Header(bitmap.width, bitmap.height, metadata=metadata, has_alpha=has_alpha)
    pil_image = BmpImagePlugin.BmpImageFile(file)
    across, down = pil_image.info.get("dpi", (0, 0))
    dpi = (float(across), float(down)) if across > 0 and down > 0 else None
    width, height = pil_image.size
    has_alpha = pil_image.mode == "RGBA"
    return Header(width, height, metadata=Metadata(dpi=dpi), has_alpha=has_alpha)


def _dpi(file: BinaryIO) -> tuple[float, float] | None:
    """Return pixels per inch as the header states them per metre."""
    file.seek(_RESOLUTION)
    across, down = struct.unpack("<ii", file.read(8))
    return (across * _METRES_PER_INCH, down * _METRES_PER_INCH) if min(across, down) > 0 else None


def decode(file: BinaryIO) -> Raster:
    """Decode the image.

    Raises:
        MalformedError: Cut off.
        UnsupportedError: The bits of a channel are not next to each other.
    """
    bitmap = bmp_masks.masked_bitmap(file)
    if bitmap is not None:
        return bmp_masks.decode(file, bitmap)
    return pillow.raster_of(BmpImagePlugin.BmpImageFile(file))


def encode(image: Image, target: BinaryIO, encoding: ResolvedEncoding) -> None:
    """Encode uint8 pixels without alpha."""
    del encoding
    dpi = image.metadata.dpi
    # Without a resolution, Pillow writes 96 dpi; zeros mean that it is unknown.
    fits = dpi is not None and max(dpi) < _MAX_DPI
    pillow.image_of(image).save(target, "BMP", dpi=dpi if fits else (0.0, 0.0))


def check_size(width: int, height: int) -> str | None:
    """Return why an image of a size cannot be written."""
    return "BMP is limited to 4 GB" if (width * 3 + 3) // 4 * 4 * height > _MAX_BYTES else None


register(
    Codec(
        name="bmp",
        label="BMP",
        suffixes=("bmp", "dib"),
        sniff=starts_with(b"BM"),
        read_header=read_header,
        decode=decode,
        traits=Traits(depth=8, carries=frozenset({"dpi"})),
        encode=encode,
        check_size=check_size,
        reads_more=True,
        rank=5,
    )
)
