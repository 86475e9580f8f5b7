"""Move the packets of a broadcast or recording onto one continuous clock that starts at zero.

The clock of a broadcast starts anywhere, and where files were joined it jumps. A player follows it,
but the times of an output must begin at zero and never jump.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor
from typing import Any

from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from upscale.video.pyav import fraction

_BROADCAST_FORMATS = ("mpegts", "mpeg")
"""FFmpeg's names of the formats whose clock may start anywhere and jump."""

_MAX_START = 10
"""Seconds after which other files may begin, before that is taken for a clock of their own."""

_MAX_STEP = 10
_MAX_STEP_BACK = Fraction(1, 10)
"""Seconds from packet to packet of the video; with longer steps, another clock begins."""


def first_offset(container: InputContainer, stream: VideoStream) -> tuple[Fraction, ...]:
    """Return the seconds to add to all times so that a file starts at zero; empty if it does.

    Args:
        container: Open file.
        stream: Its video stream; the result is a multiple of its time base.
    """
    others = (*container.streams.video, *container.streams.audio)
    starts = [
        each.start_time * (fraction(each.time_base) or 0)
        for each in others
        if each.start_time is not None
    ]
    start, unit = min(starts, default=0), fraction(stream.time_base)
    is_broadcast = container.format.name in _BROADCAST_FORMATS
    if unit is None or not (is_broadcast or start > _MAX_START):
        return ()
    return (-floor(start / unit) * unit,)


class Timeline:
    """The clock of a file; it follows all packets of a file in their order.

    Args:
        stream: Index of the video stream, whose jumps are those of the clock.
        offsets: Seconds to add to all times: in the first part of the file, after its first jump,
            and so on. More are appended where the video jumps more often.
        jumps: False if jumps are a part of the video.
    """

    def __init__(self, stream: int, offsets: Sequence[Fraction], *, jumps: bool) -> None:
        self.offsets = list(offsets)
        self._stream, self._jumps = stream, jumps
        self._part = 0
        self._last: dict[int, Fraction] = {}
        self._step = Fraction(0)

    def move(self, packet: Packet[Any]) -> None:
        """Move the times of the next packet of the file."""
        unit = fraction(packet.time_base)
        time = packet.dts if packet.dts is not None else packet.pts
        if unit is None or time is None:
            return
        index, at = packet.stream_index, time * unit
        if index != self._stream:
            offset = self._nearest(index, at)
        else:
            if self._jumps and packet.dts is not None:
                self._follow(at, (packet.duration or 0) * unit)
            offset = self.offsets[self._part]
        self._last[index] = at + offset
        ticks = round(offset / unit)
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks

    def _follow(self, at: Fraction, duration: Fraction) -> None:
        """Begin the next part if the video jumps."""
        last = self._last.get(self._stream)
        if last is None:
            return
        step = at + self.offsets[self._part] - last
        if -_MAX_STEP_BACK <= step <= _MAX_STEP:
            self._step = step if step > 0 else self._step
            return
        self._part += 1
        if self._part == len(self.offsets):
            self.offsets.append(self.offsets[-1] + (duration or self._step) - step)

    def _nearest(self, index: int, at: Fraction) -> Fraction:
        """Return the offset that moves a packet of another stream next to its neighbours."""
        near = self._last.get(index, self._last.get(self._stream))
        parts = self.offsets[max(0, self._part - 1) : self._part + 2]
        if near is None or len(parts) == 1:
            return self.offsets[self._part]
        return min(parts, key=lambda offset: abs(at + offset - near))


def timeline_for(container: str, stream: int, offsets: Sequence[Fraction]) -> Timeline | None:
    """Return a timeline for reading a file from its beginning; None if it keeps its clock.

    Args:
        container: FFmpeg's name of the file's format.
        stream: Index of the video stream.
        offsets: Known offsets, in the order of their parts.
    """
    if not offsets:
        return None
    return Timeline(stream, offsets, jumps=container in _BROADCAST_FORMATS)
