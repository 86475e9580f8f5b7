"""Write GIF: still images, and the blocks that animations are put together from."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin
from PIL import Image as PILImage

from upscale.images.codecs import pillow
from upscale.images.image import Image, Pixels

END = b";"
"""What stands behind the last image block."""

_COLOURS = 256
_VISIBLE = 128
_BLOCK_BYTES = 255
_MAX_REPEATS = 65535
_CLEARED = 2
_WIDE = 64


def encode(image: Image, target: BinaryIO) -> None:
    """Encode uint8 pixels as one frame; see `image_block`."""
    target.write(start(image.width, image.height, 1, image.metadata.comment))
    target.write(image_block(image))
    target.write(END)


def start(width: int, height: int, plays: int, comment: str | None) -> bytes:
    """What stands before the first image block.

    Args:
        width: Of the logical screen.
        height: Of the logical screen.
        plays: How often an animation is shown; 0 is for ever, 1 what a still image says.
        comment: A remark.
    """
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0)
    if plays != 1:
        repeats = min(max(0, plays - 1), _MAX_REPEATS)
        head += b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", repeats, 0)
    if comment:
        head += b"!\xfe" + _sub_blocks(comment.encode())
    return head


def image_block(
    image: Image,
    centiseconds: int = 0,
    *,
    disposal: int = 0,
    place: tuple[int, int] = (0, 0),
) -> bytes:
    """A frame with a table of its own colours.

    At most 256 colours are kept exactly, and more are dithered to 256; transparency counts as one
    of them. What is less than half opaque becomes transparent.

    Args:
        image: uint8 pixels.
        centiseconds: How long the frame is shown.
        disposal: What becomes of it afterwards: 0 or 1 it stays, 2 it is cleared, 3 undone.
        place: Its left and top on the logical screen.
    """
    hidden = None if image.alpha is None else image.alpha < _VISIBLE
    # What is cleared becomes transparent in browsers; some programs need to be told the colour.
    if hidden is not None and not hidden.any() and disposal != _CLEARED:
        hidden = None
    limit = _COLOURS if hidden is None else _COLOURS - 1
    colour = pillow.image_of(Image(image.pixels)).convert("RGB")
    table, indices = _exact(colour, hidden, limit) or _dithered(colour, limit)
    transparency = None if hidden is None else len(table) // 3
    if hidden is not None and transparency is not None:
        indices[hidden] = transparency
        table += bytes(3)
    pil_image = PILImage.fromarray(indices)
    pil_image.putpalette(table)
    parts = GifImagePlugin.getdata(
        pil_image,
        place,
        duration=10 * centiseconds,
        disposal=disposal,
        transparency=transparency,
        include_color_table=True,
    )
    return b"".join(parts)


def _exact(
    pil_image: PILImage.Image, hidden: NDArray[np.bool_] | None, limit: int
) -> tuple[bytes, Pixels] | None:
    """The visible colours as a table, and each pixel's place in it; None when there are more."""
    packed = _packed(pil_image)
    if hidden is not None:
        packed[hidden] = 0 if hidden.all() else packed[~hidden][0]
    # A few rows tell most images that have too many without sorting all of their pixels.
    if len(np.unique(packed[:: max(1, len(packed) // 16)])) > limit:
        return None
    colours, indices = np.unique(packed, return_inverse=True)
    if len(colours) > limit:
        return None
    return _table(colours), indices.reshape(packed.shape).astype(np.uint8)


def _dithered(pil_image: PILImage.Image, limit: int) -> tuple[bytes, Pixels]:
    """A table of the colours that fit best, and each pixel's place in it, errors diffused.

    Colours of wide even areas are kept exactly, which an average would tint.
    """
    packed = _packed(pil_image)
    colours, counts = np.unique(packed, return_counts=True)
    wide = colours[counts * _WIDE > packed.size]
    fitting = pil_image.quantize(limit - len(wide), PILImage.Quantize.MEDIANCUT)
    table = (_table(wide) + bytes(fitting.getpalette() or ()))[: 3 * limit]
    palette = PILImage.new("P", (1, 1))
    palette.putpalette(table)
    indices = np.array(pil_image.quantize(palette=palette, dither=PILImage.Dither.FLOYDSTEINBERG))
    # Pillow takes the nearest colour to within four levels only.
    for place, colour in enumerate(wide):
        indices[packed == colour] = place
    return table, indices


def _packed(pil_image: PILImage.Image) -> NDArray[Any]:
    """The colour of each pixel as one number."""
    parts = np.asarray(pil_image).astype(np.uint32)
    return parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2]


def _table(colours: NDArray[Any]) -> bytes:
    """A table of colours that are given as numbers."""
    parts = np.stack((colours >> 16, colours >> 8 & 255, colours & 255), 1)
    return parts.astype(np.uint8).tobytes()


def _sub_blocks(data: bytes) -> bytes:
    """Data in parts of at most 255 bytes, each behind its length, and an empty one at the end."""
    parts = (data[at : at + _BLOCK_BYTES] for at in range(0, len(data), _BLOCK_BYTES))
    return b"".join(bytes((len(part),)) + part for part in parts) + b"\0"
