"""XMP packets kept consistent with the image: orientation, sizes and positions."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction

from upscale.images.metadata import claims, panorama, regions
from upscale.images.metadata.placement import Placement
from upscale.images.metadata.xmp_packet import EXIF, TIFF, Element, XmpPacket

_WIDTHS = (TIFF + "ImageWidth", EXIF + "PixelXDimension")
_HEIGHTS = (TIFF + "ImageLength", EXIF + "PixelYDimension")
_FOCAL_PLANE = (EXIF + "FocalPlaneXResolution", EXIF + "FocalPlaneYResolution")
_SUBJECTS = (EXIF + "SubjectArea", EXIF + "SubjectLocation")


def reset_orientation(packet: bytes | None) -> bytes | None:
    """Return a packet whose copy of the EXIF orientation is upright."""

    def reset(changes: XmpPacket) -> None:
        for item in changes.named(TIFF + "Orientation"):
            if item.text.strip() in "2345678":
                changes.set(item, "1")

    return packet and _edited(packet, reset)


def resized(packet: bytes, width: int, height: int) -> bytes:
    """Return a packet with another size wherever it repeats that of EXIF.

    Args:
        packet: The packet.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
    """

    def resize(changes: XmpPacket) -> None:
        for names, length in ((_WIDTHS, width), (_HEIGHTS, height)):
            for item in changes.named(*names):
                if item.text.strip().isdecimal():
                    changes.set(item, str(length))

    return _edited(packet, resize)


def placed(packet: bytes | None, placement: Placement) -> bytes | None:
    """Return a packet whose regions, panorama sizes and other positions follow the image.

    Args:
        packet: The packet.
        placement: How the image was turned and resized.
    """

    def place(changes: XmpPacket) -> None:
        regions.place(changes, placement)
        panorama.place(changes, placement)
        _place_subject(changes, placement)
        _place_focal_plane(changes, placement)

    return packet and _edited(packet, place)


def with_true_claims(packet: bytes | None, gain_map_bytes: int | None) -> bytes | None:
    """Return a packet that announces no video, and no gain map but the one there is.

    Args:
        packet: The packet.
        gain_map_bytes: Length of the gain map that follows the image; None without one.
    """
    return packet and _edited(packet, lambda changes: claims.keep_true(changes, gain_map_bytes))


def _edited(packet: bytes, change: Callable[[XmpPacket], None]) -> bytes:
    """Apply a change; packets that cannot be parsed stay as they are."""
    try:
        changes = XmpPacket(packet)
    except ValueError:
        return packet
    change(changes)
    return changes.changed()


def _place_subject(changes: XmpPacket, placement: Placement) -> None:
    """Move the positions of the subject, which are lists of whole numbers."""
    for item in changes.named(*_SUBJECTS):
        if isinstance(item, Element) and len(item.children) == 1:
            numbers = item.children[0].children
            with suppress(ValueError):
                values = placement.subject([int(number.text) for number in numbers])
                for number, value in zip(numbers, values, strict=True):
                    changes.set(number, str(value))


def _place_focal_plane(changes: XmpPacket, placement: Placement) -> None:
    """Turn and resize the pixels per unit of the sensor."""
    found = [changes.named(name) for name in _FOCAL_PLANE]
    for across, down in zip(*found, strict=False):
        with suppress(ValueError, ZeroDivisionError):
            values = placement.density((Fraction(across.text), Fraction(down.text)))
            for item, value in zip((across, down), values, strict=True):
                changes.set(item, f"{value.numerator}/{value.denominator}")
