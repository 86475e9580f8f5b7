"""Determine the presentation times of all frames of a video.

Demuxing is enough if every packet has a timestamp of its own, contains one frame, and is stored
near its place in presentation order. Otherwise (raw streams without timestamps, clocks that jump
back, fields in separate packets) the video is decoded once, the timestamps are sorted, and the n-th
decoded frame gets the n-th of them.
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

from upscale.video.container import (
    decode,
    demux,
    discard_other_streams,
    has_packet_index,
    read_packets,
)
from upscale.video.embedded import EmbeddedSearch
from upscale.video.info import FrameShape
from upscale.video.pyav import fraction
from upscale.video.scan_types import scan_types
from upscale.video.sequence_headers import SequenceHeaders
from upscale.video.timeline import Timeline

_MAX_REORDERING = 32
"""More frames than any codec delays for reordering."""
# Other containers store both fields of a frame in one packet.
_SPLIT_FIELD_FORMATS = {"mpegts", "h264", "mpeg", "avi"}
# These store only one timestamp per packet.
_DECODING_TIME_FORMATS = {"avi", "asf"}
# Headers of these contain the duration of the longest stream.
_DURATION_FORMATS = {"matroska,webm", "flv", "asf", "mxf", "ivf"}
_UNINDEXED_FORMATS = {"matroska,webm", "flv", "mpegts", "mpeg"}
_MIN_STEPS = 10
_DURATION_TOLERANCE = Fraction(1, 10)


@dataclass(frozen=True)
class Timing:
    """Presentation times in units of the stream's time base.

    Attributes:
        times: Times of all frames, strictly increasing.
        keyframes: Times of frames at which decoding can start; empty if it cannot.
        sequential: True if frames are identified by their position instead of their timestamp.
        lost: Approximate times of frames that cannot be decoded; not in `times`.
        warnings: Problems of the file, one line each.
        last: Duration of the last frame; 0 if unknown.
        embedded: Names of data in the packets beside the frames.
        progressive: Number of packets flagged as progressive, and of those flagged as interlaced.
        shapes: Times and shapes of frames in the headers, each different from the one before.
    """

    times: tuple[int, ...]
    keyframes: tuple[int, ...] = ()
    sequential: bool = False
    lost: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    last: int = 0
    embedded: tuple[str, ...] = ()
    progressive: tuple[int, int] = (0, 0)
    shapes: tuple[tuple[int | None, FrameShape], ...] = ()


def timing_from_packets(
    container: InputContainer, stream: VideoStream, timeline: Timeline | None = None
) -> tuple[Timing, bool]:
    """Read the timing from the packets, and return whether it is reliable.

    If it is not, only `lost` and `warnings` are valid.

    Args:
        container: Open file at its beginning.
        stream: Its video stream.
        timeline: Clock of the file, to which its jumps are added.
    """
    header = _Header(container, stream)
    packets = _PacketTimes()
    embedded = EmbeddedSearch(stream.codec_context.codec.canonical_name)
    scan = scan_types(stream)
    headers = SequenceHeaders(stream)
    for packet in demux(container, *header.streams, timeline=timeline):
        header.add(packet)
        if packet.stream_index == stream.index and packet.size:
            packets.add(packet, stream)
            embedded.add(packet)
            scan.add(packet)
            headers.add(packet)
    times = sorted(time for time in packets.times if time is not None)
    problems = header.problems(packets.count)
    lost = header.missing(packets.decoding_times, times[0] if times else 0)
    is_reliable = _is_reliable(packets.times, times)
    inside: dict[str, Any] = {
        "embedded": tuple(embedded.found),
        "progressive": scan.counts,
        "shapes": tuple(headers.shapes),
    }
    if not is_reliable or _are_decoding_times(container, stream, packets.times):
        return Timing((), lost=lost, warnings=problems, **inside), False
    warnings = (*problems, *packets.warnings(), *_find_gaps(container, stream, times))
    # If every packet is flagged as a keyframe, the flag means nothing, except for intra codecs.
    has_flags = len(packets.keyframes) < packets.count or stream.codec_context.codec.intra_only
    keyframes = tuple(sorted(packets.keyframes)) if has_flags else ()
    timing = Timing(
        tuple(times), keyframes, lost=lost, warnings=warnings, last=packets.last, **inside
    )
    return timing, True


@dataclass
class _PacketTimes:
    """Timestamps and flags of the video packets."""

    times: list[int | None] = field(default_factory=list[int | None])
    decoding_times: set[int | None] = field(default_factory=set[int | None])
    keyframes: list[int] = field(default_factory=list[int])
    count: int = 0
    corrupt: int = 0
    latest: int = -(1 << 63)
    last: int = 0

    def add(self, packet: Packet[Any], stream: VideoStream) -> None:
        """Record a video packet."""
        self.count += 1
        self.decoding_times.add(packet.dts)
        self.corrupt += packet.is_corrupt
        codec = stream.codec_context.codec.canonical_name
        if packet.is_discard or not shows_frame(codec, packet):
            return
        self.times.append(packet.pts)
        if packet.pts is None:
            return
        if packet.is_keyframe:
            self.keyframes.append(packet.pts)
        if packet.pts > self.latest:
            self.latest, self.last = packet.pts, packet.duration or 0

    def warnings(self) -> tuple[str, ...]:
        """Return a warning about incomplete packets, if there are any."""
        are = "packet is" if self.corrupt == 1 else "packets are"
        return (f"{self.corrupt} {are} incomplete",) if self.corrupt else ()


class _Header:
    """Duration and packets that the file's header promises."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        name = container.format.name
        self._duration, self._end = Fraction(0), Fraction(0)
        self._index: list[int] = []
        self._tolerance = _DURATION_TOLERANCE
        self.streams: tuple[Stream, ...] = (stream,)
        if name in _DURATION_FORMATS:
            self._duration = Fraction(container.duration or 0, av.time_base)
            self.streams = tuple(container.streams)
            return
        discard_other_streams(container, stream)
        if name == "avi":
            # The header contains the number of frames, which is exact.
            self._tolerance = Fraction(0)
            self._duration = stream.frames * (fraction(stream.time_base) or Fraction(0))
        if has_packet_index(container):
            self._index = [entry.timestamp for entry in stream.index_entries]

    def add(self, packet: Packet[Any]) -> None:
        """Record a packet of any stream."""
        if packet.pts is not None and packet.time_base:
            end = packet.pts + (packet.duration or 0)
            self._end = max(self._end, end * packet.time_base)

    def problems(self, packets: int) -> tuple[str, ...]:
        """Return a line about what the header promises and the file lacks."""
        short = self._duration - self._end
        if short > self._tolerance:
            return (f"the file ends {float(short):.2f} s before the duration in its header",)
        missing = len(self._index) - packets
        are = "packet is" if missing == 1 else "packets are"
        return (f"{missing} {are} missing",) if self._index and missing > 0 else ()

    def missing(self, decoding_times: Container[int | None], first: int) -> tuple[int, ...]:
        """Return the approximate times of frames whose packets are missing.

        Args:
            decoding_times: Decoding times of all packets in the file; the index lists these.
            first: Presentation time of the first frame.
        """
        missing = (time for time in self._index if time not in decoding_times)
        return tuple(sorted(time + first - self._index[0] for time in missing))


def timing_from_decoding(
    container: InputContainer,
    stream: VideoStream,
    rate: Fraction,
    *,
    split_fields: bool,
    timeline: Timeline | None = None,
) -> Timing:
    """Determine the timing by decoding the whole video.

    Args:
        container: Open file at its beginning.
        stream: Its video stream.
        rate: Frame rate in frames per second, used where timestamps are missing.
        split_fields: True if the two fields of a frame may be in separate packets.
        timeline: Clock of the file.
    """
    discard_other_streams(container, stream)
    packets = _PacketTimes()
    decoded: list[int | None] = []
    errors: list[tuple[int | None, int]] = []
    for result in decode(stream, read_packets(container, stream, timeline)):
        decoded += [frame.pts for frame in result.frames]
        if result.packet:
            packets.add(result.packet, stream)
        if result.error:
            errors.append((result.packet.pts if result.packet else None, len(decoded)))
    step = max(1, round(1 / (rate * (fraction(stream.time_base) or Fraction(1, 1000)))))
    times = increasing_times(decoded, step)
    missing = Counter(packets.times) - Counter(decoded)
    if split_fields:
        missing = Counter(time for time, _ in errors)
    # The position of a lost packet without a timestamp is that of a decoder error.
    positions = [position for time, position in errors if time is None]
    positions += [len(times)] * missing[None]
    lost = [time for time in missing.elements() if time is not None]
    lost += [times[min(each, len(times) - 1)] for each in positions[: missing[None]] if times]
    warnings = (*packets.warnings(), *_find_gaps(container, stream, times))
    return Timing(tuple(times), (), True, tuple(sorted(lost)), warnings, step)


def may_split_fields(container: InputContainer, stream: VideoStream, interlaced: bool) -> bool:
    """Return whether the two fields of a frame may be in separate packets."""
    is_h264 = stream.codec_context.codec.canonical_name == "h264"
    return interlaced and is_h264 and container.format.name in _SPLIT_FIELD_FORMATS


def shows_frame(codec: str, packet: Packet[Any]) -> bool:
    """Return whether a packet produces a frame; VP8 and VP9 also have hidden reference frames."""
    if codec not in ("vp8", "vp9"):
        return True
    data = bytes(packet)
    if codec == "vp8":
        return bool(data[0] & 0x10)
    if data[-1] & 0xE0 == 0xC0:
        # A superframe, whose last frame is shown.
        return True
    bits = f"{data[0]:08b}{data[1] if len(data) > 1 else 0:08b}"
    # Frame marker and profile; profile 3 takes one more bit.
    start = 5 if bits[2:4] == "11" else 4
    show_existing_frame, _, show_frame = bits[start : start + 3]
    return show_existing_frame == "1" or show_frame == "1"


def _find_gaps(
    container: InputContainer, stream: VideoStream, times: Sequence[int]
) -> tuple[str, ...]:
    """Return a warning if a video of constant frame rate has gaps, in formats without an index."""
    steps = [after - before for before, after in pairwise(times)]
    if container.format.name not in _UNINDEXED_FORMATS or len(steps) < _MIN_STEPS:
        return ()
    usual = sorted(steps)[len(steps) // 2]
    if sum(abs(step - usual) * 4 <= usual for step in steps) * 10 < len(steps) * 9:
        return ()
    gaps = [number for number, step in enumerate(steps) if step * 4 > usual * 7]
    missing = sum(round(steps[number] / usual) - 1 for number in gaps)
    if not missing:
        return ()
    first = float((times[gaps[0]] + usual) * (fraction(stream.time_base) or 0))
    if missing == 1:
        return (f"1 frame seems to be missing, at {first:.2f} s",)
    return (f"{missing} frames seem to be missing, the first at {first:.2f} s",)


def _is_reliable(times: Sequence[int | None], ordered: Sequence[int]) -> bool:
    """Return whether all times differ, and each one is near its place in their order."""
    places = {time: place for place, time in enumerate(ordered)}
    return len(places) == len(times) and all(
        time is not None and abs(places[time] - index) <= _MAX_REORDERING
        for index, time in enumerate(times)
    )


def _are_decoding_times(
    container: InputContainer, stream: VideoStream, times: Sequence[int | None]
) -> bool:
    """Return whether times only number the packets in decoding order, though frames reorder."""
    return (
        stream.codec_context.reorder_depth > 0
        and container.format.name in _DECODING_TIME_FORMATS
        and all(
            before is not None and after is not None and before < after
            for before, after in pairwise(times)
        )
    )


def increasing_times(times: Sequence[int | None], step: int) -> list[int]:
    """Return strictly increasing times.

    If all times differ and are near their places, they are sorted. Otherwise the longest consistent
    subsequence is kept, and the other times are interpolated.

    Args:
        times: Times of the frames in decoder order; None if unknown.
        step: Duration of a frame where neighbours do not determine it.
    """
    known = sorted(time for time in times if time is not None)
    if _is_reliable(times, known):
        return known
    # Leave at least one unit for each frame in between.
    kept = longest_nondecreasing(
        None if time is None else time - index for index, time in enumerate(times)
    )
    if not kept:
        return [number * step for number in range(len(times))]
    first, last = kept[0], kept[-1]
    fixed = {index: time for index in kept if (time := times[index]) is not None}
    result = [fixed[first] - step * (first - index) for index in range(first)]
    for before, after in pairwise(kept):
        span, count = fixed[after] - fixed[before], after - before
        result += [fixed[before] + span * number // count for number in range(count)]
    return result + [fixed[last] + step * number for number in range(len(times) - last)]


def longest_nondecreasing(times: Iterable[int | None]) -> list[int]:
    """Return the indices of the longest nondecreasing subsequence of the known times."""
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
