"""When the frames of a video are due: found by demuxing, and by decoding only where that cannot say.

Packets tell the times of frames, if each has one time of its own, gives one frame, and comes near
its place in the order of times. Where that does not hold (raw streams without times, clocks that
jump back, fields in packets of their own) the video is decoded once, its times are put in order,
and the n-th frame that the decoder gives is the n-th of the plan.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from upscale.video.container import decode, demux, lists_packets, only, packets_of

# No codec keeps frames back for longer than this many.
_MOST_REORDERED = 32
# Elsewhere both fields of a frame are one packet.
_FIELDS_APART = {"mpegts", "h264", "mpeg", "avi"}
# Some of these know but one time for each packet.
_STORED = {"avi", "asf"}
# Their headers say how long the video is, for all streams together.
_TIMED = {"matroska,webm", "flv", "asf", "mxf", "ivf"}
_UNLISTED = {"matroska,webm", "flv", "mpegts", "mpeg"}
_LEAST_STEPS = 10
_TOLERATED_SECONDS = Fraction(1, 10)


@dataclass(frozen=True)
class Timing:
    """When frames are due, in units of the stream's time base.

    Attributes:
        plan: Times of all frames, strictly increasing.
        keys: Times of those at which decoding can start; empty where it cannot.
        sequential: Whether frames are told by their number rather than their time.
        lost: Times, some of them about, of frames that cannot be decoded and are not in the plan.
        warnings: What is wrong with the file, a line each.
        last: How long the last frame lasts; 0 where not said.
    """

    plan: tuple[int, ...]
    keys: tuple[int, ...] = ()
    sequential: bool = False
    lost: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    last: int = 0


def demuxed(container: InputContainer, stream: VideoStream) -> tuple[Timing, bool]:
    """The plan as the packets tell it, and whether they can be relied on.

    If they cannot, what they say is lost and wrong still holds.

    Args:
        container: The open file, at its beginning.
        stream: Its video stream.
    """
    promised = _Promise(container, stream)
    found = _Packets()
    for packet in demux(container, *promised.streams):
        promised.note(packet)
        if packet.stream_index == stream.index and packet.size:
            found.note(packet, stream)
    plan = sorted(time for time in found.times if time is not None)
    broken = promised.broken(found.count)
    lost = promised.missing(found.stored, plan[0] if plan else 0)
    if not _reliable(found.times, plan) or _only_stored(container, stream, found.times):
        return Timing((), lost=lost, warnings=broken), False
    warnings = (*broken, *found.warnings(), *_gaps(container, stream, plan))
    # A file that flags every packet as key says nothing.
    honest = len(found.keys) < found.count or stream.codec_context.codec.intra_only
    keys = sorted(found.keys) if honest else []
    return Timing(tuple(plan), tuple(keys), lost=lost, warnings=warnings, last=found.last), True


@dataclass
class _Packets:
    """What the packets of a video say."""

    times: list[int | None] = field(default_factory=list[int | None])
    stored: set[int | None] = field(default_factory=set[int | None])
    keys: list[int] = field(default_factory=list[int])
    count: int = 0
    corrupt: int = 0
    latest: int = -(1 << 63)
    last: int = 0

    def note(self, packet: Packet[Any], stream: VideoStream) -> None:
        """Take in a packet of the video."""
        self.count += 1
        self.stored.add(packet.dts)
        self.corrupt += packet.is_corrupt
        codec = stream.codec_context.codec.canonical_name
        if packet.is_discard or not shows_frame(codec, packet):
            return
        self.times.append(packet.pts)
        if packet.pts is None:
            return
        if packet.is_keyframe:
            self.keys.append(packet.pts)
        if packet.pts > self.latest:
            self.latest, self.last = packet.pts, packet.duration or 0

    def warnings(self) -> tuple[str, ...]:
        """What the packets say is wrong with themselves."""
        return (f"{self.corrupt} packets are incomplete",) if self.corrupt else ()


class _Promise:
    """What a file's header says that it holds."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        format = container.format.name
        self._seconds, self._end = Fraction(0), Fraction(0)
        self._index: list[int] = []
        self._tolerated = _TOLERATED_SECONDS
        self.streams: tuple[Stream, ...] = (stream,)
        if format in _TIMED:
            self._seconds = Fraction(container.duration or 0, av.time_base)
            self.streams = tuple(container.streams)
            return
        only(container, stream)
        if format == "avi":
            # Counted in frames, it is exact.
            self._tolerated = Fraction(0)
            self._seconds = stream.frames * (stream.time_base or Fraction(0))
        if lists_packets(container):
            self._index = [entry.timestamp for entry in stream.index_entries]

    def note(self, packet: Packet[Any]) -> None:
        """Take in a packet of any stream."""
        if packet.pts is not None and packet.time_base:
            end = packet.pts + (packet.duration or 0)
            self._end = max(self._end, end * packet.time_base)

    def broken(self, packets: int) -> tuple[str, ...]:
        """What the video ought to have and has not."""
        short = self._seconds - self._end
        if short > self._tolerated:
            return (f"the file ends {float(short):.2f} s before its header says",)
        missing = len(self._index) - packets
        return (f"{missing} packets are missing",) if self._index and missing > 0 else ()

    def missing(self, stored: Container[int | None], first: int) -> tuple[int, ...]:
        """About when the frames would come whose packets the file does not hold.

        Args:
            stored: When the packets that it holds are decoded, which the index tells of all.
            first: When the first frame comes.
        """
        return tuple(
            sorted(time + first - self._index[0] for time in self._index if time not in stored)
        )


def decoded(
    container: InputContainer, stream: VideoStream, rate: Fraction, *, fields_apart: bool
) -> Timing:
    """The plan as decoding tells it, from beginning to end.

    Args:
        container: The open file, at its beginning.
        stream: Its video stream.
        rate: Frames a second where nothing else is known.
        fields_apart: Whether two packets may be the fields of one frame.
    """
    only(container, stream)
    found = _Packets()
    came: list[int | None] = []
    refused: list[tuple[int | None, int]] = []
    for part in decode(stream, packets_of(container, stream)):
        came += [frame.pts for frame in part.frames]
        if part.packet:
            found.note(part.packet, stream)
        if part.error:
            refused.append((part.packet.pts if part.packet else None, len(came)))
    step = max(1, round(1 / (rate * (stream.time_base or Fraction(1, 1000)))))
    plan = in_order(came, step)
    missing = Counter(found.times) - Counter(came)
    if fields_apart:
        missing = Counter(time for time, _ in refused)
    # A packet without a time is looked for where the decoder refused one.
    places = [place for time, place in refused if time is None] + [len(plan)] * missing[None]
    lost = [time for time in missing.elements() if time is not None]
    lost += [plan[min(place, len(plan) - 1)] for place in places[: missing[None]] if plan]
    warnings = (*found.warnings(), *_gaps(container, stream, plan))
    return Timing(tuple(plan), (), True, tuple(sorted(lost)), warnings, step)


def fields_apart(container: InputContainer, stream: VideoStream, interlaced: bool) -> bool:
    """Whether two packets may be the fields of one frame."""
    coded = stream.codec_context.codec.canonical_name == "h264"
    return interlaced and coded and container.format.name in _FIELDS_APART


def shows_frame(codec: str, packet: Packet[Any]) -> bool:
    """Whether a packet gives a frame: VP8 and VP9 have some that only serve later ones."""
    if codec not in ("vp8", "vp9"):
        return True
    data = bytes(packet)
    if codec == "vp8":
        return bool(data[0] & 0x10)
    if data[-1] & 0xE0 == 0xC0:
        # Several frames in one packet, the last of which is shown.
        return True
    bits = f"{data[0]:08b}{data[1] if len(data) > 1 else 0:08b}"
    # Frame marker and profile, of which the highest takes one bit more.
    start = 5 if bits[2:4] == "11" else 4
    existing, _, shown = bits[start : start + 3]
    return existing == "1" or shown == "1"


def _gaps(container: InputContainer, stream: VideoStream, plan: Sequence[int]) -> tuple[str, ...]:
    """Where an even video has holes; only of containers that do not list their packets."""
    steps = [after - before for before, after in pairwise(plan)]
    if container.format.name not in _UNLISTED or len(steps) < _LEAST_STEPS:
        return ()
    usual = sorted(steps)[len(steps) // 2]
    if sum(abs(step - usual) * 4 <= usual for step in steps) * 10 < len(steps) * 9:
        return ()
    holes = [number for number, step in enumerate(steps) if step * 4 > usual * 7]
    missing = sum(round(steps[number] / usual) - 1 for number in holes)
    if not missing:
        return ()
    first = float((plan[holes[0]] + usual) * (stream.time_base or 0))
    return (f"{missing} frames seem to be missing, the first at {first:.2f} s",)


def _reliable(times: Sequence[int | None], plan: Sequence[int]) -> bool:
    """Whether all times differ, and each packet comes near its place in their order."""
    places = {time: place for place, time in enumerate(plan)}
    return len(places) == len(times) and all(
        time is not None and abs(places[time] - index) <= _MOST_REORDERED
        for index, time in enumerate(times)
    )


def _only_stored(
    container: InputContainer, stream: VideoStream, times: Sequence[int | None]
) -> bool:
    """Whether times only number the packets as stored, though frames come in another order."""
    reorders = stream.codec_context.reorder_depth > 0
    return (
        reorders
        and container.format.name in _STORED
        and all(
            before is not None and after is not None and before < after
            for before, after in pairwise(times)
        )
    )


def in_order(times: Sequence[int | None], step: int) -> list[int]:
    """Times that increase strictly.

    If all differ and are near their places, they are sorted; or else those that fit together
    stay, and the others go evenly between.

    Args:
        times: As frames came; None where not known.
        step: Between frames, where neighbours do not tell.
    """
    known = sorted(time for time in times if time is not None)
    if _reliable(times, known):
        return known
    # A unit at least for each frame between.
    kept = rising(None if time is None else time - index for index, time in enumerate(times))
    if not kept:
        return [number * step for number in range(len(times))]
    first, last = kept[0], kept[-1]
    fixed = {index: time for index in kept if (time := times[index]) is not None}
    plan = [fixed[first] - step * (first - index) for index in range(first)]
    for before, after in pairwise(kept):
        span = fixed[after] - fixed[before]
        plan += [fixed[before] + span * part // (after - before) for part in range(after - before)]
    return plan + [fixed[last] + step * part for part in range(len(times) - last)]


def rising(times: Iterable[int | None]) -> list[int]:
    """Indices of the most times that do not fall; those that are not known are left out."""
    ends: list[int] = []
    holders: list[int] = []
    before: dict[int, int] = {}
    for index, time in enumerate(times):
        if time is None:
            continue
        place = bisect_right(ends, time)
        ends[place : place + 1] = [time]
        holders[place : place + 1] = [index]
        before[index] = holders[place - 1] if place else -1
    chain: list[int] = []
    index = holders[-1] if holders else -1
    while index >= 0:
        chain.append(index)
        index = before[index]
    return chain[::-1]
