"""Gain maps: a second JPEG from which displays compute a brighter, HDR version of the image.

It may have any size, so it stays as it is when the image grows, and is turned with the image.
"""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import imagecodecs
import numpy as np
from PIL import JpegImagePlugin

from upscale.images.metadata.fields import GainMap
from upscale.images.pixels.orientation import upright

_QUALITY = 97
_MAX_PIXELS = 100_000_000
_APP_SEGMENTS = range(0xE1, 0xF0)
# Start and JFIF segment as written by libjpeg.
_PLAIN_START_BYTES = 20


def turned(gain_map: GainMap, orientation: int) -> GainMap:
    """Return a gain map that is turned like its image.

    Args:
        gain_map: The gain map.
        orientation: EXIF orientation 1..8 of the image.

    Raises:
        ValueError: It is damaged, or extremely large.
    """
    try:
        with JpegImagePlugin.JpegImageFile(io.BytesIO(gain_map.data)) as stored:
            if stored.width * stored.height > _MAX_PIXELS:
                raise ValueError("is too large")
            pixels = np.asarray(stored if stored.mode == "L" else stored.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError("is damaged") from error
    plain = imagecodecs.jpeg8_encode(
        upright(pixels, orientation),
        _QUALITY,
        subsampling="444" if pixels.ndim == 3 else None,
        optimize=True,
    )
    head = b"\xff\xd8" + _app_segments(gain_map.data)
    return replace(gain_map, data=head + bytes(plain)[_PLAIN_START_BYTES:])


def _app_segments(data: bytes) -> bytes:
    """Return the segments with metadata, which stand before the image."""
    position, kept = 2, b""
    while data[position : position + 1] == b"\xff" and data[position + 1] >= 0xC0:
        kind, length = struct.unpack_from(">xBH", data, position)
        if kind == 0xDA:
            break
        end = position + 2 + length
        kept += data[position:end] if kind in _APP_SEGMENTS else b""
        position = end
    return kept
