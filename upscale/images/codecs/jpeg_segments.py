"""Metadata in the segments before the pixels of a JPEG."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator

from PIL import JpegImagePlugin

from upscale.files.printable import printable
from upscale.images.image import Metadata
from upscale.images.metadata import exif, iptc, photoshop
from upscale.images.metadata.comments import text_of
from upscale.images.metadata.density import ratio_of, whole_numbers
from upscale.images.metadata.fields import Resource

APP2 = 0xE2

# Content of one segment; larger blocks of EXIF and XMP do not fit into a JPEG.
_SEGMENT_BYTES = 65533
_EXIF_NAME, _XMP_NAME = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_XMP_EXTENSION_NAME = b"http://ns.adobe.com/xmp/extension/\0"
_ICC_NAME, _PHOTOSHOP_NAME = b"ICC_PROFILE\0", b"Photoshop 3.0\0"
_APP0, _APP1, _APP13, _COMMENT = 0xE0, 0xE1, 0xED, 0xFE
_MAX_ICC_SEGMENTS = 255
_MAX_DENSITY = 2**16 - 1
# Units of a resolution by their number in JFIF, in units per inch.
_INCHES = {1: 1.0, 2: 2.54}
# Segments that are kept, rewritten, or apply only to the pixels as they were coded.
_EXPECTED = {
    "APP0": (b"JFIF\0", b"JFXX\0"),
    "APP1": (_EXIF_NAME, b"Exif\0", _XMP_NAME, _XMP_EXTENSION_NAME),
    "APP2": (_ICC_NAME, b"MPF\0", b"urn:iso:std:iso:ts:21496:-1\0"),
    "APP10": (b"AROT\0",),
    "APP12": (b"Ducky",),
    "APP13": (_PHOTOSHOP_NAME, b"Adobe_Photoshop2.5", b"Adobe_CM"),
    "APP14": (b"Adobe",),
}
_CREDENTIALS = "APP11", b"JP"


def metadata_of(stored: JpegImagePlugin.JpegImageFile) -> Metadata:
    """Return the metadata of an opened JPEG."""
    info = stored.info
    resources = _resources(stored)
    unit, density = info.get("jfif_unit", 0), info.get("jfif_density", (0, 0))
    iptc_blocks = (item.data for item in resources if item.number == photoshop.IPTC)
    return Metadata(
        icc=info.get("icc_profile") or None,
        exif=exif.without_prefix(info.get("exif")),
        xmp=info.get("xmp") or None,
        iptc=next((block for block in iptc_blocks if block), None),
        dpi=_dpi(unit, density),
        comment=text_of(b"\n".join(body.rstrip(b"\0") for body in _contents(stored, "COM"))),
        photoshop=photoshop.kept(resources),
        density_ratio=None if unit else ratio_of(*density),
    )


def notes_of(stored: JpegImagePlugin.JpegImageFile) -> tuple[str, ...]:
    """Return clauses that say which segments were left out."""
    notes: list[str] = []
    if photoshop.has_guides(_resources(stored)):
        notes.append("its Photoshop guides were left out")
    for kind, body in stored.applist:
        if body.startswith(_XMP_EXTENSION_NAME):
            notes.append("its extended XMP was left out")
        elif kind == _CREDENTIALS[0] and body.startswith(_CREDENTIALS[1]):
            notes.append("its content credentials were left out")
        elif kind != "COM" and not body.startswith(_EXPECTED.get(kind, ())):
            name = printable(body[:12].split(b"\0")[0].decode("latin-1"))
            notes.append(f"its {kind} segment {name} was left out")
    return tuple(dict.fromkeys(notes))


def segment(kind: int, body: bytes) -> bytes:
    """Return a segment with its length."""
    return struct.pack(">BBH", 0xFF, kind, len(body) + 2) + body


def segments(metadata: Metadata) -> Iterator[bytes]:
    """Yield the segments before the image."""
    left_out = oversized(metadata)
    yield segment(_APP0, b"JFIF\0\1\1" + _density(metadata) + b"\0\0")
    if metadata.exif and "exif" not in left_out:
        yield segment(_APP1, _EXIF_NAME + metadata.exif)
    if metadata.xmp and "xmp" not in left_out:
        yield segment(_APP1, _XMP_NAME + metadata.xmp)
    if metadata.icc and "icc" not in left_out:
        step = _icc_part_bytes()
        parts = [metadata.icc[at : at + step] for at in range(0, len(metadata.icc), step)]
        for number, part in enumerate(parts, 1):
            yield segment(APP2, _ICC_NAME + bytes((number, len(parts))) + part)
    if metadata.iptc and "iptc" not in left_out:
        yield segment(_APP13, _PHOTOSHOP_NAME + iptc.as_resource(metadata.iptc))
    if metadata.photoshop and "photoshop" not in left_out:
        yield segment(_APP13, _PHOTOSHOP_NAME + photoshop.block_of(metadata.photoshop))
    if metadata.comment and "comment" not in left_out:
        yield segment(_COMMENT, metadata.comment.encode())


def oversized(metadata: Metadata) -> list[str]:
    """Return the fields that do not fit into their segments."""
    photoshop_bytes = len(photoshop.block_of(metadata.photoshop))
    room = {
        "exif": _SEGMENT_BYTES - len(_EXIF_NAME) - len(metadata.exif or b""),
        "xmp": _SEGMENT_BYTES - len(_XMP_NAME) - len(metadata.xmp or b""),
        "iptc": iptc.MAX_BYTES - len(metadata.iptc or b""),
        "icc": _icc_part_bytes() * _MAX_ICC_SEGMENTS - len(metadata.icc or b""),
        "photoshop": _SEGMENT_BYTES - len(_PHOTOSHOP_NAME) - photoshop_bytes,
        "comment": _SEGMENT_BYTES - len((metadata.comment or "").encode()),
    }
    return [field for field, left in room.items() if left < 0]


def _contents(stored: JpegImagePlugin.JpegImageFile, kind: str) -> Iterator[bytes]:
    return (body for name, body in stored.applist if name == kind)


def _resources(stored: JpegImagePlugin.JpegImageFile) -> list[Resource]:
    """Return the Photoshop resources, which may continue in further segments."""
    parts = (body for body in _contents(stored, "APP13") if body.startswith(_PHOTOSHOP_NAME))
    return list(photoshop.resources_of(b"".join(part[len(_PHOTOSHOP_NAME) :] for part in parts)))


def _icc_part_bytes() -> int:
    return _SEGMENT_BYTES - len(_ICC_NAME) - 2


def _density(metadata: Metadata) -> bytes:
    """Return unit and resolution for a JFIF header; a ratio where no resolution fits."""
    dpi = metadata.dpi or (0.0, 0.0)
    for unit, inch in sorted(_INCHES.items(), key=lambda item: _rounding_error(dpi, item[1])):
        across, down = (round(value / inch) for value in dpi)
        if 0 < across <= _MAX_DENSITY and 0 < down <= _MAX_DENSITY:
            return struct.pack(">BHH", unit, across, down)
    ratio = whole_numbers(metadata.density_ratio or (1.0, 1.0), _MAX_DENSITY)
    return struct.pack(">BHH", 0, *ratio)


def _rounding_error(dpi: tuple[float, float], inch: float) -> float:
    """Return by how many thousandths whole numbers in a unit differ from a resolution."""
    errors = (abs(round(value / inch) * inch / value - 1) if value else 0 for value in dpi)
    return round(1000 * max(errors), 1)


def _dpi(unit: int, density: tuple[int, int]) -> tuple[float, float] | None:
    """Return pixels per inch from the JFIF header; without one, Pillow would report 72."""
    inch = _INCHES.get(unit)
    if inch is None or math.prod(density) <= 0:
        return None
    return density[0] * inch, density[1] * inch
