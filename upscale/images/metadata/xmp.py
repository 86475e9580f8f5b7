"""XMP packets kept consistent with the image: orientation and size; all other bytes stay."""

from __future__ import annotations

import re

_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)[2-8](?=\s*[\"'<])")
_WIDTH = re.compile(
    rb"((?:tiff:ImageWidth|exif:PixelXDimension)\s*(?:=\s*[\"']|>)\s*)\d+(?=\s*[\"'<])"
)
_HEIGHT = re.compile(
    rb"((?:tiff:ImageLength|exif:PixelYDimension)\s*(?:=\s*[\"']|>)\s*)\d+(?=\s*[\"'<])"
)


def reset_orientation(packet: bytes | None) -> bytes | None:
    """Return a packet whose copy of the EXIF orientation is upright."""
    return packet and _ORIENTATION.sub(rb"\g<1>1", packet)


def resized(packet: bytes, width: int, height: int) -> bytes:
    """Return a packet with another size wherever it repeats that of EXIF.

    Args:
        packet: The packet.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
    """
    packet = _WIDTH.sub(rb"\g<1>%d" % width, packet)
    return _HEIGHT.sub(rb"\g<1>%d" % height, packet)
