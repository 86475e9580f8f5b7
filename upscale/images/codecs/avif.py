"""AVIF: 8 bits are read by Pillow; 10 and 12 bits, and all writing, go through imagecodecs.

Pillow reduces 10 and 12 bits to 8 and rewrites EXIF without maker notes; OpenCV halves the
resolution of colour; imagecodecs writes no metadata. EXIF, XMP and the profile are therefore added
to its files as items and a property. Animations of 8 bits are written by Pillow, since their frames
depend on each other.
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from PIL import AvifImagePlugin
from PIL import Image as PILImage

from upscale.images.animation import Clock, FramePart, frame_header, whole_frames
from upscale.images.codecs import pillow
from upscale.images.codecs.av1_header import coded_pixels
from upscale.images.codecs.base import Header, Raster, StoredFrame, UnsupportedError
from upscale.images.codecs.iso_boxes import (
    box,
    boxes,
    crop_of,
    full_box,
    is_avif,
    left_out,
    properties,
)
from upscale.images.codecs.registry import Codec, Traits, register
from upscale.images.encoding import Encoding, ResolvedEncoding
from upscale.images.image import Image, ImageSequence, Metadata
from upscale.images.metadata import cicp, exif, xmp
from upscale.images.pixels.depth import narrowed, stretched

_LAYOUT = imagecodecs.AVIF.PIXEL_FORMAT
_IDENTITY = 0
# Measured on a photograph: the slower speed saves a third of a lossless file, 2 % of a lossy one.
_LOSSLESS_SPEED, _SPEED = 6, 8
_LOSSLESS = 100
_PRIMARY_ITEM = 1
# Version 0 with positions and lengths of four bytes: the layout of `iloc` that libavif writes.
_ILOC_START = b"\0\0\0\0\x44\0"
_FOREVER = b"\xff" * 8
_MILLISECONDS = 1000
_MAX_31 = 2**31 - 1


def read_header(file: BinaryIO) -> Header:
    """Read size, frames, orientation, depth and metadata."""
    data = file.read()
    pil_image = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    # Pillow's `info` holds an EXIF block that it wrote anew, without maker notes and thumbnail.
    (width, height), frames, _, icc, block, orientation, packet = pil_image._decoder.get_info()  # pyright: ignore[reportPrivateUsage]
    primaries, transfer, matrix = _colour_numbers(data)
    decoded = max(width * height, coded_pixels(data))
    crop = crop_of(data, width, height) if frames == 1 else None
    if crop is not None:
        height, width = (part.stop - part.start for part in crop)
    bits, _ = _bits_and_grey(data)
    # The orientation of the container applies, not that of EXIF.
    metadata = Metadata(
        icc=icc or None,
        exif=exif.reset_orientation(exif.without_prefix(block or None)),
        xmp=xmp.reset_orientation(packet or None),
        cicp=None if icc else cicp.named(primaries, transfer),
    )
    return Header(
        width,
        height,
        orientation,
        frames,
        plays=_plays(data) if frames > 1 else 1,
        metadata=metadata,
        bits=bits if bits > 8 else None,
        # Only lossless files store red, green and blue without a colour transform.
        lossless=matrix == _IDENTITY,
        notes=tuple(left_out(data)),
        decoded_pixels=decoded,
    )


def decode(file: BinaryIO) -> Raster:
    """Decode the image; 10 and 12 bits are scaled to 16.

    Raises:
        MalformedError: Its crop is damaged.
    """
    data = file.read()
    pil_image = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    raster = _decoded(data, pil_image)
    # Decoders of AVIF leave the crop to the caller.
    crop = None if pil_image.is_animated else crop_of(data, *pil_image.size)
    if crop is None:
        return raster
    pixels = np.ascontiguousarray(raster.pixels[crop])
    alpha = None if raster.alpha is None else np.ascontiguousarray(raster.alpha[crop])
    return replace(raster, pixels=pixels, alpha=alpha)


def _decoded(data: bytes, pil_image: AvifImagePlugin.AvifImageFile) -> Raster:
    """Decode the whole image, without its crop."""
    bits, is_grey = _bits_and_grey(data)
    if bits == 8:
        raster = pillow.raster_of(pil_image)
        return Raster(raster.pixels[..., :1], raster.alpha) if is_grey else raster
    samples = imagecodecs.avif_decode(data)
    return Raster.of(stretched(samples, bits) if samples.dtype == np.uint16 else samples)


def decode_frames(file: BinaryIO) -> Iterator[StoredFrame]:
    """Yield the frames of an animation.

    Raises:
        UnsupportedError: It has more than 8 bits per sample, of which Pillow would keep 8.
    """
    header = read_header(file)
    if header.bits is not None:
        raise UnsupportedError(f"is an animation of {header.bits} bits per sample")
    file.seek(0)
    decoder: Any = AvifImagePlugin.AvifImageFile(file)._decoder  # pyright: ignore[reportPrivateUsage]
    for number in range(header.frames):
        # Pillow's `info` rounds durations to milliseconds.
        data, scale, _, duration = decoder.get_frame(number)
        samples = np.frombuffer(data, np.uint8).reshape(header.height, header.width, -1)
        seconds = Fraction(duration, scale)
        yield StoredFrame(frame_header(header, number), partial(Raster.of, samples), seconds)


def encode(image: Image, target: BinaryIO, encoding: ResolvedEncoding) -> None:
    """Encode uint8 pixels as they are, uint16 pixels with 10 or 12 bits."""
    samples, bits = image.samples(), 8
    if samples.dtype == np.uint16:
        bits = 10 if image.bits <= 10 else 12
        samples = narrowed(samples, bits)
    metadata = image.metadata
    primaries, transfer = metadata.cicp or (cicp.UNSPECIFIED if metadata.icc else cicp.SRGB)
    plain = imagecodecs.avif_encode(
        np.ascontiguousarray(samples),
        _LOSSLESS if encoding.lossless else min(encoding.quality, _LOSSLESS - 1),
        speed=_LOSSLESS_SPEED if encoding.lossless else _SPEED,
        bitspersample=bits,
        pixelformat=_LAYOUT.YUV400 if image.pixels.shape[2] == 1 else _LAYOUT.YUV444,
        primaries=primaries,
        transfer=transfer,
        numthreads=os.cpu_count(),
    )
    target.write(_with_metadata(bytes(plain), metadata))


def encode_animation(animation: ImageSequence, target: BinaryIO, encoding: Encoding) -> None:
    """Encode an animation of 8 bits; durations are rounded to milliseconds.

    The compressed frames stay in memory until the end.

    Raises:
        ValueError: It has more than 8 bits, must be lossless, or names a colour space by numbers;
            or the frames differ in size, depth or transparency.
    """
    parts = whole_frames(animation)
    first = next(parts)
    metadata, resolved = first.metadata, encoding.for_image(first.image, "avif")
    if encoding.lossless:
        raise ValueError("a lossless animation is not supported there")
    if first.image.depth > 8:
        raise ValueError("an animation of more than 8 bits is not supported there")
    if metadata.cicp and not metadata.icc:
        raise ValueError("an animation in a colour space without a profile is not supported there")
    clock = Clock(_MILLISECONDS, _MAX_31)
    durations = [clock.ticks(first.seconds)]
    file = io.BytesIO()
    _pil_image(first).save(
        file,
        "AVIF",
        save_all=True,
        append_images=[_RemainingFrames(parts, clock, durations)],
        duration=durations,
        quality=resolved.quality,
        subsampling="4:4:4",
        speed=_SPEED,
        icc_profile=metadata.icc or b"",
        exif=metadata.exif or b"",
        xmp=metadata.xmp or b"",
    )
    for kind, body in boxes(file.getvalue()):
        # Pillow always loops forever, which libavif states as infinite durations.
        once = sum(durations)
        total = struct.pack(">Q", once * animation.plays) if animation.plays else _FOREVER
        target.write(box(kind, body.replace(_FOREVER, total) if kind == b"moov" else body))


class _RemainingFrames:
    """Frames for Pillow's encoder in place of a list of images, computed when it requests them.

    Args:
        parts: The frames after the first.
        clock: Converts their durations.
        durations: List that each frame's duration is appended to.
    """

    def __init__(self, parts: Iterator[FramePart], clock: Clock, durations: list[int]) -> None:
        self._parts, self._clock, self._durations = parts, clock, durations

    def seek(self, number: int) -> None:
        """Advance to the next frame.

        Raises:
            EOFError: There are no more frames.
        """
        del number
        part = next(self._parts, None)
        if part is None:
            raise EOFError
        self._image = _pil_image(part)
        self.mode, self.size = self._image.mode, self._image.size
        self._durations.append(self._clock.ticks(part.seconds))

    def tobytes(self, *layout: str) -> bytes:
        """Return the samples of the current frame."""
        return self._image.tobytes(*layout)


def _pil_image(part: FramePart) -> PILImage.Image:
    return pillow.image_of(part.image).convert("RGB" if part.image.alpha is None else "RGBA")


def _plays(data: bytes) -> int:
    """Return how often the edit list of an animation fits into its track."""
    movie = dict(boxes(data)).get(b"moov", b"")
    track = dict(boxes(next((body for kind, body in boxes(movie) if kind == b"trak"), b"")))
    edits = dict(boxes(track.get(b"edts", b""))).get(b"elst")
    if edits is None:
        return 0
    head = track[b"tkhd"]
    (once,) = struct.unpack_from(">Q" if edits[0] else ">I", edits, 8)
    (total,) = struct.unpack_from(">Q" if head[0] else ">I", head, 28 if head[0] else 20)
    if not edits[3] & 1:
        return 1
    is_endless = total == (2**64 - 1 if head[0] else 2**32 - 1) or not once
    return 0 if is_endless else max(1, math.ceil(total / once))


def _bits_and_grey(data: bytes) -> tuple[int, bool]:
    """Return bits per sample, and whether the image is grey, from the codec's configuration.

    Tiled images and animations have it outside the primary item; then the first in the file is
    theirs.
    """
    body = dict(properties(data)).get(b"av1C") or data.partition(b"av1C")[2]
    is_high, is_twelve, is_grey = (bool(body[2] & bit) for bit in (0x40, 0x20, 0x10))
    return 8 + 2 * is_high + 2 * (is_high and is_twelve), is_grey


def _colour_numbers(data: bytes) -> tuple[int, int, int]:
    """Return the H.273 numbers of primaries, transfer function and matrix; 2 is unspecified."""
    for kind, body in properties(data):
        if kind == b"colr" and body[:4] == b"nclx" and len(body) >= 10:
            return struct.unpack_from(">HHH", body, 4)
    return 2, 2, 2


def _with_metadata(plain: bytes, metadata: Metadata) -> bytes:
    """Return a file with EXIF and XMP appended, and the entries for them in its head."""
    items = _items(metadata)
    parts = dict(boxes(plain))
    head = dict(boxes(parts[b"meta"][4:]))
    (count,) = struct.unpack_from(">H", head[b"iinf"], 4)
    numbers = range(count + 1, count + 1 + len(items))
    if items:
        head[b"iinf"] = _with_names(head[b"iinf"], numbers, list(items))
        links = (box(b"cdsc", struct.pack(">HHH", number, 1, _PRIMARY_ITEM)) for number in numbers)
        head[b"iref"] = head.get(b"iref", bytes(4)) + b"".join(links)
    if metadata.icc:
        head[b"iprp"] = _with_profile(head[b"iprp"], metadata.icc)
    locations, lengths = head[b"iloc"], [len(body) for body in items.values()]
    # The growth of the head depends on the number of locations, but not on their values.
    head[b"iloc"] = _shifted(locations, 0, numbers, lengths, 0)
    growth = len(_joined(head)) - len(parts[b"meta"])
    head[b"iloc"] = _shifted(locations, growth, numbers, lengths, len(plain) + growth + 8)
    parts[b"meta"] = _joined(head)
    extra = box(b"mdat", b"".join(items.values())) if items else b""
    return b"".join(box(kind, body) for kind, body in parts.items()) + extra


def _items(metadata: Metadata) -> Mapping[bytes, bytes]:
    """Return the content of metadata items by their type and name."""
    items: dict[bytes, bytes] = {}
    if metadata.exif:
        items[b"Exif\0"] = bytes(4) + metadata.exif
    if metadata.xmp:
        items[b"mime\0application/rdf+xml\0"] = metadata.xmp
    return items


def _joined(head: Mapping[bytes, bytes]) -> bytes:
    return bytes(4) + b"".join(box(kind, body) for kind, body in head.items())


def _with_names(body: bytes, numbers: range, names: list[bytes]) -> bytes:
    """Return the list of items (`iinf`) with more items."""
    added = (
        full_box(b"infe", struct.pack(">HH", number, 0) + name, version=2)
        for number, name in zip(numbers, names, strict=True)
    )
    return body[:4] + struct.pack(">H", numbers.stop - 1) + body[6:] + b"".join(added)


def _with_profile(body: bytes, icc: bytes) -> bytes:
    """Return the properties (`iprp`) with a profile for the image, whose entry is the first."""
    inner = dict(boxes(body))
    number = 1 + sum(1 for _ in boxes(inner[b"ipco"]))
    inner[b"ipco"] += box(b"colr", b"prof" + icc)
    associations = bytearray(inner[b"ipma"])
    end = 11 + associations[10]
    associations[10] += 1
    associations[end:end] = bytes((number,))
    inner[b"ipma"] = bytes(associations)
    return b"".join(box(kind, part) for kind, part in inner.items())


def _shifted(body: bytes, by: int, numbers: range, lengths: list[int], start: int) -> bytes:
    """Return the locations (`iloc`) shifted, and those of more items in a row from `start`."""
    if not body.startswith(_ILOC_START):
        raise ValueError("its layout is not the one expected of libavif")
    entries = [
        (item, source, parts, position + by, length)
        for item, source, parts, position, length in struct.iter_unpack(">HHHII", body[8:])
    ]
    for number, length in zip(numbers, lengths, strict=True):
        entries.append((number, 0, 1, start, length))
        start += length
    packed = b"".join(struct.pack(">HHHII", *entry) for entry in entries)
    return _ILOC_START + struct.pack(">H", len(entries)) + packed


register(
    Codec(
        name="avif",
        label="AVIF",
        suffixes=("avif", "avifs"),
        sniff=is_avif,
        read_header=read_header,
        decode=decode,
        decode_frames=decode_frames,
        traits=Traits(
            depth=12,
            alpha="full",
            frames="animation",
            lossy=True,
            max_side=65536,
            carries=frozenset({"icc", "exif", "xmp", "cicp"}),
        ),
        encode=encode,
        encode_sequence=encode_animation,
        rank=6,
    )
)
