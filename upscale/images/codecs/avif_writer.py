"""Write AVIF through imagecodecs, which takes every depth, colour at full resolution, no metadata.

Those are added to its file as the items and the property that they are. (Pillow takes 8 bits and
writes EXIF anew; OpenCV halves the resolution of colour.)
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import BinaryIO

import imagecodecs
import numpy as np

from upscale.images.codecs.iso_boxes import box, boxes, full_box
from upscale.images.encoding import ResolvedEncoding
from upscale.images.image import Image, Metadata
from upscale.images.pixels.bits import narrowed

# On a photograph slower encoding saves a third where nothing is lost, and 2 % where something is.
_LOSSLESS_SPEED, _SPEED = 6, 8
_LOSSLESS = 100
_SRGB = (1, 13)
_UNSPECIFIED = (2, 2)
_IMAGE = 1
# Version 0, places and lengths of four bytes each: as libavif writes the places of items.
_PLACES_START = b"\0\0\0\0\x44\0"


def encode(image: Image, target: BinaryIO, settled: ResolvedEncoding) -> None:
    """Encode uint8 pixels as they are, uint16 ones in 10 bits or 12."""
    samples, bits = image.samples(), 8
    if samples.dtype == np.uint16:
        bits = 10 if image.bits <= 10 else 12
        samples = narrowed(samples, bits)
    metadata = image.metadata
    primaries, transfer = metadata.cicp or (_UNSPECIFIED if metadata.icc else _SRGB)
    plain = imagecodecs.avif_encode(
        np.ascontiguousarray(samples),
        _LOSSLESS if settled.lossless else min(settled.quality, _LOSSLESS - 1),
        speed=_LOSSLESS_SPEED if settled.lossless else _SPEED,
        bitspersample=bits,
        pixelformat="400" if image.pixels.shape[2] == 1 else "444",
        primaries=primaries,
        transfer=transfer,
        numthreads=os.cpu_count(),
    )
    target.write(_with_metadata(bytes(plain), metadata))


def _with_metadata(plain: bytes, metadata: Metadata) -> bytes:
    """The file with EXIF and XMP behind its end, and what points there in its head."""
    items = _items(metadata)
    parts = dict(boxes(plain))
    head = dict(boxes(parts[b"meta"][4:]))
    (count,) = struct.unpack_from(">H", head[b"iinf"], 4)
    numbers = range(count + 1, count + 1 + len(items))
    if items:
        head[b"iinf"] = _named(head[b"iinf"], numbers, list(items))
        links = (box(b"cdsc", struct.pack(">HHH", number, 1, _IMAGE)) for number in numbers)
        head[b"iref"] = head.get(b"iref", bytes(4)) + b"".join(links)
    if metadata.icc:
        head[b"iprp"] = _with_profile(head[b"iprp"], metadata.icc)
    places, lengths = head[b"iloc"], [len(body) for body in items.values()]
    # How far everything moves depends on the room that the places take, but not on the places.
    head[b"iloc"] = _moved(places, 0, numbers, lengths, 0)
    growth = len(_joined(head)) - len(parts[b"meta"])
    head[b"iloc"] = _moved(places, growth, numbers, lengths, len(plain) + growth + 8)
    parts[b"meta"] = _joined(head)
    extra = box(b"mdat", b"".join(items.values())) if items else b""
    return b"".join(box(kind, body) for kind, body in parts.items()) + extra


def _items(metadata: Metadata) -> Mapping[bytes, bytes]:
    """Type and name of the items that carry metadata, and their content."""
    items: dict[bytes, bytes] = {}
    if metadata.exif:
        items[b"Exif\0"] = bytes(4) + metadata.exif
    if metadata.xmp:
        items[b"mime\0application/rdf+xml\0"] = metadata.xmp
    return items


def _joined(head: Mapping[bytes, bytes]) -> bytes:
    return bytes(4) + b"".join(box(kind, body) for kind, body in head.items())


def _named(body: bytes, numbers: range, names: list[bytes]) -> bytes:
    """The list of items with more of them."""
    added = (
        full_box(b"infe", struct.pack(">HH", number, 0) + name, version=2)
        for number, name in zip(numbers, names, strict=True)
    )
    return body[:4] + struct.pack(">H", numbers.stop - 1) + body[6:] + b"".join(added)


def _with_profile(body: bytes, icc: bytes) -> bytes:
    """The properties with a profile, and the image, whose entry is the first, with it."""
    held = dict(boxes(body))
    number = 1 + sum(1 for _ in boxes(held[b"ipco"]))
    held[b"ipco"] += box(b"colr", b"prof" + icc)
    owners = bytearray(held[b"ipma"])
    end = 11 + owners[10]
    owners[10] += 1
    owners[end:end] = bytes((number,))
    held[b"ipma"] = bytes(owners)
    return b"".join(box(kind, part) for kind, part in held.items())


def _moved(body: bytes, by: int, numbers: range, lengths: list[int], at: int) -> bytes:
    """The places of items, moved, and those of more items that stand at `at` one after another."""
    if not body.startswith(_PLACES_START):
        raise ValueError("its layout is not the one expected of libavif")
    entries = [
        (item, source, parts, place + by, length)
        for item, source, parts, place, length in struct.iter_unpack(">HHHII", body[8:])
    ]
    for number, length in zip(numbers, lengths, strict=True):
        entries.append((number, 0, 1, at, length))
        at += length
    packed = b"".join(struct.pack(">HHHII", *entry) for entry in entries)
    return _PLACES_START + struct.pack(">H", len(entries)) + packed
