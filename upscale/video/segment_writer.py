"""Write frames into one file of their own, which a join can take apart again.

Segments are Matroska files, which hold every codec; but their clock ticks in milliseconds. So a
packet's time is the number of its frame within the segment, a tick each, and the true times are
kept by whoever joins. The encoder itself sees the true ones.
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
from upscale.video.encoders import Encoder, configure
from upscale.video.info import Plane, VideoFrame

SEGMENT_CONTAINER = "matroska"

_TICK = Fraction(1, 1000)
_AHEAD = 1 << 16
"""Decoding times run this far ahead of presentation, more than any encoder reorders frames."""

_ORDER = {"rgb": (2, 0, 1)}
"""Where a frame of FFmpeg's has planes that come as R, G, B: its own order is G, B, R."""


class SegmentWriter:
    """Encodes frames into a file; the same frames and settings give the same bytes.

    Use it as a context manager: it closes the file, complete when the block ends well.

    Args:
        path: The file, which is replaced.
        encoder: How frames are encoded.

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
            stream = self._container.add_stream(encoder.encoder, rate=encoder.rate)
            self._stream = cast("VideoStream", stream)
            configure(self._stream.codec_context, encoder)
            self._stream.time_base = _TICK
            self._container.start_encoding()
        except (FFmpegError, OSError, ValueError) as error:
            raise self._failure(error) from error

    @property
    def times(self) -> tuple[int, ...]:
        """Times of the frames that were written, in order."""
        return tuple(self._times)

    def write(self, frame: VideoFrame) -> None:
        """Encode a frame.

        Args:
            frame: In `encoder.planes`, of the encoder's size, later than all before it.

        Raises:
            OutputError: The file cannot be written.
            ValueError: The frame is of another size, or not later.
        """
        if self._times and frame.pts <= self._times[-1]:
            raise ValueError(f"a frame of time {frame.pts} comes after one of {self._times[-1]}")
        self._times.append(frame.pts)
        self._encode(as_frame(frame, self._encoder))

    def close(self) -> int:
        """Encode what is left and close the file.

        Returns:
            The number of frames in it.

        Raises:
            OutputError: The file cannot be written, or the encoder kept frames back.
        """
        if not self._open:
            return len(self._times)
        self._open = False
        if self._times:
            self._encode(None)
        try:
            self._container.close()
        except (FFmpegError, OSError) as error:
            raise self._failure(error) from error
        if self._packets != len(self._times):
            raise OutputError(
                f"{printable(self._path)}: {self._encoder.codec} gave {self._packets} of"
                f" {len(self._times)} frames; choose another --codec"
            )
        return self._packets

    def abandon(self) -> None:
        """Close the file as it is, if it is open: it may lack frames."""
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
            raise self._failure(error) from error

    def _number(self, packet: Packet[VideoStream]) -> None:
        """Put the number of a packet's frame in place of its time."""
        time = packet.pts or 0
        later = min(bisect_left(self._times, time), len(self._times) - 1)
        # libvpx rounds times when their unit is tiny
        near = (max(0, later - 1), later)
        packet.pts = min(near, key=lambda number: abs(self._times[number] - time))
        packet.dts = self._packets - _AHEAD
        packet.duration = 1
        packet.time_base = _TICK
        self._packets += 1

    def _failure(self, error: Exception) -> OutputError:
        return OutputError(f"{printable(self._path)}: cannot be written ({one_line(error)})")


def as_frame(frame: VideoFrame, encoder: Encoder) -> av.VideoFrame:
    """Copy a frame into one of FFmpeg's, in the format that the encoder takes.

    Raises:
        ValueError: A plane is of another size.
    """
    made = av.VideoFrame(encoder.width, encoder.height, encoder.planes.name)
    order = _ORDER.get(encoder.planes.kind, (0, 1, 2))
    for number, plane in enumerate(frame.planes):
        _fill(made.planes[order[number] if number < len(order) else number], plane)
    if encoder.pixel_format != encoder.planes.name:
        made = made.reformat(format=encoder.pixel_format)
    colour = encoder.colour
    # ProRes takes its tags from the frames
    made.color_primaries, made.color_trc = colour.primaries, colour.transfer
    made.colorspace, made.color_range = colour.space, 2 if colour.full_range else 1
    made.pts, made.time_base = frame.pts, encoder.time_base
    made.pict_type = PictureType.NONE
    return made


def _fill(target: VideoPlane, plane: Plane) -> None:
    if plane.shape != (target.height, target.width):
        raise ValueError(f"a plane is {plane.shape}, not {(target.height, target.width)}")
    lines = np.frombuffer(memoryview(target), plane.dtype).reshape(target.height, -1)
    lines[:, : target.width] = plane


def plane_shapes(encoder: Encoder) -> list[tuple[int, int]]:
    """Height and width of each plane that an encoder takes."""
    planes = encoder.planes
    whole = (encoder.height, encoder.width)
    reduced = (-(-whole[0] >> planes.chroma_down), -(-whole[1] >> planes.chroma_across))
    colours = [] if planes.kind == "grey" else [reduced, reduced]
    return [whole, *colours] + [whole] * planes.alpha
