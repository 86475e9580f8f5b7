"""Encode frames into a segment file that `join` can read back.

Segments are Matroska files, because Matroska supports every codec; but its timestamps are in
milliseconds. So the timestamp of each packet is the number of its frame within the segment, and the
true times are stored elsewhere. The encoder itself gets the true times.
"""

from __future__ import annotations

from bisect import bisect_left
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import numpy as np
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import PictureType
from av.video.plane import VideoPlane
from av.video.stream import VideoStream

from upscale.errors import OutputError
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale.video.encoders import SEGMENT_CONTAINER, Encoder, configure
from upscale.video.info import Plane, VideoFrame
from upscale.video.planes import RGB_ORDER
from upscale.video.scheduling import ordinary_priority

_TICK = Fraction(1, 1000)
_AHEAD = 1 << 16
"""Offset of decoding times, larger than the number of frames that any encoder reorders."""


class SegmentWriter:
    """Encode frames into a file; the same frames and settings give the same bytes.

    Use it as a context manager, which completes the file if the block succeeds.

    Args:
        path: Segment file; it is replaced.
        encoder: Encoder of the frames.

    Raises:
        OutputError: The file cannot be written.
    """

    def __init__(self, path: Path, encoder: Encoder) -> None:
        self._path = path
        self._encoder = encoder
        self._times: list[int] = []
        self._packets = 0
        self._open = True
        try:
            self._container = av.open(
                f"file:{path}",
                "w",
                format=SEGMENT_CONTAINER,
                container_options={"fflags": "+bitexact", "avoid_negative_ts": "disabled"},
            )
            stream = self._container.add_stream(encoder.ffmpeg_name, rate=encoder.rate)
            self._stream = cast("VideoStream", stream)
            configure(self._stream.codec_context, encoder)
            self._stream.time_base = _TICK
            with ordinary_priority():
                self._container.start_encoding()
        except (FFmpegError, OSError, ValueError) as error:
            raise self._map_error(error) from error

    @property
    def times(self) -> tuple[int, ...]:
        """Times of the frames written so far, in order."""
        return tuple(self._times)

    def write(self, frame: VideoFrame) -> None:
        """Encode a frame.

        Args:
            frame: Frame in the encoder's `frame_format`, later than all frames before it.

        Raises:
            OutputError: The file cannot be written.
            ValueError: The frame has another size, or is not later.
        """
        if self._times and frame.pts <= self._times[-1]:
            raise ValueError(f"a frame at {frame.pts} follows one at {self._times[-1]}")
        self._times.append(frame.pts)
        self._encode(as_frame(frame, self._encoder))

    def close(self) -> None:
        """Flush the encoder and close the file.

        Raises:
            OutputError: The file cannot be written, or the encoder dropped frames.
        """
        if not self._open:
            return
        self._open = False
        if self._times:
            self._encode(None)
        try:
            self._container.close()
        except (FFmpegError, OSError) as error:
            raise self._map_error(error) from error
        if self._packets != len(self._times):
            raise OutputError(
                f"{printable(self._path)}: {self._encoder.codec} encoded only {self._packets}"
                f" of {len(self._times)} frames; use another --codec"
            )

    def abandon(self) -> None:
        """Close the file without flushing the encoder, so that frames may be missing."""
        if self._open:
            self._open = False
            with suppress(FFmpegError, OSError):
                self._container.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def _encode(self, frame: av.VideoFrame | None) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._number(packet)
                self._container.mux(packet)
        except (FFmpegError, OSError) as error:
            raise self._map_error(error) from error

    def _number(self, packet: Packet[VideoStream]) -> None:
        """Replace the timestamp of a packet by the number of its frame."""
        time = packet.pts or 0
        later = min(bisect_left(self._times, time), len(self._times) - 1)
        # libvpx rounds timestamps if the time base is tiny.
        near = (max(0, later - 1), later)
        packet.pts = min(near, key=lambda number: abs(self._times[number] - time))
        packet.dts = self._packets - _AHEAD
        packet.duration = 1
        packet.time_base = _TICK
        self._packets += 1

    def _map_error(self, error: Exception) -> OutputError:
        return OutputError(f"{printable(self._path)}: cannot be written ({one_line(error)})")


def as_frame(frame: VideoFrame, encoder: Encoder) -> av.VideoFrame:
    """Copy a frame into an FFmpeg frame in the pixel format of the encoder.

    Raises:
        ValueError: A plane has another size.
    """
    frames = encoder.frame_format
    result = av.VideoFrame(frames.width, frames.height, frames.planes.name)
    is_rgb = frames.planes.kind == "rgb"
    for index, plane in enumerate(frame.planes):
        _copy_plane(result.planes[RGB_ORDER[index] if is_rgb else index], plane)
    if encoder.pixel_format != frames.planes.name:
        # With several threads, FFmpeg sometimes leaves samples of packed formats out.
        result = result.reformat(format=encoder.pixel_format, threads=1)
    # ProRes takes its tags from the frames.
    colour = frames.colour
    result.color_primaries, result.color_trc = colour.primaries, colour.transfer
    result.colorspace, result.color_range = colour.space, 2 if colour.full_range else 1
    result.pts, result.time_base = frame.pts, encoder.time_base
    result.pict_type = PictureType.NONE
    return result


def _copy_plane(target: VideoPlane, plane: Plane) -> None:
    if plane.shape != (target.height, target.width):
        raise ValueError(f"a plane is {plane.shape}, not {(target.height, target.width)}")
    rows = np.frombuffer(memoryview(target), plane.dtype).reshape(target.height, -1)
    rows[:, : target.width] = plane
