"""Read the frames of a video, each once and in order, with its own presentation time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, dropwhile
from typing import Any

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame as AVFrame
from av.video.stream import VideoStream

from upscale.video.container import (
    decode,
    discard_other_streams,
    open_video,
    read_packets,
    select_video_stream,
)
from upscale.video.deinterlace import TELECINE_CYCLE, deinterlaced
from upscale.video.duplicates import RepeatFinder
from upscale.video.info import VideoFrame, VideoInfo
from upscale.video.planes import PlaneReader
from upscale.video.timeline import timeline_for

_CYCLES_BACK = 2
"""Cycles of a telecine before those that are read; its filters look back for less than one."""

_EVENNESS = 4
"""Part of a frame's duration by which its time may differ from the grid."""

_KEYFRAMES_BACK = 2
"""Decoding starts this many keyframes early, because frames may refer across a keyframe."""


@dataclass
class ReadReport:
    """Problems found while reading; it grows as frames are read.

    Attributes:
        lost: Times of expected frames that cannot be decoded.
        damaged: Times of returned frames that the decoder flagged as corrupt.
        resized: Times of frames of another size or pixel format, which were converted.
    """

    lost: list[int] = field(default_factory=list[int])
    damaged: list[int] = field(default_factory=list[int])
    resized: list[int] = field(default_factory=list[int])


def read_frames(
    video: VideoInfo,
    *,
    start_pts: int | None = None,
    stop_pts: int | None = None,
    deinterlace: bool = False,
    repeats: RepeatFinder | None = None,
) -> FrameReader:
    """Read the frames of a video, or of a part of it.

    Args:
        video: Result of `probe`.
        start_pts: Time of the first frame in units of the video's time base.
        stop_pts: Time at which to stop; a frame at that time is not included.
        deinterlace: Make a full frame from the two fields of each frame.
        repeats: Finder of repeated frames; by default, those that are equal.

    Returns:
        Iterable over the frames, to be used once; its `report` lists problems.
    """
    return FrameReader(video, start_pts, stop_pts, deinterlace, repeats)


class FrameReader:
    """Iterable over the frames of a video; nothing is opened before the first frame is requested.

    Args:
        video: Result of `probe`.
        start_pts: Time of the first frame; None for the beginning.
        stop_pts: Time at which to stop; None for the end.
        deinterlace: Make a full frame from the two fields of each frame.
        repeats: Finder of repeated frames; None for those that are equal.

    Attributes:
        report: Problems found so far.

    Raises:
        VideoError: While iterating: the file cannot be read any more.
    """

    def __init__(
        self,
        video: VideoInfo,
        start_pts: int | None,
        stop_pts: int | None,
        deinterlace: bool,
        repeats: RepeatFinder | None = None,
    ) -> None:
        times = video.frame_times
        first = 0 if start_pts is None else bisect_left(times, start_pts)
        end = len(times) if stop_pts is None else bisect_left(times, stop_pts)
        self._video, self._deinterlace = video, deinterlace
        self._stored = video.origin or video
        self._scale = round(self._stored.time_base / video.time_base)
        self._repeats = repeats or RepeatFinder(video.planes)
        self._first, self._end = first, max(first, end)
        self.report = ReadReport()

    def __iter__(self) -> Iterator[VideoFrame]:
        video = self._video
        planes = PlaneReader(video.planes, video.width, video.height, bars=_bars(video))
        for pts, frame in self._selected(planes):
            arrays = planes.arrays(frame)
            yield VideoFrame(pts, arrays, self._repeats.repeats(pts, arrays))

    def _selected(self, planes: PlaneReader) -> Iterator[tuple[int, AVFrame]]:
        """Yield the planar frames of the selected part; lost ones are reported."""
        expected = self._first
        times = self._video.frame_times
        for pts, frame in self._deinterlaced(planes):
            place = bisect_left(times, pts)
            if not expected <= place < self._end:
                continue
            self.report.lost += times[expected:place]
            expected = place + 1
            yield pts, frame
        self.report.lost += times[expected : self._end]
        self.report.lost += filter(self._is_inside, self._video.lost)
        self.report.lost.sort()

    def _is_inside(self, time: int) -> bool:
        """Return whether a time is in the selected part, which is open at the ends of the video."""
        times = self._video.frame_times
        place = bisect_right(times, time)
        is_after_start = self._first == 0 or place > self._first
        return is_after_start and (place <= self._end or self._end == len(times))

    def _deinterlaced(self, planes: PlaneReader) -> Iterator[tuple[int, AVFrame]]:
        """Yield planar frames, deinterlaced if requested.

        The filter depends on the previous and the next frame. These are read as well, so that a
        frame is the same wherever reading starts.
        """
        kind = self._video.conversion
        if kind == "ivtc":
            yield from self._without_telecine(planes)
            return
        if not self._deinterlace and not kind:
            yield from self._planar(planes, self._first, self._end)
            return
        all_frames = len(self._stored.frame_times)
        first, end = max(0, self._first - 1), min(self._end + 1, all_frames)
        if kind:
            first, end = self._stored_range()
        expected, unit = frozenset(self._video.frame_times), self._video.time_base
        frames = self._planar(planes, first, end)
        for time, frame in deinterlaced(self._stored, frames, kind or "frame"):
            pts = round(time / unit)
            # Around a lost frame, other times come out.
            if not kind or pts in expected:
                yield pts, frame

    def _without_telecine(self, planes: PlaneReader) -> Iterator[tuple[int, AVFrame]]:
        """Yield the frames before a telecine, from whole cycles on.

        Filters need the neighbours of a frame and its place in its cycle. So they begin some cycles
        early, unless the frames are not evenly spaced, or the first of a cycle is lost.
        """
        times, cycle = self._stored.frame_times, TELECINE_CYCLE.denominator
        first = max(0, self._first // TELECINE_CYCLE.numerator - _CYCLES_BACK) * cycle
        first = first if first and self._is_even() else 0
        frames = self._planar(planes, first, len(times))
        head = next(frames, None)
        if first and (head is None or head[0] != times[first]):
            first, frames = 0, self._planar(planes, 0, len(times))
            head = next(frames, None)
        if head is not None:
            results = deinterlaced(self._stored, chain([head], frames), "ivtc")
            own = self._video.frame_times[int(first * TELECINE_CYCLE) :]
            yield from zip(own, (frame for _, frame in results), strict=False)

    def _is_even(self) -> bool:
        """Return whether each stored frame has its own place on the grid of the frame rate."""
        start, *_ = times = self._stored.frame_times
        step = 1 / (self._stored.rate * self._stored.time_base)
        limit = step / _EVENNESS
        return all(abs(time - start - number * step) <= limit for number, time in enumerate(times))

    def planar(self, planes: PlaneReader) -> Iterator[tuple[int, AVFrame]]:
        """Yield the times and planar frames of the selected part, as they are stored.

        Args:
            planes: Converter of the frames.
        """
        return self._planar(planes, self._first, self._end)

    def _stored_range(self) -> tuple[int, int]:
        """Return the numbers of the stored frames from which the selected ones are made."""
        times, stored = self._video.frame_times, self._stored.frame_times
        if self._first >= self._end:
            return 0, 0
        first = bisect_right(stored, times[self._first] / self._scale) - 2
        end = bisect_right(stored, times[self._end - 1] / self._scale) + 2
        return max(0, first), min(end, len(stored))

    def _planar(self, planes: PlaneReader, first: int, end: int) -> Iterator[tuple[int, AVFrame]]:
        """Yield the planar frames of a range of stored frames, with their times."""
        video = self._stored
        for pts, frame in self._decoded(first, end):
            shown = self._shown(pts)
            shape = (frame.width, frame.height, frame.format.name)
            is_other = shape != (video.width, video.height, video.source_format)
            if is_other and self._is_inside(shown):
                self.report.resized.append(shown)
            if frame.is_corrupt and self._is_inside(shown):
                self.report.damaged.append(shown)
            yield pts, planes.planar(frame)

    def _shown(self, pts: int) -> int:
        """Return the time of the frame that is made of a stored one."""
        if not self._video.conversion:
            return pts
        times = self._video.frame_times
        return times[max(bisect_right(times, pts * self._scale) - 1, 0)]

    def _decoded(self, first: int, end: int) -> Iterator[tuple[int, AVFrame]]:
        """Yield the decoded frames of a range of frame numbers.

        If seeking does not lead to exactly the expected frames, or the decoder meets damage (which
        it may conceal with earlier frames), everything is decoded from the beginning instead.
        """
        if first >= end:
            return
        expected = first
        anchor = self._seek_time(first)
        if anchor is not None:
            for pts, frame, is_intact in self._decode_range(anchor, first, end):
                if not is_intact or pts != self._stored.frame_times[expected]:
                    break
                yield pts, frame
                expected += 1
        if expected < end:
            for pts, frame, _ in self._decode_range(None, expected, end):
                yield pts, frame

    def _seek_time(self, first: int) -> int | None:
        """Return the time of the keyframe to seek to; None to start at the beginning."""
        # In a damaged container, seeking may lead to another part than reading through would.
        keyframes = () if self._stored.warnings else self._stored.keyframe_times
        place = bisect_left(keyframes, self._stored.frame_times[first] + 1) - _KEYFRAMES_BACK
        return keyframes[place] if place > 0 else None

    def _decode_range(
        self, anchor: int | None, first: int, end: int
    ) -> Iterator[tuple[int, AVFrame, bool]]:
        """Decode from a keyframe or the beginning, and yield a range of frame numbers."""
        video = self._stored
        low, high = video.frame_times[first], video.frame_times[end - 1]
        with open_video(video.source, video.max_pixels) as container:
            stream = select_video_stream(container, video.path, video.stream)
            discard_other_streams(container, stream)
            for pts, frame, is_intact in self._timed(
                stream, _packets(container, stream, video, anchor)
            ):
                if low <= pts <= high:
                    yield pts, frame, is_intact
                if pts >= high:
                    return

    def _timed(
        self, stream: VideoStream, packets: Iterable[Packet[Any]]
    ) -> Iterator[tuple[int, AVFrame, bool]]:
        """Yield expected frames in increasing order, and whether all so far were intact."""
        video, number, latest, is_intact = self._stored, 0, None, True
        expected = frozenset(video.frame_times)
        for result in decode(stream, packets):
            is_intact = is_intact and not result.error
            for frame in result.frames:
                is_intact = is_intact and not frame.is_corrupt
                pts = frame.pts
                if video.sequential:
                    is_known = number < len(video.frame_times)
                    pts = video.frame_times[number] if is_known else None
                    number += 1
                if pts in expected and (latest is None or pts > latest):
                    latest = pts
                    yield pts, frame, is_intact


def _bars(video: VideoInfo) -> tuple[int, ...] | None:
    """Return the samples of black bars around frames of another shape; None to stretch these."""
    if not video.pads:
        return None
    planes = video.planes
    opaque = (1 << planes.depth) - 1
    black = 0 if planes.kind == "rgb" or video.colour.full_range else 16 << (planes.depth - 8)
    chroma = 0 if planes.kind == "rgb" else 1 << (planes.depth - 1)
    return (black, opaque) if planes.kind == "grey" else (black, chroma, chroma, opaque)


def _packets(
    container: InputContainer, stream: VideoStream, video: VideoInfo, anchor: int | None
) -> Iterator[Packet[Any]]:
    """Yield packets from a keyframe on; none if seeking does not lead there."""
    timeline = timeline_for(video.container, video.stream, video.offsets)
    if anchor is None:
        return read_packets(container, stream, timeline)
    shift = round(video.offsets[0] / video.time_base) if video.offsets else 0
    try:
        container.seek(anchor - shift, stream=stream)
    except FFmpegError:
        return iter(())
    packets = dropwhile(
        lambda packet: not packet.is_keyframe, read_packets(container, stream, timeline)
    )
    head = next(packets, None)
    if head is None or head.pts is None or head.pts > anchor:
        return iter(())
    return chain([head], packets)
