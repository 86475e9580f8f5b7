"""GIF: read by walking over its blocks, each frame decoded by Pillow; each frame has a palette.

Walking over the blocks counts the frames and detects a file that is cut off before its first half
is processed. Pillow composes and writes animations differently from browsers (see
`upscale.images.animation`), and finds the nearest colour of a palette only approximately.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain, islice, pairwise
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin
from PIL import Image as PILImage

from upscale.images.animation import (
    Clock,
    Disposal,
    FramePart,
    Patch,
    composed,
    difference,
    whole_frames,
)
from upscale.images.codecs import pillow
from upscale.images.codecs.base import Header, MalformedError, Raster, StoredFrame
from upscale.images.codecs.registry import Codec, Salvage, Traits, register, starts_with
from upscale.images.encoding import Encoding, ResolvedEncoding
from upscale.images.image import Image, ImageSequence, Metadata, Pixels
from upscale.images.metadata.comments import text_of
from upscale.images.metadata.density import ratio_of

TRAILER = b";"
"""Last byte of a file."""

_SIGNATURE = b"GIF8"
_IMAGE, _EXTENSION, _PADDING = b",", b"!", b"\0"
_CONTROL, _COMMENT, _APPLICATION = b"\xf9", b"\xfe", b"\xff"
_XMP = b"XMP DataXMP"
# Lengths of blocks with which a reader finds the end from each character of a packet.
_XMP_END = b"\1" + bytes(range(255, -1, -1)) + b"\0"
_XMP_END_MARK = 16
# Position of the aspect ratio of pixels: (value + 15) / 64.
_ASPECT_POSITION, _ASPECT_OFFSET, _ASPECT_UNIT = 12, 15, 64
_LOOPING = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_HEAD_BYTES, _DESCRIPTOR_BYTES, _BLOCK_BYTES = 13, 9, 255
_NO_CONTROL = bytes(4)
_HAS_PALETTE, _INTERLACED, _HAS_TRANSPARENCY = 128, 64, 1
_COLOURS = 256
_CENTISECONDS = 100
_MAX_16 = 2**16 - 1
_KEEP, _CLEAR = 1, 2
# Some programs write 4 where the standard has 3; browsers treat both alike.
_DISPOSALS: dict[int, Disposal] = {2: "clear", 3: "restore", 4: "restore"}
_VISIBLE = 128
_MIN_AREA = 64
"""A colour that covers more than 1/64 of a dithered image is kept exactly."""


def read_header(file: BinaryIO) -> Header:
    """Read size, frames, plays and comments.

    Raises:
        MalformedError: Damaged or cut off.
    """
    return _header(_walk(file))


def salvage_header(file: BinaryIO) -> Header:
    """Read the header of a file that is damaged or cut off, with the frames that are there.

    Raises:
        MalformedError: There is no frame.
    """
    return _header(_walk(file, is_partial=True))


def read_shape(file: BinaryIO) -> Header:
    """Read the size, without the pixels of the first frame.

    Raises:
        MalformedError: Damaged or cut off.
    """
    return _header(_walk(file, 1))


def decode(file: BinaryIO) -> Raster:
    """Decode the first frame.

    Raises:
        MalformedError: Damaged or cut off.
    """
    stored = _walk(file, 1)
    return next(composed(_header(stored), stored.patches)).decode()


def decode_frames(file: BinaryIO) -> Iterator[StoredFrame]:
    """Yield the frames of an animation.

    Raises:
        MalformedError: Damaged or cut off.
    """
    stored = _walk(file)
    return composed(_header(stored), stored.patches)


def salvage(file: BinaryIO) -> Raster:
    """Decode what there is of the first frame.

    Raises:
        MalformedError: There is no frame.
    """
    stored = _walk(file, is_partial=True)
    raster = next(composed(_header(stored), stored.patches)).decode()
    return replace(raster, damage=("a part of it could not be decoded",))


def salvage_frames(file: BinaryIO) -> Iterator[StoredFrame]:
    """Yield the frames of an animation that is damaged or cut off.

    Raises:
        MalformedError: A frame cannot be decoded.
    """
    stored = _walk(file, is_partial=True)
    return composed(replace(_header(stored), damage=()), stored.patches)


def encode(image: Image, target: BinaryIO, encoding: ResolvedEncoding) -> None:
    """Encode uint8 pixels as one frame; see `image_block`."""
    del encoding
    target.write(file_start(image.width, image.height, 1, image.metadata))
    target.write(image_block(image))
    target.write(TRAILER)


def encode_animation(animation: ImageSequence, target: BinaryIO, encoding: Encoding) -> None:
    """Encode an animation; durations are rounded to hundredths of a second.

    Where a visible pixel becomes transparent, the previous frame is cleared; both frames are then
    written whole.

    Raises:
        ValueError: The frames differ in size, depth or transparency.
    """
    del encoding
    clock, before, is_cleared = Clock(_CENTISECONDS, _MAX_16), None, False
    for frame, following in pairwise(chain(_binary_frames(animation), (None,))):
        assert frame is not None
        image = frame.image
        if before is None:
            head = file_start(image.width, image.height, animation.plays, frame.metadata)
            target.write(head)
        clears = following is not None and _has_new_transparency(image, following.image)
        part = frame if is_cleared or clears else difference(before, frame, 1)
        disposal = _CLEAR if clears else _KEEP
        ticks, position = clock.ticks(frame.seconds), (part.left, part.top)
        target.write(image_block(part.image, ticks, disposal=disposal, position=position))
        before, is_cleared = frame, clears
    target.write(TRAILER)


def file_start(width: int, height: int, plays: int, metadata: Metadata | None) -> bytes:
    """Return everything before the first image block.

    Args:
        width: Width of the canvas in pixels.
        height: Height of the canvas in pixels.
        plays: Number of times that an animation is shown; 0 is forever, 1 writes no loop.
        metadata: Metadata of the file.
    """
    metadata = metadata or Metadata()
    head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, _aspect(metadata))
    if plays != 1:
        repeats = min(max(0, plays - 1), _MAX_16)
        head += b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", repeats, 0)
    if metadata.comment:
        head += b"!\xfe" + _sub_blocks(metadata.comment.encode())
    if metadata.xmp:
        head += b"!\xff\x0b" + _XMP + metadata.xmp + _XMP_END
    return head


def _aspect(metadata: Metadata) -> int:
    """Return the nearest aspect ratio of pixels that a file can state; 0 for square pixels."""
    if metadata.density_ratio is None:
        return 0
    across, down = metadata.density_ratio
    return min(max(1, round(_ASPECT_UNIT * down / across - _ASPECT_OFFSET)), 255)


def image_block(
    image: Image,
    centiseconds: int = 0,
    *,
    disposal: int = 0,
    position: tuple[int, int] = (0, 0),
) -> bytes:
    """Return a frame with a palette of its own.

    Up to 256 colours are kept exactly, more are dithered to 256; transparency counts as a colour.
    Pixels that are less than half opaque become transparent.

    Args:
        image: Image with uint8 pixels.
        centiseconds: Duration of the frame in hundredths of a second.
        disposal: Treatment after the frame: 0 or 1 keeps it, 2 clears it, 3 restores the pixels.
        position: Left and top on the canvas.
    """
    hidden = None if image.alpha is None else image.alpha < _VISIBLE
    # Browsers clear to transparent; some programs need a transparent colour for that.
    if hidden is not None and not hidden.any() and disposal != _CLEAR:
        hidden = None
    limit = _COLOURS if hidden is None else _COLOURS - 1
    colour = pillow.image_of(Image(image.pixels)).convert("RGB")
    palette, indices = _exact_palette(colour, hidden, limit) or _dithered(colour, limit)
    transparency = None if hidden is None else len(palette) // 3
    if hidden is not None and transparency is not None:
        indices[hidden] = transparency
        palette += bytes(3)
    pil_image = PILImage.fromarray(indices)
    pil_image.putpalette(palette)
    blocks = GifImagePlugin.getdata(
        pil_image,
        position,
        duration=10 * centiseconds,
        disposal=disposal,
        transparency=transparency,
        include_color_table=True,
    )
    return b"".join(blocks)


@dataclass(slots=True)
class _Stored:
    """Content of a file; an animation without a loop extension is shown once."""

    width: int
    height: int
    palette: bytes
    plays: int = 1
    aspect: int = 0
    comments: list[bytes] = field(default_factory=list[bytes])
    xmp: bytes | None = None
    patches: list[Patch] = field(default_factory=list[Patch])
    complete: int = 0
    has_end: bool = True
    has_more: bool = False
    is_partial: bool = False


def _walk(file: BinaryIO, max_frames: int | None = None, *, is_partial: bool = False) -> _Stored:
    """Walk over a file to its end, or to the start of its last requested frame.

    Args:
        file: The GIF file.
        max_frames: Number of frames after which to stop.
        is_partial: Whether to return the frames before a damage; the first may be incomplete.
    """
    file.seek(0)
    head = _read(file, _HEAD_BYTES)
    width, height, flags = struct.unpack_from("<HHB", head, 6)
    stored = _Stored(width, height, _palette(file, flags), aspect=head[_ASPECT_POSITION])
    try:
        for patch in islice(_walk_patches(file, stored), max_frames):
            stored.patches.append(patch)
    except MalformedError:
        if not is_partial or not stored.patches:
            raise
        stored.is_partial = True
        stored.patches = stored.patches[: max(1, stored.complete)]
    if not stored.patches:
        raise MalformedError("is damaged")
    first = stored.patches[0]
    # Viewers enlarge the canvas for a first frame that exceeds it.
    stored.width = max(stored.width, first.left + first.width)
    stored.height = max(stored.height, first.top + first.height)
    return stored


def _header(stored: _Stored) -> Header:
    if 0 in (stored.width, stored.height):
        raise MalformedError("is damaged")
    comment = text_of(b"\n".join(stored.comments))
    return Header(
        stored.width,
        stored.height,
        frames=len(stored.patches),
        plays=stored.plays,
        metadata=Metadata(xmp=stored.xmp, comment=comment, density_ratio=_density_ratio(stored)),
        notes=_notes(stored),
        damage=_damage(stored),
    )


def _notes(stored: _Stored) -> tuple[str, ...]:
    if stored.has_more:
        return ("another GIF in it was left out",)
    return () if stored.has_end else ("its end marker is missing",)


def _density_ratio(stored: _Stored) -> tuple[float, float] | None:
    """Return the ratio of densities from the aspect ratio of pixels; 0 is unknown."""
    return ratio_of(_ASPECT_UNIT, stored.aspect + _ASPECT_OFFSET) if stored.aspect else None


def _damage(stored: _Stored) -> tuple[str, ...]:
    """Return a clause about frames that are missing; that of an incomplete frame is not here."""
    if not stored.is_partial or not stored.complete:
        return ()
    count = stored.complete
    return (
        f"everything after its first {count} frames is missing"
        if count > 1
        else "everything after its first frame is missing",
    )


def _walk_patches(file: BinaryIO, stored: _Stored) -> Iterator[Patch]:
    """Yield the frames; properties of the whole file are added to `stored`."""
    control = _NO_CONTROL
    while (kind := file.read(1)) != TRAILER:
        if not kind:
            if not stored.complete:
                raise MalformedError("is cut off")
            stored.has_end = False
            return
        if kind == _IMAGE:
            start = file.tell()
            yield _patch(file, control, stored)
            file.seek(start + _DESCRIPTOR_BYTES - 1)
            _palette(file, _read(file, 1)[0])
            _read(file, 1)
            _skip_blocks(file)
            stored.complete += 1
            control = _NO_CONTROL
        elif kind == _EXTENSION:
            control = _read_extension(file, stored) or control
        elif kind != _PADDING:
            # Readers show the first of several GIFs that were joined.
            stored.has_more = stored.complete > 0 and kind + file.read(3) == _SIGNATURE
            if not stored.has_more:
                raise MalformedError("is damaged")
            return


def _read_extension(file: BinaryIO, stored: _Stored) -> bytes | None:
    """Read an extension; return the content of one that controls the next frame."""
    label = _read(file, 1)
    if label not in (_CONTROL, _COMMENT, _APPLICATION):
        _skip_blocks(file)
        return None
    blocks = list(_blocks(file))
    if label == _COMMENT:
        stored.comments.append(b"".join(blocks))
    elif label == _APPLICATION and blocks[:1] == [_XMP]:
        # The packet is not stored in blocks: their lengths are characters of it.
        packet = b"".join(bytes((len(block),)) + block for block in blocks[1:])
        stored.xmp = packet.partition(_XMP_END[:_XMP_END_MARK])[0] or None
    elif label == _APPLICATION and blocks[:1] and blocks[0] in _LOOPING:
        for block in blocks[1:]:
            if len(block) >= 3 and block[0] & 7 == 1:
                repeats = int.from_bytes(block[1:3], "little")
                stored.plays = repeats and repeats + 1
    elif label == _CONTROL and blocks and len(blocks[0]) >= len(_NO_CONTROL):
        return blocks[0]
    return None


def _patch(file: BinaryIO, control: bytes, stored: _Stored) -> Patch:
    """Read an image descriptor; `control` is the content of the extension before it."""
    start = file.tell()
    left, top, width, height = struct.unpack("<HHHH", _read(file, _DESCRIPTOR_BYTES - 1))
    flags, delay, index = struct.unpack_from("<BHB", control)
    transparency = index if flags & _HAS_TRANSPARENCY else None
    width, height = width or stored.width, height or stored.height
    return Patch(
        left,
        top,
        width,
        height,
        seconds=Fraction(delay, _CENTISECONDS),
        disposal=_DISPOSALS.get(flags >> 2 & 7, "keep"),
        blends=True,
        opaque=transparency is None,
        decode=lambda: _decode_patch(file, start, (width, height), stored, transparency),
    )


def _decode_patch(
    file: BinaryIO, start: int, size: tuple[int, int], stored: _Stored, transparency: int | None
) -> Raster:
    """Decode the frame whose descriptor is at `start`, as a GIF of its own."""
    file.seek(start + _DESCRIPTOR_BYTES - 1)
    flags = _read(file, 1)[0]
    palette = _palette(file, flags) or stored.palette
    is_cut_off = stored.is_partial and not stored.complete
    blocks = _blocks_there(file) if is_cut_off else _blocks(file)
    compressed = _read(file, 1) + b"".join(bytes((len(block),)) + block for block in blocks)
    descriptor = _IMAGE + struct.pack("<HHHHB", 0, 0, *size, flags & _INTERLACED)
    head = b"GIF89a" + struct.pack("<HHBBB", *size, 0, 0, 0)
    alone = head + descriptor + compressed + b"\0" + TRAILER
    pil_image = GifImagePlugin.GifImageFile(io.BytesIO(alone))
    if is_cut_off:
        with suppress(OSError):
            pil_image.load()
        # Pillow keeps the pixels that it has decoded.
        pil_image.tile = []
    table = np.zeros((_COLOURS, 4), np.uint8)
    table[:, 3] = 255
    colours = np.frombuffer(palette, np.uint8).reshape(-1, 3)
    table[: len(colours), :3] = colours
    if transparency is not None:
        table[transparency] = 0
    # Without a palette, Pillow returns the indices as grey levels.
    return Raster.of(table[np.asarray(pil_image)])


def _palette(file: BinaryIO, flags: int) -> bytes:
    """Read the palette that follows if the flags say so."""
    return _read(file, 6 << (flags & 7)) if flags & _HAS_PALETTE else b""


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content of sub-blocks up to an empty one."""
    while length := _read(file, 1)[0]:
        yield _read(file, length)


def _blocks_there(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content of sub-blocks up to the end of the file."""
    while length := int.from_bytes(file.read(1), "big"):
        block = file.read(length)
        if block:
            yield block


def _skip_blocks(file: BinaryIO) -> None:
    """Skip sub-blocks up to an empty one."""
    while length := _read(file, 1)[0]:
        _read(file, length)


def _read(file: BinaryIO, length: int) -> bytes:
    content = file.read(length)
    if len(content) < length:
        raise MalformedError("is cut off")
    return content


def _sub_blocks(data: bytes) -> bytes:
    """Return data as sub-blocks of at most 255 bytes, and an empty one at the end."""
    parts = (data[at : at + _BLOCK_BYTES] for at in range(0, len(data), _BLOCK_BYTES))
    return b"".join(bytes((len(part),)) + part for part in parts) + b"\0"


def _binary_frames(animation: ImageSequence) -> Iterator[FramePart]:
    """Yield frames whose pixels are either opaque, or transparent and black."""
    for part in whole_frames(animation):
        image = part.image
        if image.alpha is not None:
            visible = image.alpha >= _VISIBLE
            pixels = image.pixels * visible[..., None]
            image = replace(image, pixels=pixels, alpha=visible * np.uint8(255))
        yield replace(part, image=image)


def _has_new_transparency(before: Image, after: Image) -> bool:
    """Return whether a visible pixel becomes transparent."""
    if before.alpha is None or after.alpha is None:
        return False
    return bool((before.alpha > after.alpha).any())


def _exact_palette(
    pil_image: PILImage.Image, hidden: NDArray[np.bool_] | None, limit: int
) -> tuple[bytes, Pixels] | None:
    """Return the visible colours as a palette, and indices; None when there are more colours."""
    packed = _packed_colours(pil_image)
    if hidden is not None:
        packed[hidden] = 0 if hidden.all() else packed[~hidden][0]
    # A few rows identify most images with too many colours, without sorting all pixels.
    if len(np.unique(packed[:: max(1, len(packed) // 16)])) > limit:
        return None
    colours, indices = np.unique(packed, return_inverse=True)
    if len(colours) > limit:
        return None
    return _palette_of(colours), indices.reshape(packed.shape).astype(np.uint8)


def _dithered(pil_image: PILImage.Image, limit: int) -> tuple[bytes, Pixels]:
    """Return a palette of the best colours, and indices with the errors diffused.

    The colours of large flat areas are kept exactly; averages would tint them.
    """
    packed = _packed_colours(pil_image)
    colours, counts = np.unique(packed, return_counts=True)
    flat = colours[counts * _MIN_AREA > packed.size]
    best = pil_image.quantize(limit - len(flat), PILImage.Quantize.MEDIANCUT)
    palette = (_palette_of(flat) + bytes(best.getpalette() or ()))[: 3 * limit]
    target = PILImage.new("P", (1, 1))
    target.putpalette(palette)
    indices = np.array(pil_image.quantize(palette=target, dither=PILImage.Dither.FLOYDSTEINBERG))
    # Pillow finds the nearest colour to within four levels only.
    for index, colour in enumerate(flat):
        indices[packed == colour] = index
    return palette, indices


def _packed_colours(pil_image: PILImage.Image) -> NDArray[Any]:
    """Return the colour of each pixel as one number."""
    parts = np.asarray(pil_image).astype(np.uint32)
    return parts[..., 0] << 16 | parts[..., 1] << 8 | parts[..., 2]


def _palette_of(colours: NDArray[Any]) -> bytes:
    """Return a palette of colours that are given as numbers."""
    parts = np.stack((colours >> 16, colours >> 8 & 255, colours & 255), 1)
    return parts.astype(np.uint8).tobytes()


register(
    Codec(
        name="gif",
        label="GIF",
        suffixes=("gif",),
        sniff=starts_with(b"GIF87a", b"GIF89a"),
        read_header=read_header,
        read_shape=read_shape,
        decode=decode,
        decode_frames=decode_frames,
        salvage=Salvage(decode=salvage, read_header=salvage_header, decode_frames=salvage_frames),
        traits=Traits(
            depth=8,
            grey=False,
            alpha="binary",
            frames="animation",
            lossless=False,
            max_side=_MAX_16,
            carries=frozenset({"comment", "xmp", "density_ratio"}),
        ),
        encode=encode,
        encode_sequence=encode_animation,
        rank=7,
    )
)
