"""IPTC-IIM blocks, and the Photoshop resources that contain them.

Other Photoshop resources are not kept: resolution and thumbnail are stored elsewhere, and paths and
guides are in pixels of the original size. Pillow reads the resources but writes none.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

_SIGNATURE = b"8BIM"
_BLOCK = 0x0404
_HEAD_BYTES = 12
MAX_BYTES = 65533 - 14 - _HEAD_BYTES - 1
"""Largest block in a JPEG segment, beside the names of Photoshop and of the resource."""


def of_resources(resources: Mapping[int, Any] | None) -> bytes | None:
    """Return the IPTC block among the resources of a JPEG, which are given by number."""
    block = (resources or {}).get(_BLOCK)
    return block if isinstance(block, bytes) and block else None


def as_resource(block: bytes) -> bytes:
    """Return an IPTC block as a Photoshop resource without a name."""
    return (
        _SIGNATURE + struct.pack(">HHI", _BLOCK, 0, len(block)) + block + b"\0" * (len(block) % 2)
    )


def without_resource(data: bytes) -> bytes | None:
    """Return an IPTC block without the Photoshop resource around it; None when empty."""
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
