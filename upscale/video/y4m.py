"""Read and write YUV4MPEG2 (Y4M): frames without compression, for pipes between programs."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.error import FFmpegError

from upscale.errors import VideoError
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale.video.duplicates import RepeatFinder
from upscale.video.encoders import VideoCodec, choose_colour, choose_planes
from upscale.video.info import DEFAULT_MAX_PIXELS, Colour, FrameFormat, VideoFrame, VideoInfo
from upscale.video.planes import plane_format
from upscale.video.probe import describe

NAME = "standard input"

_FORMAT = "yuv4mpegpipe"
_MAX_LINE = 1024
_ANY_COLOUR = Colour("bt601", full_range=False)
_CHROMA_SITES = {1: "420mpeg2", 2: "420jpeg", 3: "420paldv"}
"""Names of 4:2:0 in 8 bits by FFmpeg's chroma location."""

_SUBSAMPLING = {(1, 1): "420", (1, 0): "422", (0, 0): "444", (2, 0): "411"}
_LEAST_DEEP = 9

_PLAIN = ("gray", "yuv420p", "yuv422p", "yuv444p", "yuv411p", "yuva444p")
_DEEP = tuple(
    f"{name}{depth}le"
    for name in ("yuv420p", "yuv422p", "yuv444p")
    for depth in (9, 10, 12, 14, 16)
) + tuple(f"gray{depth}le" for depth in (9, 10, 12, 16))

_READABLE = {
    "420": "yuv420p",
    **dict.fromkeys(_CHROMA_SITES.values(), "yuv420p"),
    **{name: f"yuv{name}p" for name in ("422", "444", "411")},
    **{"mono": "gray", "444alpha": "yuva444p"},
    **{each.removesuffix("le").removeprefix("yuv").replace("gray", "mono"): each for each in _DEEP},
}
"""Pixel formats by their names in Y4M."""

Y4M = VideoCodec(
    "y4m",
    "rawvideo",
    (_FORMAT,),
    packings=tuple((name, name) for name in (*_PLAIN, *_DEEP)),
    packings_only=True,
    rgb_and_grey=True,
    alpha=True,
)
"""The pixel formats of Y4M; it is no choice of `--codec`, because files need a container."""


def y4m_format(video: VideoInfo, pixel_format: str | None, size: tuple[int, int]) -> FrameFormat:
    """Choose the frames of an output.

    Args:
        video: Source video.
        pixel_format: Pixel format that the user named; None for that which loses least.
        size: Width and height of the output in pixels.

    Raises:
        UsageError: Y4M does not support the pixel format.
    """
    planes, _ = choose_planes(Y4M, video.planes, pixel_format)
    return FrameFormat(*size, planes, choose_colour(video, planes, Y4M))


def read_y4m(
    stream: BinaryIO, max_pixels: int = DEFAULT_MAX_PIXELS
) -> tuple[VideoInfo, Iterator[VideoFrame]]:
    """Read Y4M from a pipe, frame by frame.

    Args:
        stream: The pipe.
        max_pixels: Largest accepted width * height of a frame.

    Returns:
        The video without the times of its frames, and its frames, with their numbers as times.

    Raises:
        VideoError: The stream is not Y4M, its frames are too large, or there is none; while
            iterating, it ends in the middle of a frame.
    """
    header = stream.readline(_MAX_LINE)
    size = _size_of_frame(header, max_pixels)
    content = _frame(stream, size, 0)
    if content is None:
        raise VideoError(f"{NAME}: contains no frame; check the program that writes it")
    video = replace(_described(header, content), max_pixels=max_pixels)
    return video, _frames(stream, video, content, size)


def _size_of_frame(line: bytes, max_pixels: int) -> int:
    """Return the bytes of a frame by the line that begins a stream."""
    words = {word[:1]: word[1:] for word in reversed(line.decode("latin-1").split())}
    width, height = words.get("W", ""), words.get("H", "")
    is_number = all(text.isascii() and text.isdigit() for text in (width, height))
    if not line.startswith(b"YUV4MPEG2 ") or not line.endswith(b"\n") or not is_number:
        raise VideoError(
            f"{NAME}: is not Y4M; convert it with: ffmpeg -i IN -f yuv4mpegpipe -strict -1 -"
        )
    size = int(width), int(height)
    if not size[0] * size[1]:
        raise VideoError(f"{NAME}: has frames of no size; check the program that writes it")
    if size[0] * size[1] > max_pixels:
        raise VideoError(
            f"{NAME}: {width}x{height} exceeds the limit of {max_pixels} pixels; pass a larger"
            " --max-pixels if you trust it"
        )
    name = words.get("C", "420jpeg")
    if name not in _READABLE:
        raise VideoError(f"{NAME}: has frames of the unknown kind {printable(name)}; use yuv420p")
    planes = plane_format(_READABLE[name])
    shapes = FrameFormat(*size, planes, _ANY_COLOUR).plane_shapes()
    return sum(high * wide for high, wide in shapes) * (2 if planes.depth > 8 else 1)


def _frame(stream: BinaryIO, size: int, number: int) -> bytes | None:
    """Read a frame; None at the end of the stream."""
    line = stream.readline(_MAX_LINE)
    if not line:
        return None
    content = stream.read(size) if line.startswith(b"FRAME") else b""
    if len(content) < size:
        raise VideoError(
            f"{NAME}: ends in the middle of frame {number + 1}; check the program that writes it"
        )
    return content


def _described(header: bytes, content: bytes) -> VideoInfo:
    """Let FFmpeg describe a stream of one frame."""
    path = Path(NAME)
    try:
        stream = io.BytesIO(header + b"FRAME\n" + content)
        with av.open(stream, "r", format=_FORMAT) as container:
            selected = container.streams.video[0]
            return describe(path, container, selected, next(container.decode(selected)))
    except (FFmpegError, ValueError, StopIteration) as error:
        raise VideoError(f"{NAME}: cannot be decoded ({one_line(error)})") from error


def _frames(stream: BinaryIO, video: VideoInfo, first: bytes, size: int) -> Iterator[VideoFrame]:
    shapes = video.frame_format.plane_shapes()
    dtype = np.dtype(np.uint16 if video.planes.depth > 8 else np.uint8)
    ends = np.cumsum([high * wide for high, wide in shapes])[:-1]
    content: bytes | None = first
    number = 0
    while content is not None:
        parts = np.split(np.frombuffer(bytearray(content), dtype), ends)
        planes = tuple(part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))
        yield VideoFrame(number, planes)
        number += 1
        content = _frame(stream, size, number)


def mark_repeats(frames: Iterable[VideoFrame], repeats: RepeatFinder) -> Iterator[VideoFrame]:
    """Mark the frames that repeat an earlier one.

    Args:
        frames: Frames in order.
        repeats: Finder of repeated frames.
    """
    for frame in frames:
        yield replace(frame, repeats=repeats.repeats(frame.pts, frame.planes))


def y4m_header(frames: FrameFormat, rate: Fraction, sample_aspect: Fraction | None) -> bytes:
    r"""Return the line that begins a stream.

    Args:
        frames: Format of the frames.
        rate: Frames per second.
        sample_aspect: Width of a pixel divided by its height; None if not known.

    Example:
        >>> from upscale.video.info import Colour
        >>> from upscale.video.planes import plane_format
        >>> colour = Colour("bt601", full_range=False, chroma_location=1)
        >>> y4m_header(FrameFormat(4, 2, plane_format("yuv420p"), colour), Fraction(25), None)
        b'YUV4MPEG2 W4 H2 F25:1 Ip A0:0 C420mpeg2 XCOLORRANGE=LIMITED\n'
    """
    aspect = sample_aspect or Fraction(0)
    shape = f"{aspect.numerator}:{aspect.denominator if aspect else 0}"
    spread = "FULL" if frames.colour.full_range else "LIMITED"
    words = (
        *("YUV4MPEG2", f"W{frames.width}", f"H{frames.height}"),
        *(f"F{rate.numerator}:{rate.denominator}", "Ip", f"A{shape}"),
        *(f"C{_chroma_name(frames)}", f"XCOLORRANGE={spread}"),
    )
    return " ".join(words).encode() + b"\n"


def _chroma_name(frames: FrameFormat) -> str:
    planes = frames.planes
    is_deep = planes.depth >= _LEAST_DEEP
    if planes.kind == "grey":
        return f"mono{planes.depth}" if is_deep else "mono"
    if planes.alpha:
        return "444alpha"
    name = _SUBSAMPLING[planes.chroma_across, planes.chroma_down]
    if is_deep:
        return f"{name}p{planes.depth}"
    if name == "420":
        return _CHROMA_SITES.get(frames.colour.chroma_location, "420mpeg2")
    return name


def write_y4m_frame(stream: BinaryIO, frame: VideoFrame) -> None:
    """Write a frame after its line.

    Args:
        stream: The pipe.
        frame: The frame.

    Raises:
        OSError: The pipe is closed, or the disk behind it is full.
    """
    stream.write(b"FRAME\n")
    for plane in frame.planes:
        stream.write(plane.data)
    stream.flush()
