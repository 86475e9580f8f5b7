"""Regions in XMP: faces and other areas, moved with the image.

Supported are the regions of the Metadata Working Group (`mwg-rs`, also in the form of ACDSee), of
Microsoft (`MP`) and of IPTC (`ImageRegion`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from upscale.images.metadata.placement import Pair, Placement
from upscale.images.metadata.xmp_packet import Element, Property, XmpPacket
from upscale.images.pixels.orientation import swaps_sides

_MWG = "http://www.metadataworkinggroup.com/schemas/regions/"
_ACDSEE = "http://ns.acdsee.com/regions/"
_AREAS = ("http://ns.adobe.com/xmp/sType/Area#", "http://ns.acdsee.com/sType/Area#")
_DIMENSIONS = (
    "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
    "http://ns.acdsee.com/sType/Dimensions#",
)
_MICROSOFT_RECTANGLE = "http://ns.microsoft.com/photo/1.2/t/Region#Rectangle"
_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"

_Group = Mapping[str, Property]


def place(packet: XmpPacket, placement: Placement) -> None:
    """Move all regions of a packet."""
    applied = _for_regions(packet, placement)
    for structure in packet.structures():
        for namespace in _AREAS:
            with suppress(KeyError, ValueError):
                _place_area(packet, structure, namespace, applied)
        with suppress(KeyError, ValueError):
            _place_boundary(packet, structure, placement)
    for element in _dimensions(packet):
        with suppress(KeyError, ValueError):
            _place_dimensions(packet, packet.properties_of(element), applied)
    for item in packet.named(_MICROSOFT_RECTANGLE):
        with suppress(ValueError):
            _place_rectangle(packet, item, placement)


def _dimensions(packet: XmpPacket) -> list[Element]:
    """Return the elements that state to which size of the image regions apply."""
    names = (_MWG + "AppliedToDimensions", _ACDSEE + "AppliedToDimensions")
    return [item for item in packet.named(*names) if isinstance(item, Element)]


def _for_regions(packet: XmpPacket, placement: Placement) -> Placement:
    """Return a placement without a turn where the regions apply to the upright image already."""
    width, height = placement.turned
    if not swaps_sides(placement.orientation) or width == height:
        return placement
    for element in _dimensions(packet):
        properties = packet.properties_of(element)
        for namespace in _DIMENSIONS:
            with suppress(KeyError, ValueError):
                across, down = _pair(properties, namespace, "wh")
                if abs(across * height - down * width) < abs(across * width - down * height):
                    return Placement(1, placement.turned, placement.after)
    return placement


def _place_area(packet: XmpPacket, area: _Group, namespace: str, placement: Placement) -> None:
    """Move an area whose x and y are its centre."""
    unit = area.get(namespace + "unit")
    in_pixels = unit is not None and unit.text.strip() == "pixel"
    point = _pair(area, namespace, "xy")
    moved = placement.pixel_point(point) if in_pixels else placement.relative_point(point)
    _set_pair(packet, area, (namespace + "x", namespace + "y"), moved)
    if namespace + "d" in area and in_pixels:
        diameter = float(area[namespace + "d"].text)
        packet.set(area[namespace + "d"], _number(diameter * float(placement.scale[0])))
    size = _pair(area, namespace, "wh")
    moved = placement.pixel_size(size) if in_pixels else placement.relative_size(size)
    _set_pair(packet, area, (namespace + "w", namespace + "h"), moved)


def _place_dimensions(packet: XmpPacket, size: _Group, placement: Placement) -> None:
    """Resize the size of the image that regions apply to."""
    namespace = next(name for name in _DIMENSIONS if name + "w" in size)
    across, down = placement.pixel_size(_pair(size, namespace, "wh"))
    names = namespace + "w", namespace + "h"
    _set_pair(packet, size, names, (round(across), round(down)))


def _place_rectangle(packet: XmpPacket, item: Property, placement: Placement) -> None:
    """Move a rectangle `left, top, width, height` in 0..1."""
    left, top, width, height = (float(part) for part in item.text.split(","))
    size = placement.relative_size((width, height))
    corner = _corner(placement.relative_point((left + width / 2, top + height / 2)), size)
    packet.set(item, ", ".join(_number(value) for value in (*corner, *size)))


def _place_boundary(packet: XmpPacket, boundary: _Group, placement: Placement) -> None:
    """Move an IPTC boundary: a rectangle by its corner, a circle by its centre, or vertices."""
    unit = boundary[_IPTC + "rbUnit"].text.strip()
    is_relative = unit == "relative"
    point = placement.relative_point if is_relative else placement.pixel_point
    names = _IPTC + "rbX", _IPTC + "rbY"
    if (radius := boundary.get(_IPTC + "rbRx")) is not None:
        _set_pair(packet, boundary, names, point(_pair(boundary, _IPTC + "rb", "XY")))
        # A relative radius is a fraction of the width.
        (width, _), (turned_width, _) = placement.before, placement.turned
        factor = width / turned_width if is_relative else float(placement.scale[0])
        packet.set(radius, _number(float(radius.text) * factor))
    elif (vertices := boundary.get(_IPTC + "rbVertices")) is not None:
        assert isinstance(vertices, Element)
        for sequence in vertices.children:
            for vertex in sequence.children:
                corners = packet.properties_of(vertex)
                _set_pair(packet, corners, names, point(_pair(corners, _IPTC + "rb", "XY")))
    else:
        size = _pair(boundary, _IPTC + "rb", "WH")
        left, top = _pair(boundary, _IPTC + "rb", "XY")
        centre = point((left + size[0] / 2, top + size[1] / 2))
        size = (placement.relative_size if is_relative else placement.pixel_size)(size)
        _set_pair(packet, boundary, names, _corner(centre, size))
        _set_pair(packet, boundary, (_IPTC + "rbW", _IPTC + "rbH"), size)


def _corner(centre: Pair, size: Pair) -> Pair:
    return centre[0] - size[0] / 2, centre[1] - size[1] / 2


def _pair(group: _Group, start: str, ends: str) -> Pair:
    """Return two numbers whose names differ in the last letter."""
    first, second = (float(group[start + end].text) for end in ends)
    return first, second


def _set_pair(packet: XmpPacket, group: _Group, names: tuple[str, str], values: Pair) -> None:
    for name, value in zip(names, values, strict=True):
        packet.set(group[name], _number(value, group[name].text))


def _number(value: float, before: str = "") -> str:
    """Return a number with up to six decimals; the text before where it is the same number."""
    if before and abs(float(before) - value) < 1e-6:
        return before.strip()
    return f"{value:.6f}".rstrip("0").rstrip(".") if value else "0"
