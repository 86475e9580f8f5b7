"""Photoshop image resources, as JPEG, TIFF and Photoshop files contain them.

Kept are those that stay true when an image is upscaled: copyright, address, the digest of unchanged
IPTC data, the aspect ratio of pixels, and paths, whose coordinates are fractions of the image.
Resolution, profile, EXIF, XMP, IPTC and thumbnail are stored elsewhere; guides and slices are in
pixels of the original size.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from upscale.images.metadata.fields import Resource

IPTC = 1028

_SIGNATURES = (b"8BIM", b"MeSa", b"PHUT", b"AgHg", b"DCSR")
_GRID_AND_GUIDES, _COPYRIGHT, _URL, _DIGEST, _ASPECT = 1032, 1034, 1035, 1061, 1064
_PATHS, _CLIPPING_PATH = range(2000, 2998), 2999
_KEPT = (_COPYRIGHT, _URL, _DIGEST, _ASPECT, *_PATHS, _CLIPPING_PATH)
_HEAD_BYTES = 12
_MAX_KEPT_BYTES = 1024 * 1024


def resources_of(data: bytes) -> Iterator[Resource]:
    """Yield the resources in a block; a damaged one ends it.

    Args:
        data: The block, from the first signature on.
    """
    at = 0
    while data[at : at + 4] in _SIGNATURES and at + _HEAD_BYTES <= len(data):
        (number,) = struct.unpack_from(">H", data, at + 4)
        # The name is padded to an even length, with the byte that states it.
        name = data[at + 7 : at + 7 + data[at + 6]]
        start = at + 6 + (len(name) + 2) // 2 * 2
        if start + 4 > len(data):
            return
        (length,) = struct.unpack_from(">I", data, start)
        yield Resource(number, name, data[start + 4 : start + 4 + length])
        at = start + 4 + length + length % 2


def block_of(resources: Iterable[Resource]) -> bytes:
    """Return resources as one block."""
    parts: list[bytes] = []
    for resource in resources:
        name = bytes((len(resource.name),)) + resource.name
        name += b"\0" * (len(name) % 2)
        length = struct.pack(">I", len(resource.data))
        head = _SIGNATURES[0] + struct.pack(">H", resource.number) + name + length
        parts.append(head + resource.data + b"\0" * (len(resource.data) % 2))
    return b"".join(parts)


def kept(resources: Iterable[Resource]) -> tuple[Resource, ...]:
    """Return the resources that stay true when the image is upscaled."""
    chosen = tuple(resource for resource in resources if resource.number in _KEPT)
    return chosen if sum(len(resource.data) for resource in chosen) <= _MAX_KEPT_BYTES else ()


def without_paths(resources: Iterable[Resource]) -> tuple[Resource, ...]:
    """Return the resources that stay true when the image is turned."""
    paths = (*_PATHS, _CLIPPING_PATH)
    return tuple(resource for resource in resources if resource.number not in paths)


def has_guides(resources: Iterable[Resource]) -> bool:
    """Return whether there are guides, not only the distances of a grid."""
    return any(
        resource.number == _GRID_AND_GUIDES and resource.data[12:16] > bytes(4)
        for resource in resources
    )


def density_ratio(resources: Iterable[Resource]) -> tuple[float, float] | None:
    """Return the ratio of densities across and down of pixels that are not square."""
    for resource in resources:
        if resource.number == _ASPECT and len(resource.data) >= 12:
            (aspect,) = struct.unpack_from(">d", resource.data, 4)
            if 0.01 < aspect < 100 and aspect != 1:
                return 1.0, aspect
    return None


def names(resources: Iterable[Resource]) -> list[str]:
    """Return what the resources say, for a format that has no place for them."""
    found: list[str] = []
    for resource in resources:
        if resource.number == _COPYRIGHT and resource.data.strip(b"\0"):
            found.append("Photoshop copyright flag")
        elif resource.number == _URL and resource.data:
            found.append("Photoshop URL")
        elif resource.number in _PATHS and "Photoshop paths" not in found:
            found.append("Photoshop paths")
    return found
