"""Frames of a GIF, each unpacked by Pillow as a GIF of its own.

The blocks are walked without unpacking anything: that counts the frames and finds a file that is
cut off before hours of work go into its first half.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from typing import BinaryIO, Literal

import numpy as np
from PIL import GifImagePlugin

from upscale.images.animation import Patch, composed
from upscale.images.codecs.base import Header, MalformedError, Raster, Still
from upscale.images.image import Metadata

_IMAGE, _EXTENSION, _END, _PADDING = b",", b"!", b";", b"\0"
_CONTROL, _COMMENT, _APPLICATION = b"\xf9", b"\xfe", b"\xff"
_REPEATING = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_HEAD_BYTES, _PLACE_BYTES = 13, 9
_NO_CONTROL = bytes(4)
_HAS_COLOURS, _INTERLACED, _HAS_TRANSPARENCY = 128, 64, 1
_COLOURS = 256
_CENTISECONDS = 100
_Disposal = Literal["stays", "clear", "before"]
# Some programs write 4 where the standard has 3; browsers take both for the same.
_DISPOSALS: dict[int, _Disposal] = {2: "clear", 3: "before", 4: "before"}


def read_header(file: BinaryIO) -> Header:
    """Size, frames, plays and comments.

    Raises:
        MalformedError: Damaged or cut off.
    """
    return _header(_stored(file))


def read_shape(file: BinaryIO) -> Header:
    """Size, from what stands before the pixels of the first frame.

    Raises:
        MalformedError: Damaged or cut off.
    """
    return _header(_stored(file, 1))


def decode(file: BinaryIO) -> Raster:
    """Decode the first frame.

    Raises:
        MalformedError: Damaged or cut off.
        Exception: Whatever Pillow raises on damaged content.
    """
    stored = _stored(file, 1)
    return next(composed(_header(stored), stored.patches)).decode()


def frames(file: BinaryIO) -> Iterator[Still]:
    """The frames of an animation.

    Raises:
        MalformedError: Damaged or cut off.
        Exception: Whatever Pillow raises on damaged content.
    """
    stored = _stored(file)
    return composed(_header(stored), stored.patches)


@dataclass(slots=True)
class _Stored:
    """What a file says.

    A GIF says how often it is repeated, where viewers take 0 for ever; one that says nothing is
    shown once.
    """

    width: int
    height: int
    colours: bytes
    plays: int = 1
    comments: list[bytes] = field(default_factory=list[bytes])
    patches: list[Patch] = field(default_factory=list[Patch])


def _stored(file: BinaryIO, most: int | None = None) -> _Stored:
    """What a file says, up to its end or the head of so many frames."""
    file.seek(0)
    head = _read(file, _HEAD_BYTES)
    width, height, flags = struct.unpack_from("<HHB", head, 6)
    found = _Stored(width, height, _colours(file, flags))
    for patch in islice(_patches(file, found), most):
        found.patches.append(patch)
    if not found.patches:
        raise MalformedError("is damaged")
    first = found.patches[0]
    # Of a first frame that is larger than the screen, viewers show all.
    found.width = max(found.width, first.left + first.width)
    found.height = max(found.height, first.top + first.height)
    return found


def _header(stored: _Stored) -> Header:
    if 0 in (stored.width, stored.height):
        raise MalformedError("is damaged")
    comment = b"\n".join(stored.comments).decode("utf-8", "replace").rstrip("\0")
    return Header(
        stored.width,
        stored.height,
        frames=len(stored.patches),
        plays=stored.plays,
        metadata=Metadata(comment=comment or None),
    )


def _patches(file: BinaryIO, found: _Stored) -> Iterator[Patch]:
    """Walk over the blocks; what they say of the whole file is added to `found`."""
    control = _NO_CONTROL
    while (kind := _read(file, 1)) != _END:
        if kind == _IMAGE:
            start = file.tell()
            yield _patch(file, control, found)
            file.seek(start + _PLACE_BYTES - 1)
            _colours(file, _read(file, 1)[0])
            _read(file, 1)
            _skip(file)
            control = _NO_CONTROL
        elif kind == _EXTENSION:
            control = _extension(file, found) or control
        elif kind != _PADDING:
            raise MalformedError("is damaged")


def _extension(file: BinaryIO, found: _Stored) -> bytes | None:
    """Take note of an extension; return one that controls the next frame."""
    label = _read(file, 1)
    if label not in (_CONTROL, _COMMENT, _APPLICATION):
        _skip(file)
        return None
    blocks = list(_blocks(file))
    if label == _COMMENT:
        found.comments.append(b"".join(blocks))
    elif label == _APPLICATION and blocks[:1] and blocks[0] in _REPEATING:
        for block in blocks[1:]:
            if len(block) >= 3 and block[0] & 7 == 1:
                repeats = int.from_bytes(block[1:3], "little")
                found.plays = repeats and repeats + 1
    elif label == _CONTROL and blocks and len(blocks[0]) >= len(_NO_CONTROL):
        return blocks[0]
    return None


def _patch(file: BinaryIO, control: bytes, found: _Stored) -> Patch:
    """The frame whose place comes next, ruled by the control extension before it."""
    start = file.tell()
    left, top, width, height = struct.unpack("<HHHH", _read(file, _PLACE_BYTES - 1))
    flags, delay, index = struct.unpack_from("<BHB", control)
    hidden = index if flags & _HAS_TRANSPARENCY else None
    width, height = width or found.width, height or found.height
    return Patch(
        left,
        top,
        width,
        height,
        seconds=Fraction(delay, _CENTISECONDS),
        disposal=_DISPOSALS.get(flags >> 2 & 7, "stays"),
        over=True,
        opaque=hidden is None,
        decode=lambda: _decoded(file, start, (width, height), found.colours, hidden),
    )


def _decoded(
    file: BinaryIO, start: int, size: tuple[int, int], colours: bytes, hidden: int | None
) -> Raster:
    """Unpack the frame that is described at `start`, and look its colours up."""
    file.seek(start + _PLACE_BYTES - 1)
    flags = _read(file, 1)[0]
    colours = _colours(file, flags) or colours
    packed = _read(file, 1) + b"".join(bytes((len(block),)) + block for block in _blocks(file))
    place = _IMAGE + struct.pack("<HHHHB", 0, 0, *size, flags & _INTERLACED)
    alone = b"GIF89a" + struct.pack("<HHBBB", *size, 0, 0, 0) + place + packed + b"\0" + _END
    pil_image = GifImagePlugin.GifImageFile(io.BytesIO(alone))
    table = np.zeros((_COLOURS, 4), np.uint8)
    table[:, 3] = 255
    known = np.frombuffer(colours, np.uint8).reshape(-1, 3)
    table[: len(known), :3] = known
    if hidden is not None:
        table[hidden] = 0
    # Without a table, Pillow takes the numbers of the colours for greys.
    return Raster.of(table[np.asarray(pil_image)])


def _colours(file: BinaryIO, flags: int) -> bytes:
    """The table of colours that follows where the flags say so."""
    return _read(file, 6 << (flags & 7)) if flags & _HAS_COLOURS else b""


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """The contents of blocks, each behind its length, up to an empty one."""
    while length := _read(file, 1)[0]:
        yield _read(file, length)


def _skip(file: BinaryIO) -> None:
    """Pass over blocks up to an empty one."""
    while length := _read(file, 1)[0]:
        file.seek(length, 1)


def _read(file: BinaryIO, length: int) -> bytes:
    content = file.read(length)
    if len(content) < length:
        raise MalformedError("is cut off")
    return content
