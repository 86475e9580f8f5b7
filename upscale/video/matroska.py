"""Write the pixel aspect ratio into Matroska and WebM files.

PyAV does not pass it to FFmpeg's muxer. The muxer does however write a display width and height if
the stream is tagged as stereo video with two images side by side. So the stream is first tagged
that way, and afterwards these bytes of the header are replaced by the correct display size.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

PLACEHOLDER = {"stereo_mode": "left_right"}
"""Stream tags that reserve space in the header."""

NO_CHECKSUMS = {"write_crc32": "0"}
"""Muxer options for a file whose header will be changed."""

CONTAINERS = ("matroska", "webm")

_STEREO_MODE, _DISPLAY_WIDTH, _DISPLAY_HEIGHT = b"\x53\xb8", b"\x54\xb0", b"\x54\xba"
_CROPS = rb"((?:\x54[\xbb\xaa\xcc\xdd](?:\x81.|\x82..|\x83...|\x84....))*)"
"""Pattern of the elements PixelCropTop, -Bottom, -Left and -Right."""
_SIDE_BY_SIDE = 1
_OVERHEAD = 6
"""Bytes of the identifiers and lengths of two elements."""
_MAX_DENOMINATOR = 255
"""Precision to which FFmpeg rounds the ratio when it reads a file."""
_HEADER_BYTES = 1 << 20


def set_pixel_aspect(path: Path, size: tuple[int, int], aspect: Fraction) -> None:
    """Replace the placeholder of a complete file by the pixel aspect ratio.

    Args:
        path: File that was written with `PLACEHOLDER` and `NO_CHECKSUMS`.
        size: Width and height of what is shown of its frames in pixels.
        aspect: Width of a pixel divided by its height.

    Raises:
        OSError: The file cannot be written.
        ValueError: It has no placeholder.
    """
    width, height = size
    mode = _element(_STEREO_MODE, _SIDE_BY_SIDE)
    display = _element(_DISPLAY_WIDTH, width // 2) + _element(_DISPLAY_HEIGHT, height)
    room = len(mode) + len(display) - _OVERHEAD
    display_width, display_height = display_size(size, aspect)
    new = _element(_DISPLAY_WIDTH, display_width, room - room // 2)
    new += _element(_DISPLAY_HEIGHT, display_height, room // 2)
    pattern = re.compile(re.escape(mode) + _CROPS + re.escape(display), re.DOTALL)
    with path.open("r+b") as file:
        found = pattern.search(file.read(_HEADER_BYTES))
        if found is None:
            raise ValueError("its header has no room for the pixel aspect ratio")
        file.seek(found.start())
        file.write(found[1] + new)


def display_size(size: tuple[int, int], aspect: Fraction) -> tuple[int, int]:
    """Return a display width and height with that pixel aspect, at least as high as the frames."""
    width, height = size
    limit = max(height, _MAX_DENOMINATOR)
    ratio = (width * aspect / height).limit_denominator(limit) or Fraction(1, limit)
    factor = -(-height // ratio.denominator)
    return ratio.numerator * factor, ratio.denominator * factor


def _element(identifier: bytes, value: int, length: int | None = None) -> bytes:
    """Encode an unsigned integer element, with as few bytes as possible by default."""
    length = length or max(1, (value.bit_length() + 7) // 8)
    return identifier + bytes([0x80 | length]) + value.to_bytes(length)
