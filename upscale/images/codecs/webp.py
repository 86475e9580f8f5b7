"""WebP: headers by walking over the chunks; pixels through Pillow.

Pillow reads the whole file to return its size. It would also collect all frames of an animation
before writing, so animations are assembled here from still images.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import BinaryIO

from PIL import WebPImagePlugin

from upscale.images.animation import Clock, FramePart, changed_parts, frame_header
from upscale.images.codecs import pillow
from upscale.images.codecs.base import Header, MalformedError, Raster, StoredFrame
from upscale.images.codecs.registry import Codec, Traits, register
from upscale.images.codecs.vp8_header import quality_of
from upscale.images.encoding import Encoding, ResolvedEncoding
from upscale.images.image import Image, ImageSequence, Metadata
from upscale.images.metadata import exif

_LOSSLESS_EFFORT = 60
_METHOD = 4
_METADATA_KINDS = (b"ICCP", b"EXIF", b"XMP ")
_PIXEL_KINDS = (b"ALPH", b"VP8 ", b"VP8L")
_SIZE_BYTES, _START_BYTES = 10, 100
_FRAME_HEAD_BYTES = 16
_RIFF_HEAD_BYTES, _CHUNK_HEAD_BYTES = 12, 8
_HAS_PROFILE, _HAS_ALPHA, _HAS_EXIF, _HAS_XMP, _IS_ANIMATED = 32, 16, 8, 4, 2
_REPLACES = 2
_MILLISECONDS = 1000
_MAX_16, _MAX_24, _MAX_FILE_BYTES = 2**16 - 1, 2**24 - 1, 2**32 - 2


def read_header(file: BinaryIO) -> Header:
    """Read size, frames, orientation, metadata, and the quality of the first lossy image.

    Raises:
        MalformedError: Damaged or cut off.
    """
    size: tuple[int, int] | None = None
    frames, plays, lossless = 0, 1, False
    quality: int | None = None
    blocks: dict[bytes, bytes] = {}
    for kind, body in _chunks(file):
        if kind in (b"VP8X", b"VP8 ", b"VP8L") and size is None:
            size = _size(kind, body)
        frames += kind == b"ANMF"
        pixel_kind, start = _first_chunk(body) if kind == b"ANMF" else (kind, body)
        lossless = lossless or pixel_kind == b"VP8L"
        if pixel_kind == b"VP8 " and quality is None:
            quality = quality_of(start)
        if kind == b"ANIM" and len(body) >= 6:
            plays = int.from_bytes(body[4:6], "little")
        if kind in _METADATA_KINDS:
            blocks.setdefault(kind, body)
    if size is None or 0 in size:
        raise MalformedError("is damaged")
    block = exif.without_prefix(blocks.get(b"EXIF"))
    metadata = Metadata(blocks.get(b"ICCP"), block, blocks.get(b"XMP "))
    orientation = exif.orientation_of(block)
    return Header(
        *size,
        orientation,
        max(1, frames),
        plays,
        metadata,
        quality=quality,
        lossless=lossless,
    )


def decode(file: BinaryIO) -> Raster:
    """Decode a still image."""
    return pillow.raster_of(WebPImagePlugin.WebPImageFile(file))


def decode_frames(file: BinaryIO) -> Iterator[StoredFrame]:
    """Yield the frames of an animation, composed by libwebp."""
    header = read_header(file)
    file.seek(0)
    pil_image = WebPImagePlugin.WebPImageFile(file)
    for number in range(header.frames):
        pil_image.seek(number)
        pil_image.load()
        seconds = Fraction(int(pil_image.info["duration"]), _MILLISECONDS)
        decode_frame = partial(pillow.raster_of, pil_image)
        yield StoredFrame(frame_header(header, number), decode_frame, seconds)


def encode(image: Image, target: BinaryIO, encoding: ResolvedEncoding) -> None:
    """Encode uint8 pixels; alpha and the colours under it stay exact even in lossy files."""
    metadata = image.metadata
    pillow.image_of(image).save(
        target,
        "WEBP",
        quality=_LOSSLESS_EFFORT if encoding.lossless else encoding.quality,
        lossless=encoding.lossless,
        method=_METHOD,
        exact=True,
        icc_profile=metadata.icc or b"",
        exif=metadata.exif or b"",
        xmp=metadata.xmp or b"",
    )


def encode_animation(animation: ImageSequence, target: BinaryIO, encoding: Encoding) -> None:
    """Encode an animation; durations are rounded to milliseconds, and `plays` ends at 65535.

    Raises:
        ValueError: The frames differ in size, depth or transparency, or exceed 4 GB.
    """
    clock, metadata = Clock(_MILLISECONDS, _MAX_24), Metadata()
    target.write(b"RIFF\0\0\0\0WEBP")
    for number, part in enumerate(changed_parts(animation, step=2)):
        if number == 0:
            metadata = part.metadata
            target.write(_animation_start(part, animation.plays))
        still = io.BytesIO()
        encode(part.image, still, encoding.for_image(part.image, "webp"))
        target.write(_frame_chunk(part, clock.ticks(part.seconds), still.getvalue()))
    if metadata.exif:
        target.write(_chunk(b"EXIF", metadata.exif))
    if metadata.xmp:
        target.write(_chunk(b"XMP ", metadata.xmp))
    size = target.tell()
    if size > _MAX_FILE_BYTES:
        raise ValueError("its frames exceed 4 GB")
    target.seek(4)
    target.write(struct.pack("<I", size - _CHUNK_HEAD_BYTES))
    target.seek(0, 2)


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of each chunk; the content of pixels is only its start."""
    end, size = 8 + struct.unpack("<4xI", file.read(8))[0], file.seek(0, 2)
    if end > size:
        raise MalformedError("is cut off")
    position = _RIFF_HEAD_BYTES
    while position + 8 <= end:
        file.seek(position)
        kind, length = struct.unpack("<4sI", file.read(8))
        if position + 8 + length > end:
            raise MalformedError("is cut off")
        yield kind, file.read(length if kind in _METADATA_KINDS else min(length, _START_BYTES))
        position += 8 + length + length % 2


def _first_chunk(frame: bytes) -> tuple[bytes, bytes]:
    """Return kind and content of the first chunk in a frame of an animation."""
    head, start = _FRAME_HEAD_BYTES, _FRAME_HEAD_BYTES + _CHUNK_HEAD_BYTES
    return frame[head : head + 4], frame[start:]


def _size(kind: bytes, body: bytes) -> tuple[int, int]:
    """Return width and height from the chunk that states them."""
    if kind == b"VP8X" and len(body) == _SIZE_BYTES:
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(body) >= _SIZE_BYTES and body[3:6] == b"\x9d\x01\x2a":
        width, height = int.from_bytes(body[6:8], "little"), int.from_bytes(body[8:10], "little")
        return width & 0x3FFF, height & 0x3FFF
    raise MalformedError("is damaged")


def _animation_start(part: FramePart, plays: int) -> bytes:
    """Return the chunks before the first frame."""
    metadata, image = part.metadata, part.image
    flags = _IS_ANIMATED | (_HAS_ALPHA if image.alpha is not None else 0)
    flags |= _HAS_PROFILE if metadata.icc else 0
    flags |= _HAS_EXIF if metadata.exif else 0
    flags |= _HAS_XMP if metadata.xmp else 0
    size = _three_bytes(image.width - 1) + _three_bytes(image.height - 1)
    profile = _chunk(b"ICCP", metadata.icc) if metadata.icc else b""
    control = struct.pack("<IH", 0, min(plays, _MAX_16))
    return _chunk(b"VP8X", struct.pack("<I", flags) + size) + profile + _chunk(b"ANIM", control)


def _frame_chunk(part: FramePart, milliseconds: int, still: bytes) -> bytes:
    """Return a frame that is kept and replaces the canvas, from a still without metadata."""
    image = part.image
    numbers = (part.left // 2, part.top // 2, image.width - 1, image.height - 1, milliseconds)
    head = b"".join(map(_three_bytes, numbers)) + bytes((_REPLACES,))
    pixels, position = b"", _RIFF_HEAD_BYTES
    while position < len(still):
        kind, length = struct.unpack_from("<4sI", still, position)
        end = position + _CHUNK_HEAD_BYTES + length + length % 2
        pixels += still[position:end] if kind in _PIXEL_KINDS else b""
        position = end
    return _chunk(b"ANMF", head + pixels)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _three_bytes(number: int) -> bytes:
    return number.to_bytes(3, "little")


register(
    Codec(
        name="webp",
        label="WebP",
        suffixes=("webp",),
        sniff=lambda start: start[:4] == b"RIFF" and start[8:12] == b"WEBP",
        read_header=read_header,
        decode=decode,
        decode_frames=decode_frames,
        traits=Traits(
            depth=8,
            grey=False,
            alpha="full",
            frames="animation",
            lossy=True,
            max_side=16383,
            carries=frozenset({"icc", "exif", "xmp"}),
        ),
        encode=encode,
        encode_sequence=encode_animation,
        rank=3,
    )
)
