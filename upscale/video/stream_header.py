"""How a stream is shown beyond its frames: stereo modes, 360-degree projections and crops.

PyAV exposes none of this. FFmpeg however writes it as elements into the header of a Matroska file,
whatever container it comes from, and reads it from there. So it is taken from the header that a
stream gets, and added to that of another stream, which is the template of the output.
"""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import av
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

STEREO_MODE = b"\x53\xb8"
PROJECTION = b"\x76\x70"
CROPS = (b"\x54\xbb", b"\x54\xaa", b"\x54\xcc", b"\x54\xdd")
"""Identifiers of PixelCropTop, -Bottom, -Left and -Right."""

_LARGEST_CROP = (1 << 32) - 1
_SHOWN = (STEREO_MODE, PROJECTION, *CROPS)
_EBML, _SEGMENT, _INFO = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x15\x49\xa9\x66"
_TRACKS, _TRACK, _VIDEO = b"\x16\x54\xae\x6b", b"\xae", b"\xe0"
_CLUSTER, _TIME, _BLOCK = b"\x1f\x43\xb6\x75", b"\xe7", b"\xa3"
_KEYFRAME = b"\x81\x00\x00\x80"
"""Head of a block of the first track at the time 0."""

Elements = Mapping[bytes, bytes]
"""Contents of Matroska elements by their identifiers."""


def matroska_header(stream: VideoStream) -> bytes:
    """Return the header that FFmpeg writes for a stream; empty if Matroska cannot hold it.

    Args:
        stream: Stream of an open container.
    """
    header = io.BytesIO()
    # Otherwise the header has random numbers, which may look like anything.
    options = {"fflags": "+bitexact"}
    with (
        suppress(ValueError, FFmpegError),
        av.open(header, "w", format="matroska", container_options=options) as container,
    ):
        container.add_stream_from_template(stream, opaque=True)
        container.start_encoding()
    return header.getvalue()


def shown_elements(header: bytes) -> dict[bytes, bytes]:
    """Return the stereo mode, projection and crops of a header of `matroska_header`.

    Args:
        header: The header; one that is cut off has none.

    Example:
        >>> shown_elements(b"")
        {}
    """
    try:
        video = dict(_children(_inside(header, _SEGMENT, _TRACKS, _TRACK, _VIDEO)))
    except (KeyError, IndexError):
        return {}
    return {kind: video[kind] for kind in _SHOWN if kind in video}


def scaled(elements: Elements, across: float, down: float) -> dict[bytes, bytes]:
    """Return elements for frames of another size.

    Args:
        elements: Elements of `shown_elements`.
        across: Width of the new frames divided by that of the old ones.
        down: Height of the new frames divided by that of the old ones.

    Example:
        >>> scaled({CROPS[2]: bytes([3])}, 2.0, 4.0) == {CROPS[2]: bytes([0, 0, 0, 6])}
        True
    """
    factors = dict(zip(CROPS, (down, down, across, across), strict=True))
    return {
        kind: content
        if kind not in factors
        else min(round(int.from_bytes(content) * factors[kind]), _LARGEST_CROP).to_bytes(4)
        for kind, content in elements.items()
    }


def shown_size(width: int, height: int, elements: Elements) -> tuple[int, int]:
    """Return the size of what is left of a frame after the crop of `elements`."""
    top, bottom, left, right = (int.from_bytes(elements.get(kind, b"")) for kind in CROPS)
    return width - left - right, height - top - bottom


@contextmanager
def shown_with(
    stream: VideoStream, elements: Elements, packet: Packet[Any]
) -> Generator[VideoStream]:
    """Yield a template for an output stream that is like another one, but has these elements.

    Args:
        stream: Stream with the codec's parameters.
        elements: Elements that the new stream gets.
        packet: First packet of the stream.

    Raises:
        FFmpegError, KeyError, IndexError: Matroska cannot hold the stream.
    """
    header = matroska_header(stream)
    track = b"".join(
        _element(kind, content + _joined(elements) if kind == _VIDEO else content)
        for kind, content in _children(_inside(header, _SEGMENT, _TRACKS, _TRACK))
    )
    block = _KEYFRAME + memoryview(packet).tobytes()
    segment = (
        _element(_INFO, _inside(header, _SEGMENT, _INFO))
        + _element(_TRACKS, _element(_TRACK, track))
        + _element(_CLUSTER, _element(_TIME, b"\x00") + _element(_BLOCK, block))
    )
    content = _element(_EBML, _inside(header, _EBML)) + _element(_SEGMENT, segment)
    with av.open(io.BytesIO(content)) as container:
        yield container.streams.video[0]


def _joined(elements: Elements) -> bytes:
    return b"".join(_element(kind, content) for kind, content in elements.items())


def _inside(data: bytes, *path: bytes) -> bytes:
    for kind in path:
        data = dict(_children(data))[kind]
    return data


def _children(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield identifiers and contents of elements; one of unknown length is the last."""
    start = 0
    while start < len(data):
        kind_length = 9 - data[start].bit_length()
        kind = data[start : start + kind_length]
        start += kind_length
        bits = 7 * (9 - data[start].bit_length())
        size = int.from_bytes(data[start : start + bits // 7]) & ((1 << bits) - 1)
        start += bits // 7
        end = len(data) if size == (1 << bits) - 1 else start + size
        yield kind, data[start:end]
        start = end


def _element(kind: bytes, content: bytes) -> bytes:
    return kind + (1 << 56 | len(content)).to_bytes(8) + content
