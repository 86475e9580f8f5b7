"""IPTC-IIM blocks, and the Photoshop resources that contain them."""

from __future__ import annotations

from upscale.images.metadata import photoshop
from upscale.images.metadata.fields import Resource

_HEAD_BYTES = 12
MAX_BYTES = 65533 - 14 - _HEAD_BYTES - 1
"""Largest block in a JPEG segment, beside the names of Photoshop and of the resource."""


def as_resource(block: bytes) -> bytes:
    """Return an IPTC block as a Photoshop resource without a name."""
    return photoshop.block_of([Resource(photoshop.IPTC, b"", block)])


def without_resource(data: bytes) -> bytes | None:
    """Return an IPTC block without the Photoshop resource around it; None when empty."""
    if not data.startswith(b"8BIM"):
        return data or None
    found = (item for item in photoshop.resources_of(data) if item.number == photoshop.IPTC)
    return next((item.data for item in found if item.data), None)
