"""Sizes of panoramas in XMP (`GPano`), which viewers need in the pixels of the image."""

from __future__ import annotations

from contextlib import suppress

from upscale.images.metadata.placement import Pair, Placement
from upscale.images.metadata.xmp_packet import Property, XmpPacket

_NAMESPACE = "http://ns.google.com/photos/1.0/panorama/"
_FULL = ("FullPanoWidthPixels", "FullPanoHeightPixels")
_CROPPED_SIZE = ("CroppedAreaImageWidthPixels", "CroppedAreaImageHeightPixels")
_CROPPED_CORNER = ("CroppedAreaLeftPixels", "CroppedAreaTopPixels")
_INTERIOR_SIZE = ("LargestValidInteriorRectWidth", "LargestValidInteriorRectHeight")
_INTERIOR_CORNER = ("LargestValidInteriorRectLeft", "LargestValidInteriorRectTop")


def place(packet: XmpPacket, placement: Placement) -> None:
    """Turn and resize the sizes of a panorama and of the area of it that the image shows."""
    found = {item.name.removeprefix(_NAMESPACE): item for item in packet.named(*_names())}
    full, cropped = _pair(found, _FULL), _pair(found, _CROPPED_SIZE)
    _place_rectangle(packet, found, (_CROPPED_CORNER, _CROPPED_SIZE), full, placement)
    _place_rectangle(packet, found, (_INTERIOR_CORNER, _INTERIOR_SIZE), cropped, placement)
    if full is not None:
        _set(packet, found, _FULL, placement.pixel_size(full))


def _names() -> tuple[str, ...]:
    names = (*_FULL, *_CROPPED_SIZE, *_CROPPED_CORNER, *_INTERIOR_SIZE, *_INTERIOR_CORNER)
    return tuple(_NAMESPACE + name for name in names)


def _place_rectangle(
    packet: XmpPacket,
    found: dict[str, Property],
    names: tuple[tuple[str, str], tuple[str, str]],
    canvas: Pair | None,
    placement: Placement,
) -> None:
    """Move a rectangle on a canvas that is larger than the image, or is the image."""
    corner, size = (_pair(found, pair) for pair in names)
    if size is not None:
        _set(packet, found, names[1], placement.pixel_size(size))
    if corner is None:
        return
    size, (width, height) = size or (0, 0), canvas or placement.before
    on_canvas = Placement(placement.orientation, (round(width), round(height)), (1, 1))
    across, down = placement.scale
    opposite = corner[0] + size[0], corner[1] + size[1]
    moved = [on_canvas.turned_point(point) for point in (corner, opposite)]
    left, top = (min(values) for values in zip(*moved, strict=True))
    _set(packet, found, names[0], (left * across, top * down))


def _pair(found: dict[str, Property], names: tuple[str, str]) -> Pair | None:
    with suppress(KeyError, ValueError):
        return float(found[names[0]].text), float(found[names[1]].text)
    return None


def _set(
    packet: XmpPacket, found: dict[str, Property], names: tuple[str, str], values: Pair
) -> None:
    for name, value in zip(names, values, strict=True):
        packet.set(found[name], str(round(value)))
