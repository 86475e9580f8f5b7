"""Writing Targa, through Pillow.

Files keep the compression and the order of rows of their source. Others are stored as most
programs read them: uncompressed, from the bottom row to the top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image as PILImage

from upscale.images.encoding import ResolvedEncoding
from upscale.images.image import Image

_RUN_LENGTH_ENCODED = 8
_TOP_DOWN = 0x20


@dataclass(frozen=True, slots=True)
class Targa:
    """How a Targa file stores its pixels.

    Attributes:
        is_run_length_encoded: Whether equal pixels in a row are stored once.
        is_top_down: Whether the first row is the top one.

    Example:
        >>> Targa(is_top_down=True).is_run_length_encoded
        False
    """

    is_run_length_encoded: bool = False
    is_top_down: bool = False


def layout_of(file: BinaryIO) -> Targa:
    """Return the compression and the order of rows of a Targa file."""
    file.seek(0)
    head = file.read(18)
    return Targa(bool(head[2] & _RUN_LENGTH_ENCODED), bool(head[17] & _TOP_DOWN))


def encode(image: Image, target: BinaryIO, encoding: ResolvedEncoding) -> None:
    """Encode uint8 pixels: 8 bits for grey, 24 for RGB, 32 with alpha."""
    del encoding
    source = image.origin.storage
    layout = source if isinstance(source, Targa) else Targa()
    samples = image.samples()
    if samples.shape[2] == 2:  # ImageMagick and others misread grey with alpha
        samples = samples[..., [0, 0, 0, 1]]
    pil_image = PILImage.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    pil_image.save(
        target,
        "TGA",
        compression="tga_rle" if layout.is_run_length_encoded else None,
        orientation=1 if layout.is_top_down else -1,
    )
