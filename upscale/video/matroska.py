"""The shape of pixels in Matroska and WebM, which PyAV does not pass on to FFmpeg's muxer.

The muxer looks for it in a place that PyAV leaves empty. But where a video says that its frames are
two images side by side, the muxer writes for them a width and a height for display. So the video
says that at first, and then these bytes make room for the true ones.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

PLACEHOLDER = {"stereo_mode": "left_right"}
"""Tags of the image's stream that make room."""

NO_CHECKSUMS = {"write_crc32": "0"}
"""Options of the muxer for a file whose header will be changed."""

CONTAINERS = ("matroska", "webm")

_STEREO_MODE, _DISPLAY_WIDTH, _DISPLAY_HEIGHT = b"\x53\xb8", b"\x54\xb0", b"\x54\xba"
_SIDE_BY_SIDE = 1
_OVERHEAD = 6  # names and lengths of two elements
_FINEST = 255  # what readers round to
_HEADER_BYTES = 1 << 20


def set_pixel_shape(path: Path, size: tuple[int, int], shape: Fraction) -> None:
    """Put the shape of pixels in place of the placeholder.

    Args:
        path: A whole file, written with `PLACEHOLDER`, and without checksums.
        size: Width and height of its frames in pixels.
        shape: Width of a pixel by its height.

    Raises:
        OSError: The file cannot be written.
        ValueError: It has no placeholder.
    """
    width, height = size
    old = (
        _element(_STEREO_MODE, _SIDE_BY_SIDE)
        + _element(_DISPLAY_WIDTH, width // 2)
        + _element(_DISPLAY_HEIGHT, height)
    )
    room = len(old) - _OVERHEAD
    across, down = display_size(size, shape)
    new = _element(_DISPLAY_WIDTH, across, room - room // 2)
    new += _element(_DISPLAY_HEIGHT, down, room // 2)
    with path.open("r+b") as file:
        place = file.read(_HEADER_BYTES).find(old)
        if place < 0:
            raise ValueError("its header has no room for the shape of pixels")
        file.seek(place)
        file.write(new)


def display_size(size: tuple[int, int], shape: Fraction) -> tuple[int, int]:
    """Width and height for display that give pixels a shape; at least as high as the frames."""
    width, height = size
    most = max(height, _FINEST)
    ratio = (width * shape / height).limit_denominator(most) or Fraction(1, most)
    times = -(-height // ratio.denominator)
    return ratio.numerator * times, ratio.denominator * times


def _element(name: bytes, value: int, length: int | None = None) -> bytes:
    """A whole number as Matroska stores it, in few bytes or in so many."""
    length = length or max(1, (value.bit_length() + 7) // 8)
    return name + bytes([0x80 | length]) + value.to_bytes(length)
