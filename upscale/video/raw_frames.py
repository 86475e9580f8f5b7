"""Read and write frames without headers, for pipes between programs."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Literal

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame as AVFrame

from upscale.errors import OutputError, UsageError, VideoError
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale.video.encoders import choose_colour
from upscale.video.info import DEFAULT_MAX_PIXELS, FrameFormat, VideoFrame, VideoInfo
from upscale.video.planes import PlaneReader, is_planar, plane_format
from upscale.video.probe import describe
from upscale.video.y4m import NAME, Y4M, y4m_format

PACKED = {
    "rgb24": "gbrp",
    "bgr24": "gbrp",
    "rgba": "gbrap",
    "bgra": "gbrap",
    "rgb48le": "gbrp16le",
    "rgba64le": "gbrap16le",
}
"""Formats whose samples are stored pixel by pixel, and those of the same planes."""

_CONTAINER = "nut"
_CODEC = "rawvideo"


@dataclass(frozen=True, slots=True)
class RawFormat:
    """What a reader of frames without headers must know.

    Attributes:
        width: Width in pixels.
        height: Height in pixels.
        pixel_format: FFmpeg's name of the pixel format, such as "rgb24" or "yuv420p".
        rate: Frames per second.
    """

    width: int
    height: int
    pixel_format: str
    rate: Fraction

    @property
    def frame_bytes(self) -> int:
        """Size of a frame in bytes.

        Raises:
            UsageError: FFmpeg has no such pixel format.
        """
        try:
            frame = AVFrame(self.width, self.height, self.pixel_format)
            return sum(packet.size for packet in self._context("w").encode(frame))
        except (FFmpegError, ValueError) as error:
            raise UsageError(
                f"--raw-format {self.pixel_format}: is no pixel format of frames; use, for example,"
                " rgb24, rgb48le or yuv420p"
            ) from error

    def decoder(self) -> VideoCodecContext:
        """Return a decoder of frames."""
        return self._context("r")

    def open_file(self, file: BinaryIO | str) -> OutputContainer:
        """Open a video file for frames, which has one stream."""
        container = av.open(file, "w", format=_CONTAINER)
        stream = container.add_stream(_CODEC, rate=self.rate)
        context = stream.codec_context
        context.width, context.height = self.width, self.height
        context.pix_fmt, context.time_base = self.pixel_format, 1 / self.rate
        container.start_encoding()
        return container

    def packet(self, content: bytes, number: int) -> Packet[Any]:
        """Return a frame as a packet with its number as its time."""
        packet: Packet[Any] = Packet(content)
        packet.pts = packet.dts = number
        packet.time_base, packet.is_keyframe = 1 / self.rate, True
        return packet

    def _context(self, mode: Literal["r", "w"]) -> VideoCodecContext:
        context = av.CodecContext.create(_CODEC, mode)
        context.width, context.height = self.width, self.height
        context.pix_fmt = self.pixel_format
        if mode == "w":
            context.time_base = 1 / self.rate
        return context


def read_raw(
    stream: BinaryIO, raw: RawFormat, max_pixels: int = DEFAULT_MAX_PIXELS
) -> tuple[VideoInfo, Iterator[VideoFrame]]:
    """Read frames without headers from a pipe, one by one.

    Args:
        stream: The pipe.
        raw: Format of the frames.
        max_pixels: Largest accepted width * height of a frame.

    Returns:
        The video without the times of its frames, and its frames, with their numbers as times.

    Raises:
        VideoError: There is no frame, or it is too large; while iterating, the pipe ends in the
            middle of a frame.
        UsageError: FFmpeg has no such pixel format.
    """
    contents = _contents(stream, _frame_bytes(raw, max_pixels))
    first = next(contents, None)
    if first is None:
        raise VideoError(f"{NAME}: contains no frame; check the program that writes it")
    video = replace(_described(raw, first), max_pixels=max_pixels)
    return video, _frames(video, raw, first, contents)


def store_raw(
    stream: BinaryIO, path: Path, raw: RawFormat, max_pixels: int = DEFAULT_MAX_PIXELS
) -> None:
    """Store the frames of a pipe as a video file.

    Args:
        stream: The pipe.
        path: The file.
        raw: Format of the frames.
        max_pixels: Largest accepted width * height of a frame.

    Raises:
        VideoError: The pipe has no frame, too large ones, or ends in the middle of one.
        OutputError: The file cannot be written.
        UsageError: FFmpeg has no such pixel format.
    """
    size, number = _frame_bytes(raw, max_pixels), -1
    try:
        with raw.open_file(f"file:{path}") as container:
            for number, content in enumerate(_contents(stream, size)):
                packet = raw.packet(content, number)
                packet.stream = container.streams[0]
                container.mux(packet)
    except FFmpegError as error:
        raise OutputError(f"{printable(path)}: cannot be written ({one_line(error)})") from error
    if number < 0:
        raise VideoError(f"{NAME}: contains no frame; check the program that writes it")


def _frame_bytes(raw: RawFormat, max_pixels: int) -> int:
    if raw.width * raw.height > max_pixels:
        raise VideoError(
            f"{NAME}: {raw.width}x{raw.height} exceeds the limit of {max_pixels} pixels; pass a"
            " larger --max-pixels if you trust it"
        )
    return raw.frame_bytes


def _contents(stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield the bytes of each frame."""
    number = 0
    while content := stream.read(size):
        number += 1
        if len(content) < size:
            raise VideoError(
                f"{NAME}: ends after {len(content)} of {size} bytes of frame {number}; check"
                " --raw-size and --raw-format"
            )
        yield content


def _described(raw: RawFormat, content: bytes) -> VideoInfo:
    """Let FFmpeg describe a video of one frame."""
    file = io.BytesIO()
    with raw.open_file(file) as container:
        packet = raw.packet(content, 0)
        packet.stream = container.streams[0]
        container.mux(packet)
    file.seek(0)
    with av.open(file, "r", format=_CONTAINER) as source:
        stream = source.streams.video[0]
        video = describe(Path(NAME), source, stream, next(source.decode(stream)))
    return replace(video, time_base=1 / raw.rate, rate=raw.rate)


def _frames(
    video: VideoInfo, raw: RawFormat, first: bytes, contents: Iterator[bytes]
) -> Iterator[VideoFrame]:
    planes = PlaneReader(video.planes, video.width, video.height)
    decoder = raw.decoder()
    number, content = 0, first
    while content is not None:
        for frame in decoder.decode(raw.packet(content, number)):
            yield VideoFrame(number, planes.arrays(planes.planar(frame)))
        number += 1
        content = next(contents, None)


def raw_format(video: VideoInfo, pixel_format: str | None, size: tuple[int, int]) -> FrameFormat:
    """Choose the planes of frames that are written without headers.

    Args:
        video: Source video.
        pixel_format: Pixel format that the user named; None for that of Y4M which loses least.
        size: Width and height of the output in pixels.

    Raises:
        UsageError: The pixel format cannot be written.

    Example:
        >>> from upscale.video.raw_frames import PACKED
        >>> PACKED["rgb24"]
        'gbrp'
    """
    if pixel_format is None:
        return y4m_format(video, None, size)
    name = PACKED.get(pixel_format, pixel_format)
    if not is_planar(name):
        raise UsageError(
            f"--pix-fmt {pixel_format}: cannot be written without headers; use a planar format, or"
            f" one of {', '.join(PACKED)}"
        )
    planes = plane_format(name)
    return FrameFormat(*size, planes, choose_colour(video, planes, Y4M))


def write_raw_frame(stream: BinaryIO, frame: VideoFrame, pixel_format: str | None) -> None:
    """Write a frame without a header.

    Args:
        stream: The pipe.
        frame: The frame, with the planes of `raw_format`.
        pixel_format: Pixel format that the user named; None without one.

    Raises:
        OSError: The pipe is closed, or the disk behind it is full.
    """
    planes = frame.planes
    if pixel_format in PACKED:
        is_reversed = pixel_format.startswith("bgr")
        order = (*planes[2::-1], *planes[3:]) if is_reversed else planes
        stream.write(np.stack(order, axis=-1).data)
    else:
        # FFmpeg stores green first.
        is_rgb = (pixel_format or "").startswith("gbr")
        for place in (1, 2, 0, 3)[: len(planes)] if is_rgb else range(len(planes)):
            stream.write(planes[place].data)
    stream.flush()
