"""IPTC-IIM blocks and the Photoshop resources that hold them in JPEG and TIFF files.

Of the other resources none stays true for a larger image: resolution and thumbnail have their
place elsewhere, and paths and guides count pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

_SIGNATURE = b"8BIM"
_BLOCK = 0x0404
_HEAD_BYTES = 12
# One JPEG segment, less the names of Photoshop and of the resource.
MAX_BYTES = 65533 - 14 - _HEAD_BYTES - 1


def of_resources(resources: Mapping[int, Any] | None) -> bytes | None:
    """The block among the resources of a JPEG, by their numbers."""
    block = (resources or {}).get(_BLOCK)
    return block if isinstance(block, bytes) and block else None


def as_resource(block: bytes) -> bytes:
    """The block as a Photoshop resource without a name."""
    return (
        _SIGNATURE + struct.pack(">HHI", _BLOCK, 0, len(block)) + block + b"\0" * (len(block) % 2)
    )


def without_resource(data: bytes) -> bytes | None:
    """The block itself from what may be a Photoshop resource that holds it; None when empty."""
    if not data.startswith(_SIGNATURE):
        return data or None
    at = 0
    while data[at : at + 4] == _SIGNATURE and at + _HEAD_BYTES <= len(data):
        (number,) = struct.unpack_from(">H", data, at + 4)
        name = data[at + 6] + 1
        start = at + 6 + name + name % 2
        if start + 4 > len(data):
            return None
        (length,) = struct.unpack_from(">I", data, start)
        if number == _BLOCK:
            return data[start + 4 : start + 4 + length] or None
        at = start + 4 + length + length % 2
    return None
