"""Frames of an animated PNG, each decoded as a PNG of its own."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import BinaryIO, Literal

from upscale.images.animation import Patch, composed
from upscale.images.codecs import png
from upscale.images.codecs.base import Header, MalformedError, Raster, Still

_SIGNATURE_BYTES, _NUMBER_BYTES = 8, 4
_CONTROL = ">IIIIIHHBB"
_DEFAULT_DENOMINATOR = 100
_DISPOSALS: tuple[Literal["stays", "clear", "before"], ...] = ("stays", "clear", "before")
_GREY_ALPHA, _COLOUR_ALPHA = 4, 6
_Pieces = list[tuple[int, int]]


def frames(file: BinaryIO) -> Iterator[Still]:
    """The frames of an animated PNG, without a default image that is no part of it.

    Raises:
        MalformedError: Damaged or cut off.
    """
    header = png.read_header(file)
    stored = _stored(file)
    if len(stored.patches) != header.frames or not all(
        _inside(patch, header) for patch in stored.patches
    ):
        raise MalformedError("is damaged")
    yield from composed(header, stored.patches)


@dataclass(slots=True)
class _Stored:
    """The parts of a file: IHDR's content, whole chunks that hold for all frames, and frames."""

    start: bytes = b""
    shared: bytes = b""
    patches: list[Patch] = field(default_factory=list[Patch])


def _stored(file: BinaryIO) -> _Stored:
    """Find what the frames are made of; their packed pixels are passed over."""
    found, pieces, number = _Stored(), _Pieces(), 0
    for kind, place, length in _chunks(file):
        if kind in (b"fcTL", b"fdAT"):
            if _content(file, place, min(length, _NUMBER_BYTES)) != struct.pack(">I", number):
                raise MalformedError("is damaged")
            number += 1
        if kind == b"IHDR":
            found.start = _checked(file, place, length)
        elif kind in (b"PLTE", b"tRNS"):
            found.shared += png.chunk(kind, _checked(file, place, length))
        elif kind == b"fcTL":
            pieces = _Pieces()
            found.patches.append(_patch(file, _checked(file, place, length), found, pieces))
        elif kind in (b"IDAT", b"fdAT"):
            pieces.append((place, length))
    return found


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Kind, place and length of each chunk's content, up to the last."""
    place, kind = _SIGNATURE_BYTES, b""
    while kind != b"IEND":
        head = _content(file, place, 8)
        if len(head) < 8:
            raise MalformedError("is cut off")
        length, kind = struct.unpack(">I4s", head)
        yield kind, place + 8, length
        place += length + 12


def _content(file: BinaryIO, place: int, length: int) -> bytes:
    file.seek(place)
    return file.read(length)


def _checked(file: BinaryIO, place: int, length: int) -> bytes:
    """A chunk's content, its checksum found to be right."""
    chunk = _content(file, place - 4, length + 8)
    if len(chunk) < length + 8:
        raise MalformedError("is cut off")
    if zlib.crc32(chunk[:-4]) != int.from_bytes(chunk[-4:], "big"):
        raise MalformedError("is damaged (a checksum does not match)")
    return chunk[4:-4]


def _patch(file: BinaryIO, control: bytes, stored: _Stored, pieces: _Pieces) -> Patch:
    """What an fcTL chunk says of the frame whose pixels follow."""
    _, width, height, left, top, part, whole, disposal, blend = struct.unpack(_CONTROL, control)
    if 0 in (width, height) or disposal >= len(_DISPOSALS) or blend > 1:
        raise MalformedError("is damaged")
    return Patch(
        left,
        top,
        width,
        height,
        seconds=Fraction(part, whole or _DEFAULT_DENOMINATOR),
        disposal=_DISPOSALS[disposal],
        over=blend == 1,
        opaque=stored.start[9] not in (_GREY_ALPHA, _COLOUR_ALPHA) and b"tRNS" not in stored.shared,
        decode=lambda: _decoded(file, stored, (width, height), pieces),
    )


def _inside(patch: Patch, header: Header) -> bool:
    return patch.left + patch.width <= header.width and patch.top + patch.height <= header.height


def _decoded(file: BinaryIO, stored: _Stored, size: tuple[int, int], pieces: _Pieces) -> Raster:
    """Decode a frame's pixels as if they were a file of their own."""
    packed: list[bytes] = []
    for place, length in pieces:
        body = _checked(file, place, length)
        packed.append(body[_NUMBER_BYTES:] if _content(file, place - 4, 4) == b"fdAT" else body)
    start = struct.pack(">II", *size) + stored.start[8:]
    return png.decode_bytes(
        b"\x89PNG\r\n\x1a\n"
        + png.chunk(b"IHDR", start)
        + stored.shared
        + png.chunk(b"IDAT", b"".join(packed))
        + png.chunk(b"IEND", b"")
    )
