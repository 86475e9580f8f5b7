"""PNG and APNG: pixels through imagecodecs, headers and metadata through `png_chunks`.

Pillow reduces 16-bit colour to 8 bits, and OpenCV loses grey with alpha. imagecodecs detects
damaged pixels, but not a missing end, which is noted. Each frame of an APNG is decoded as a PNG
file of its own.
"""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import takewhile
from typing import BinaryIO

import imagecodecs
import numpy as np

from upscale.images.animation import Disposal, FramePart, Patch, changed_parts, composed
from upscale.images.codecs.base import (
    Header,
    MalformedError,
    Raster,
    StoredFrame,
    UnsupportedError,
)
from upscale.images.codecs.png_chunks import (
    SIGNATURE,
    TEXT_KINDS,
    TextsTooLargeError,
    add_metadata,
    chunk,
    chunk_positions,
    chunks,
    content_at,
    metadata_chunks,
    verified_content,
    with_calibrated_profile,
)
from upscale.images.codecs.png_salvage import repaired
from upscale.images.codecs.registry import Codec, Salvage, Traits, register, starts_with
from upscale.images.encoding import Encoding, ResolvedEncoding
from upscale.images.image import Image, ImageSequence, Metadata
from upscale.images.metadata import exif

# Without a handler, Python prints libpng's remarks about ancillary chunks to standard error.
logging.getLogger("imagecodecs").addHandler(logging.NullHandler())

HEADER_END = 33
"""Position after the IHDR chunk."""

_TAIL_BYTES = 256 * 1024
_LEVEL = 4
_CUT_OFF_MESSAGES = ("Not enough image data", "too small")
# libpng allows sides of 2**31 - 1, but is built with this limit against hostile files.
_MAX_SIDE = 1_000_000
_MAX_16, _MAX_31 = 2**16 - 1, 2**31 - 1
_NUMBER_BYTES, _CHUNK_HEAD_BYTES = 4, 8
_FRAME_CONTROL = ">IIIIIHHBB"
_DEFAULT_DENOMINATOR = 100
_DISPOSALS: tuple[Disposal, ...] = ("keep", "clear", "restore")
_GREY_ALPHA, _COLOUR_ALPHA = 4, 6
_GREY_TYPES = (0, _GREY_ALPHA)
_DAMAGED = "is an animation with damaged frames"
_Pieces = list[tuple[int, int]]


def read_header(file: BinaryIO) -> Header:
    """Read size, orientation, frames and metadata; pixels are skipped.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: It is an iPhone PNG.
    """
    kinds: list[bytes] = []
    items = ((kinds.append(kind), (kind, body))[1] for kind, body in chunks(file))
    header = _header(items)
    is_whole = kinds[-1] == b"IEND"
    return header if is_whole else replace(header, notes=("its end marker is missing",))


def read_shape(file: BinaryIO) -> Header:
    """Read size and orientation from the start and the end of the file.

    Walking over the chunks of the pixels would read half of the file, since they are small.

    Raises:
        MalformedError: Damaged or cut off.
    """
    header = _header(takewhile(lambda item: item[0] != b"IDAT", chunks(file)))
    if header.metadata.exif:
        return header
    start = max(len(SIGNATURE), file.seek(0, 2) - _TAIL_BYTES)
    offset = content_at(file, start, _TAIL_BYTES).rfind(b"eXIf")
    if offset < 4:
        return header
    with suppress(MalformedError):
        block = next((body for _, body in chunks(file, start + offset - 4)), None)
        return replace(header, orientation=exif.orientation_of(exif.without_prefix(block)))
    return header


def decode(file: BinaryIO) -> Raster:
    """Decode the image, or the default image of an animation.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: A side is longer than libpng supports.
    """
    return decode_bytes(file.read())


def decode_bytes(data: bytes) -> Raster:
    """Decode the content of a PNG file.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: A side is longer than libpng supports.
    """
    if max(struct.unpack_from(">II", data, 16)) > _MAX_SIDE:
        raise UnsupportedError(f"has a side of more than {_MAX_SIDE} px")
    try:
        samples = imagecodecs.png_decode(data)
    except imagecodecs.PngError as error:
        if any(part in str(error) for part in _CUT_OFF_MESSAGES):
            raise MalformedError("is cut off") from error
        checksum = " (a checksum does not match)" if "CRC" in str(error) else ""
        raise MalformedError(f"is damaged{checksum}") from error
    return Raster.of(samples)


def salvage(file: BinaryIO) -> Raster:
    """Decode the rows before the damage; the others are black or transparent.

    Raises:
        MalformedError: No row can be decoded.
    """
    part = repaired(file.read())
    return replace(decode_bytes(part.data), damage=(part.damage,))


def salvage_frames(file: BinaryIO) -> Iterator[StoredFrame]:
    """Yield the frames of an APNG that may be cut off.

    Raises:
        MalformedError: A frame cannot be decoded.
    """
    header = read_header(file)
    patches = _patches(file, is_partial=True)
    if not patches:
        raise MalformedError(_DAMAGED)
    yield from composed(header, [patch for patch in patches if _is_inside(patch, header)])


def decode_frames(file: BinaryIO) -> Iterator[StoredFrame]:
    """Yield the frames of an APNG, without a default image that is not a frame.

    Raises:
        MalformedError: Damaged or cut off.
    """
    header = read_header(file)
    patches = _patches(file)
    if header.notes and len(patches) < header.frames:
        raise MalformedError("is cut off")
    if len(patches) != header.frames or not all(_is_inside(patch, header) for patch in patches):
        raise MalformedError("is damaged")
    yield from composed(header, patches)


def encode(image: Image, target: BinaryIO, encoding: ResolvedEncoding) -> None:
    """Encode uint8 or uint16 pixels with alpha and metadata."""
    del encoding
    plain = encode_plain(image)
    target.write(plain[:HEADER_END])
    target.write(metadata_chunks(image.metadata))
    target.write(plain[HEADER_END:])


def encode_plain(image: Image) -> memoryview:
    """Encode uint8 or uint16 pixels with alpha as a file without metadata."""
    samples = image.samples()
    shape = samples.shape if samples.shape[2] > 1 else samples.shape[:2]
    # imagecodecs uses strides even along sides of 1 px, where numpy leaves them undefined.
    samples = np.ascontiguousarray(samples).ravel().reshape(shape)
    # imagecodecs' own estimate is too small for narrow images: each row has a byte more, and each
    # chunk 12.
    most = 2 * HEADER_END + (samples.nbytes + len(samples)) * 129 // 128 + 1024
    return memoryview(imagecodecs.png_encode(samples, level=_LEVEL, out=most))


def encode_animation(animation: ImageSequence, target: BinaryIO, encoding: Encoding) -> None:
    """Encode an APNG; durations are stored as fractions of two 16-bit numbers.

    Raises:
        ValueError: The frames differ in size, depth or transparency.
    """
    del encoding
    count, number, control = 0, 0, 0
    for part in changed_parts(animation, step=1):
        plain = encode_plain(part.image)
        if count == 0:
            target.write(plain[:HEADER_END])
            control = target.tell()
            target.write(_animation_control(0, 0))
            target.write(metadata_chunks(part.metadata))
        target.write(_frame_control(number, part))
        compressed, number = _compressed_pixels(plain), number + 1
        if count == 0:
            target.write(chunk(b"IDAT", compressed))
        else:
            target.write(chunk(b"fdAT", struct.pack(">I", number) + compressed))
            number += 1
        count += 1
    target.write(chunk(b"IEND", b""))
    target.seek(control)
    target.write(_animation_control(count, animation.plays))
    target.seek(0, 2)


def _header(items: Iterable[tuple[bytes, bytes]]) -> Header:
    """Build the header from chunks."""
    size: tuple[int, int] | None = None
    metadata, frames, plays, notes, is_grey = Metadata(), 1, 1, (), False
    for kind, body in items:
        if kind == b"CgBI":
            raise UnsupportedError(
                "is an iPhone PNG (CgBI)",
                "convert it to a plain PNG first, for example with "
                "pngcrush -revert-iphone-optimizations",
            )
        if kind == b"IHDR" and len(body) == 13:
            size = size or struct.unpack_from(">II", body)
            is_grey = body[9] in _GREY_TYPES
        elif kind == b"acTL" and len(body) >= 8:
            frames, plays = struct.unpack_from(">II", body)
        # After the first text that is too large, texts are no longer decompressed.
        if notes and kind in TEXT_KINDS:
            continue
        try:
            metadata = add_metadata(metadata, kind, body)
        except TextsTooLargeError:
            notes = ("some of its metadata, which is extremely large, was left out",)
    if size is None or 0 in size:
        raise MalformedError("is damaged")
    orientation = exif.orientation_of(metadata.exif)
    metadata = with_calibrated_profile(metadata, is_grey=is_grey)
    return Header(*size, orientation, max(1, frames), plays, metadata, notes=notes)


@dataclass(slots=True)
class _Shared:
    """Content of IHDR, and whole chunks that apply to all frames."""

    ihdr: bytes = b""
    chunks: bytes = b""
    patches: list[Patch] = field(default_factory=list[Patch])


def _patches(file: BinaryIO, *, is_partial: bool = False) -> list[Patch]:
    """Find the chunks of each frame; compressed pixels are skipped.

    Args:
        file: The PNG file.
        is_partial: Whether to return the frames before a number that is not the next.

    Raises:
        MalformedError: Damaged.
    """
    shared, pieces, number = _Shared(), _Pieces(), 0
    for kind, position, length in chunk_positions(file):
        if kind in (b"fcTL", b"fdAT"):
            start = content_at(file, position, min(length, _NUMBER_BYTES))
            if start != struct.pack(">I", number):
                if not is_partial:
                    raise MalformedError(_DAMAGED)
                # Pixels of the last frame are missing.
                return shared.patches[:-1] if kind == b"fdAT" else shared.patches
            number += 1
        if kind == b"IHDR":
            shared.ihdr = verified_content(file, position, length)
        elif kind in (b"PLTE", b"tRNS"):
            shared.chunks += chunk(kind, verified_content(file, position, length))
        elif kind == b"fcTL":
            pieces = _Pieces()
            control = verified_content(file, position, length)
            shared.patches.append(_patch(file, control, shared, pieces))
        elif kind in (b"IDAT", b"fdAT"):
            pieces.append((position, length))
    return shared.patches


def _patch(file: BinaryIO, control: bytes, shared: _Shared, pieces: _Pieces) -> Patch:
    """Build the patch of an fcTL chunk; `pieces` is filled later."""
    numbers = struct.unpack(_FRAME_CONTROL, control)
    _, width, height, left, top, numerator, denominator, disposal, blend = numbers
    if 0 in (width, height) or disposal >= len(_DISPOSALS) or blend > 1:
        raise MalformedError("is damaged")
    has_alpha = shared.ihdr[9] in (_GREY_ALPHA, _COLOUR_ALPHA) or b"tRNS" in shared.chunks
    return Patch(
        left,
        top,
        width,
        height,
        seconds=Fraction(numerator, denominator or _DEFAULT_DENOMINATOR),
        disposal=_DISPOSALS[disposal],
        blends=blend == 1,
        opaque=not has_alpha,
        decode=lambda: _decode_patch(file, shared, (width, height), pieces),
    )


def _is_inside(patch: Patch, header: Header) -> bool:
    return patch.left + patch.width <= header.width and patch.top + patch.height <= header.height


def _decode_patch(
    file: BinaryIO, shared: _Shared, size: tuple[int, int], pieces: _Pieces
) -> Raster:
    """Decode the pixels of a frame as a PNG file of their own."""
    compressed: list[bytes] = []
    for position, length in pieces:
        body = verified_content(file, position, length)
        is_frame_data = content_at(file, position - 4, 4) == b"fdAT"
        compressed.append(body[_NUMBER_BYTES:] if is_frame_data else body)
    return decode_bytes(
        SIGNATURE
        + chunk(b"IHDR", struct.pack(">II", *size) + shared.ihdr[8:])
        + shared.chunks
        + chunk(b"IDAT", b"".join(compressed))
        + chunk(b"IEND", b"")
    )


def _animation_control(count: int, plays: int) -> bytes:
    return chunk(b"acTL", struct.pack(">II", count, min(plays, _MAX_31)))


def _frame_control(number: int, part: FramePart) -> bytes:
    """Return the fcTL chunk of a frame that is kept and replaces the pixels of the canvas."""
    # Both numbers have 16 bits: a long duration leaves less room for the denominator.
    limit = max(1, _MAX_16 // max(1, math.ceil(part.seconds)))
    seconds = min(part.seconds, Fraction(_MAX_16)).limit_denominator(limit)
    size = part.image.width, part.image.height
    duration = seconds.numerator, seconds.denominator
    body = struct.pack(_FRAME_CONTROL, number, *size, part.left, part.top, *duration, 0, 0)
    return chunk(b"fcTL", body)


def _compressed_pixels(plain: memoryview) -> bytes:
    """Return the compressed pixels of a PNG file without metadata."""
    pieces: list[memoryview] = []
    position = HEADER_END
    while position < len(plain):
        length, kind = struct.unpack_from(">I4s", plain, position)
        start = position + _CHUNK_HEAD_BYTES
        if kind == b"IDAT":
            pieces.append(plain[start : start + length])
        position = start + length + 4
    return b"".join(pieces)


register(
    Codec(
        name="png",
        label="PNG",
        suffixes=("png", "apng"),
        sniff=starts_with(SIGNATURE),
        read_header=read_header,
        read_shape=read_shape,
        decode=decode,
        decode_frames=decode_frames,
        salvage=Salvage(decode=salvage, decode_frames=salvage_frames),
        traits=Traits(
            depth=16,
            alpha="full",
            frames="animation",
            max_side=_MAX_SIDE,
            carries=frozenset(
                {
                    *("icc", "exif", "xmp", "iptc", "dpi", "comment", "cicp"),
                    *("texts", "modified", "calibration", "photoshop", "density_ratio"),
                }
            ),
        ),
        encode=encode,
        encode_sequence=encode_animation,
        rank=2,
    )
)
