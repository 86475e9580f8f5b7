"""Read and write YUV4MPEG2 (Y4M): frames without compression, for pipes between programs."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import av
from av.error import FFmpegError
from av.video.frame import VideoFrame as AVFrame

from upscale.errors import VideoError
from upscale.files.error_mapping import one_line
from upscale.video.container import select_video_stream
from upscale.video.duplicates import RepeatFinder
from upscale.video.encoders import VideoCodec, choose_colour, choose_planes
from upscale.video.info import DEFAULT_MAX_PIXELS, FrameFormat, VideoFrame, VideoInfo
from upscale.video.planes import PlaneReader
from upscale.video.probe import describe

NAME = "standard input"

_FORMAT = "yuv4mpegpipe"
_MAX_PIXELS_OPTION = "max_pixels"
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


@contextmanager
def read_y4m(
    stream: BinaryIO, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Generator[tuple[VideoInfo, Iterator[AVFrame]]]:
    """Read Y4M from a pipe, frame by frame.

    Args:
        stream: The pipe.
        max_pixels: Largest accepted width * height of a frame.

    Yields:
        The video without the times of its frames, and its frames.

    Raises:
        VideoError: The stream is not Y4M, or its frames are too large.
    """
    path = Path(NAME)
    try:
        container = av.open(stream, format=_FORMAT, options={_MAX_PIXELS_OPTION: str(max_pixels)})
    except (FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"{NAME}: is not Y4M ({one_line(error)}); convert it with: ffmpeg -i IN -f"
            " yuv4mpegpipe -"
        ) from error
    with container:
        selected = select_video_stream(container, path)
        if selected.width * selected.height > max_pixels:
            raise VideoError(
                f"{NAME}: {selected.width}x{selected.height} exceeds the limit of {max_pixels}"
                " pixels; pass a larger --max-pixels if you trust it"
            )
        frames = container.decode(selected)
        first = next(frames, None)
        if first is None:
            raise VideoError(f"{NAME}: contains no frame; check the program that writes it")
        video = describe(path, container, selected, first)
        yield replace(video, max_pixels=max_pixels), chain([first], frames)


def numbered(
    video: VideoInfo, frames: Iterator[AVFrame], repeats: RepeatFinder
) -> Iterator[VideoFrame]:
    """Yield decoded frames as planes, with their numbers as times.

    Args:
        video: Result of `read_y4m`.
        frames: Its frames.
        repeats: Finder of repeated frames.

    Raises:
        VideoError: The stream ends in the middle of a frame.
    """
    planes = PlaneReader(video.planes, video.width, video.height)
    number = 0
    try:
        for number, frame in enumerate(frames):
            arrays = planes.arrays(planes.planar(frame))
            yield VideoFrame(number, arrays, repeats.repeats(number, arrays))
    except FFmpegError as error:
        raise VideoError(
            f"{NAME}: frame {number + 1} cannot be read ({one_line(error)}); check the program that"
            " writes it"
        ) from error


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


class RawWriter:
    """Write the planes of frames to a pipe.

    Args:
        stream: The pipe.
        has_markers: Whether each frame begins with the line of Y4M.
    """

    def __init__(self, stream: BinaryIO, *, has_markers: bool = True) -> None:
        self._stream, self._has_markers = stream, has_markers

    def write(self, frame: VideoFrame) -> None:
        """Write a frame.

        Raises:
            OSError: The pipe is closed, or the disk behind it is full.
        """
        if self._has_markers:
            self._stream.write(b"FRAME\n")
        for plane in frame.planes:
            self._stream.write(plane.data)
        self._stream.flush()
