"""PBM, PGM, PPM, PAM and PFM of 1 to 16 bits and floats, only read.

Pillow reduces 16-bit colour to 8 bits, OpenCV does not scale samples to the stated maximum, and
imagecodecs has no decoder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from upscale.images.codecs.base import Header, MalformedError, Raster, UnsupportedError
from upscale.images.codecs.pillow import raster_of_cmyk
from upscale.images.codecs.registry import Codec, register
from upscale.images.image import Pixels
from upscale.images.pixels.depth import scaled

_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_SIZE = re.compile(rb"P([1-6Ff])" + _GAP + rb"(\d{1,10})" + _GAP + rb"(\d{1,10})")
_SCALE = re.compile(_GAP + rb"([-+.\deE]{1,30})")
_PAM, _PAM_END, _PAM_KEYS = b"P7", b"\nENDHDR", (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")
_HEAD_BYTES = 64 * 1024
_BITS, _COLOURS, _FLOATS, _TEXT = b"14", b"36F", b"Ff", b"123"


@dataclass(frozen=True, slots=True)
class _Head:
    """Numbers before the samples, which begin at byte `start`."""

    kind: bytes
    width: int
    height: int
    scale: float
    start: int
    channels: int
    tuples: bytes = b""


def sniff(start: bytes) -> bool:
    """Detect a file by its magic number and the white space after it."""
    if start.startswith((_PAM + b"\n", _PAM + b"\r\n")):
        return True
    return start[:1] == b"P" and start[1:2] in b"123456Ff" and start[2:3].isspace()


def read_header(file: BinaryIO) -> Header:
    """Read size and depth.

    Raises:
        MalformedError: Damaged or cut off.
    """
    head = _head(file.read(_HEAD_BYTES))
    bits = 0 if head.kind in _FLOATS else int(head.scale).bit_length()
    return Header(
        head.width,
        head.height,
        bits=bits if 8 < bits < 16 else None,
        has_floats=head.kind in _FLOATS,
    )


def decode(file: BinaryIO) -> Raster:
    """Decode the image; samples are scaled to the whole range of their type.

    Raises:
        MalformedError: Damaged or cut off.
        UnsupportedError: It has more than 16 bits per sample.
    """
    data = file.read()
    head = _head(data[:_HEAD_BYTES])
    if head.kind in _FLOATS:
        # Rows are stored from the bottom up; a negative scale means little-endian.
        samples = _numbers(data, head, "<f4" if head.scale < 0 else ">f4").astype(np.float32)
        return Raster.of(samples[::-1])
    if head.kind in _BITS:
        return Raster.of(np.where(_bits(data, head), 0, 255).astype(np.uint8))
    if not 1 <= head.scale <= 65535:
        raise UnsupportedError("has more than 16 bits per sample")
    if head.channels > 4:
        raise UnsupportedError(f"has {head.channels} channels, which is not supported")
    samples = _numbers(data, head, "u1" if head.scale < 256 else ">u2")
    kind = np.dtype(np.uint8 if head.scale < 256 else np.uint16)
    samples = scaled(samples, int(head.scale), kind)
    return raster_of_cmyk(samples, None) if head.tuples == b"CMYK" else Raster.of(samples)


def _head(data: bytes) -> _Head:
    """Read the numbers at the start; comments between them are skipped."""
    if data.startswith(_PAM):
        return _pam_head(data)
    size = _SIZE.match(data)
    if size is None:
        raise MalformedError("is damaged")
    kind, end, scale = size[1], size.end(), 1.0
    if kind not in _BITS:
        match = _SCALE.match(data, end)
        if match is None:
            raise MalformedError("is damaged")
        scale, end = float(match[1]), match.end()
    width, height = int(size[2]), int(size[3])
    if 0 in (width, height):
        raise MalformedError("is damaged")
    return _Head(kind, width, height, scale, end + 1, 3 if kind in _COLOURS else 1)


def _pam_head(data: bytes) -> _Head:
    """Read the lines at the start of a PAM file."""
    text, mark, _ = data.partition(_PAM_END)
    if not mark:
        raise MalformedError("is cut off")
    lines = [line.split(None, 1) for line in text.splitlines()[1:]]
    values = {line[0]: line[1].strip() for line in lines if len(line) == 2 and line[0][:1] != b"#"}
    try:
        width, height, depth, top = (int(values[key]) for key in _PAM_KEYS)
    except (KeyError, ValueError):
        raise MalformedError("is damaged") from None
    if min(width, height, depth, top) < 1:
        raise MalformedError("is damaged")
    start = len(text) + data[len(text) :].index(b"\n", 1) + 1
    return _Head(b"7", width, height, top, start, depth, values.get(b"TUPLTYPE", b""))


def _numbers(data: bytes, head: _Head, kind: str) -> Pixels:
    """Return samples of shape (H, W, C), from text or binary."""
    count = head.height * head.width * head.channels
    if head.kind in _TEXT:
        samples = np.fromstring(data[head.start :].decode("ascii"), np.int64, count, sep=" ")
        samples = samples.clip(0, 65535).astype(np.uint16)
    else:
        body = data[head.start :][: count * np.dtype(kind).itemsize]
        samples = np.frombuffer(body, kind, len(body) // np.dtype(kind).itemsize)
    if samples.size < count:
        raise MalformedError("is cut off")
    return samples.reshape(head.height, head.width, head.channels)


def _bits(data: bytes, head: _Head) -> Pixels:
    """Return samples of shape (H, W) of one bit; 1 is black."""
    if head.kind in _TEXT:
        row, digits = head.width, data[head.start :].translate(None, b" \t\r\n\v\f")
        samples = np.frombuffer(digits[: row * head.height], np.uint8) & 1
    else:
        row = (head.width + 7) // 8 * 8
        samples = np.unpackbits(np.frombuffer(data[head.start :][: row // 8 * head.height], "u1"))
    if samples.size < row * head.height:
        raise MalformedError("is cut off")
    return samples.reshape(head.height, row)[:, : head.width]


register(
    Codec(
        name="pnm",
        label="PNM",
        suffixes=("pnm", "pbm", "pgm", "ppm", "pam", "pfm"),
        sniff=sniff,
        read_header=read_header,
        decode=decode,
    )
)
