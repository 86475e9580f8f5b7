"""Read a video's frames: each once, in order, with its own time, whatever the file is like."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, dropwhile
from typing import Any

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.filter import Graph
from av.packet import Packet
from av.video.frame import VideoFrame as Decoded
from av.video.stream import VideoStream

from upscale.video.container import decode, only, opened, packets_of, video_stream
from upscale.video.info import VideoFrame, VideoInfo
from upscale.video.planes import PlaneReader

# Decoding starts this many keys back, so that what a key may leave open is settled by the next.
_KEYS_BACK = 2


@dataclass
class ReadReport:
    """What came of reading; it grows while frames are read.

    Attributes:
        frames: How many were handed out.
        lost: Times of frames that should have come and did not, and never will.
        damaged: Times of frames that were handed out though the decoder found them damaged.
        refused: Where packets were that the decoder refused, and what it said.
        resized: Times of frames of another size or pixel format, which were brought to the video's.
    """

    frames: int = 0
    lost: list[int] = field(default_factory=list[int])
    damaged: list[int] = field(default_factory=list[int])
    refused: list[tuple[int | None, str]] = field(default_factory=list[tuple[int | None, str]])
    resized: list[int] = field(default_factory=list[int])

    @property
    def complete(self) -> bool:
        """Whether all frames came, and none of them damaged."""
        return not (self.lost or self.damaged)


def read_frames(
    video: VideoInfo,
    *,
    start_pts: int | None = None,
    stop_pts: int | None = None,
    deinterlace: bool = False,
) -> FrameReader:
    """The frames of a video, or of a part of it.

    Args:
        video: As `probe` found it.
        start_pts: Time of the first frame, in units of the video's time base.
        stop_pts: Time before which the last frame lies.
        deinterlace: Whether to make whole frames of two fields each, one for each frame.

    Returns:
        To be iterated once; its `report` says what was lost.
    """
    return FrameReader(video, start_pts, stop_pts, deinterlace)


class FrameReader:
    """An iteration over frames, and a report of it.

    Raises:
        VideoError: While iterating: the file is gone, or is no video any more.
    """

    def __init__(
        self, video: VideoInfo, start_pts: int | None, stop_pts: int | None, deinterlace: bool
    ) -> None:
        """Prepare; nothing is opened before the first frame is asked for."""
        first = 0 if start_pts is None else bisect_left(video.plan, start_pts)
        end = len(video.plan) if stop_pts is None else bisect_left(video.plan, stop_pts)
        self._video, self._deinterlace = video, deinterlace
        self._first, self._end = first, max(first, end)
        self.report = ReadReport()

    def __iter__(self) -> Iterator[VideoFrame]:
        planes = PlaneReader(self._video.planes, self._video.width, self._video.height)
        before: VideoFrame | None = None
        for pts, decoded in self._wanted(planes):
            arrays = planes.arrays(decoded)
            repeats = before is not None and all(map(np.array_equal, arrays, before.planes))
            before = VideoFrame(pts, arrays, repeats)
            self.report.frames += 1
            yield before

    def _wanted(self, planes: PlaneReader) -> Iterator[tuple[int, Decoded]]:
        """Planar frames of the wanted part and their times; what is missing is noted."""
        due = self._first
        plan = self._video.plan
        for pts, frame in self._fielded(planes):
            place = bisect_left(plan, pts)
            if not due <= place < self._end:
                continue
            self.report.lost += plan[due:place]
            due = place + 1
            yield pts, frame
        self.report.lost += plan[due : self._end]
        self.report.lost += filter(self._inside, self._video.lost)
        self.report.lost.sort()

    def _inside(self, time: int) -> bool:
        """Whether a time lies in the wanted part, which at either end of the video is open."""
        place = bisect_right(self._video.plan, time)
        after = self._first == 0 or place > self._first
        return after and (place <= self._end or self._end == len(self._video.plan))

    def _fielded(self, planes: PlaneReader) -> Iterator[tuple[int, Decoded]]:
        """Planar frames, free of fields where that is asked for.

        The filter looks at one frame before and one after, which are read along, so that a frame
        is the same wherever reading starts.
        """
        if not self._deinterlace:
            yield from self._planar(planes, self._first, self._end)
            return
        first, end = max(0, self._first - 1), min(self._end + 1, len(self._video.plan))
        yield from _deinterlaced(self._video, self._planar(planes, first, end))

    def _planar(self, planes: PlaneReader, first: int, end: int) -> Iterator[tuple[int, Decoded]]:
        """Planar frames of a part of the plan and their times."""
        video = self._video
        for pts, frame in self._found(first, end):
            shape = (frame.width, frame.height, frame.format.name)
            if shape != (video.width, video.height, video.source_format) and self._inside(pts):
                self.report.resized.append(pts)
            if frame.is_corrupt and self._inside(pts):
                self.report.damaged.append(pts)
            yield pts, planes.planar(frame)

    def _found(self, first: int, end: int) -> Iterator[tuple[int, Decoded]]:
        """Decoded frames of a part of the plan, in order.

        Where seeking does not lead to the very frames that are due, or the decoder meets damage,
        which it may conceal with older images, all is decoded from the beginning instead.
        """
        if first >= end:
            return
        due = first
        anchor = self._anchor(first)
        if anchor is not None:
            for pts, frame, sound in self._decoded(anchor, first, end):
                if not sound or pts != self._video.plan[due]:
                    break
                yield pts, frame
                due += 1
            self.report.refused.clear()
        if due < end:
            for pts, frame, _ in self._decoded(None, due, end):
                yield pts, frame

    def _anchor(self, first: int) -> int | None:
        """Time of the frame to seek to; None to start at the beginning."""
        # Of a damaged container, seeking may show another part than reading on would.
        keys = () if self._video.warnings else self._video.keys
        place = bisect_left(keys, self._video.plan[first] + 1) - _KEYS_BACK
        return keys[place] if place > 0 else None

    def _decoded(
        self, anchor: int | None, first: int, end: int
    ) -> Iterator[tuple[int, Decoded, bool]]:
        """Decode, from an anchor or the beginning, a part of the plan."""
        video = self._video
        low, high = video.plan[first], video.plan[end - 1]
        with opened(video.path, video.max_pixels) as container:
            stream = video_stream(container, video.path, video.stream)
            only(container, stream)
            for pts, frame, sound in self._timed(stream, _packets(container, stream, anchor)):
                if low <= pts <= high:
                    yield pts, frame, sound
                if pts >= high:
                    return

    def _timed(
        self, stream: VideoStream, packets: Iterable[Packet[Any]]
    ) -> Iterator[tuple[int, Decoded, bool]]:
        """Frames whose times increase and are in the plan, and whether all so far were sound."""
        video, number, latest, sound = self._video, 0, None, True
        planned = frozenset(video.plan)
        for part in decode(stream, packets):
            time = part.packet.pts if part.packet else None
            if part.error and (time is None or self._inside(time)):
                self.report.refused.append((time, part.error))
            sound = sound and not part.error
            for frame in part.frames:
                sound = sound and not frame.is_corrupt
                pts = frame.pts
                if video.sequential:
                    pts = video.plan[number] if number < len(video.plan) else None
                    number += 1
                if pts in planned and (latest is None or pts > latest):
                    latest = pts
                    yield pts, frame, sound


def _packets(
    container: InputContainer, stream: VideoStream, anchor: int | None
) -> Iterator[Packet[Any]]:
    """Packets from an anchor on; none where seeking does not lead there."""
    if anchor is None:
        return packets_of(container, stream)
    try:
        container.seek(anchor, stream=stream)
    except FFmpegError:
        return iter(())
    packets = dropwhile(lambda packet: not packet.is_keyframe, packets_of(container, stream))
    head = next(packets, None)
    if head is None or head.pts is None or head.pts > anchor:
        return iter(())
    return chain([head], packets)


def _deinterlaced(
    video: VideoInfo, frames: Iterable[tuple[int, Decoded]]
) -> Iterator[tuple[int, Decoded]]:
    """One whole frame for each of two fields, by FFmpeg's bwdif."""
    graph: Graph | None = None
    for pts, frame in frames:
        frame.pts, frame.time_base = pts, video.time_base
        if graph is None:
            graph = _bwdif(video, frame)
        graph.vpush(frame)
        yield from _pulled(video, graph)
    if graph is not None:
        graph.vpush(None)
        yield from _pulled(video, graph)


def _bwdif(video: VideoInfo, frame: Decoded) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=video.time_base
    )
    # All frames: a video may be made of fields without saying so of each frame.
    bwdif = graph.add("bwdif", mode="send_frame", parity="auto", deint="all")
    graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
    return graph


def _pulled(video: VideoInfo, graph: Graph) -> Iterator[tuple[int, Decoded]]:
    with suppress(FFmpegError):
        while True:
            frame = graph.vpull()
            time = (frame.pts or 0) * (frame.time_base or video.time_base)
            yield round(time / video.time_base), frame
