"""The segments of a video that are to do: shared by devices, read, upscaled, and kept when whole."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Self

from upscale.jobs.pipeline import Waiting, WriteBehind, read_ahead
from upscale.jobs.video_frames import FrameUpscaler, LoadedFrame, TensorUpscaler, UpscaledFrame
from upscale.video.encoders import Encoder
from upscale.video.info import VideoFrame, VideoInfo
from upscale.video.reader import FrameReader, read_frames
from upscale.video.segment_writer import SegmentWriter
from upscale.video.segments import CorruptFrames, Segment, Work

_FRAMES_AHEAD, _FRAMES_BEHIND = 3, 3


@dataclass(slots=True)
class Effort:
    """What it took to do the segments.

    Attributes:
        computed: Frames sent through the network.
        waiting: How long networks waited, all devices together.
    """

    computed: int
    waiting: Waiting


@dataclass(frozen=True, slots=True)
class _Piece:
    """What goes through the pipeline: a frame; or what is wrong with a segment that ends."""

    segment: Segment
    content: LoadedFrame | UpscaledFrame | CorruptFrames


class Segments:
    """Does all segments that are to do.

    On each device neighbouring segments run through one pipeline without a break: while one is
    being finished, frames of the next are read and upscaled.

    Args:
        video: Where frames come from.
        encoder: How they are encoded.
        work: Knows what is to do, and keeps what is done.
        deinterlace: Make whole frames of two fields each first.
        advance: Told of every frame; from several threads, one at a time.
    """

    def __init__(
        self,
        video: VideoInfo,
        encoder: Encoder,
        work: Work,
        *,
        deinterlace: bool,
        advance: Callable[[], None],
    ) -> None:
        self._video, self._encoder, self._work = video, encoder, work
        self._deinterlace = deinterlace
        self._advance = advance
        self._counting, self._keeping = threading.Lock(), threading.Lock()
        self._stopping = threading.Event()

    def run(self, upscalers: Sequence[TensorUpscaler]) -> Effort:
        """Do them, one upscaler for each device.

        The first failure ends the other devices at their next frame; whatever was whole by then
        is kept.

        Raises:
            VideoError: The source cannot be read (any more).
            OutputError: A segment cannot be written.
        """
        shares = Shares(self._work.to_do, len(upscalers))
        with ThreadPoolExecutor(len(upscalers), "upscale-video") as pool:
            running = [
                pool.submit(self._device, shares, number, upscaler)
                for number, upscaler in enumerate(upscalers)
            ]
            try:
                efforts = [each.result() for each in running]
            finally:
                self._stopping.set()
        waiting = Waiting(
            sum(each.waiting.for_input for each in efforts),
            sum(each.waiting.for_output for each in efforts),
        )
        return Effort(sum(each.computed for each in efforts), waiting)

    def _device(self, shares: Shares, number: int, upscaler: TensorUpscaler) -> Effort:
        """Everything that one device does."""
        waiting, frames = Waiting(), FrameUpscaler(self._video, self._encoder, upscaler)
        try:
            with (
                _Files(self._work, self._encoder, self._finish) as files,
                read_ahead(self._pieces(shares, number, frames), _FRAMES_AHEAD, waiting) as pieces,
                WriteBehind(files.take, _FRAMES_BEHIND, waiting) as writer,
            ):
                for piece in pieces:
                    if not isinstance(piece.content, LoadedFrame):
                        writer.put(piece)
                        continue
                    writer.put(_Piece(piece.segment, frames.upscale(piece.content)))
                    with self._counting:
                        self._advance()
        except BaseException:
            self._stopping.set()
            raise
        return Effort(frames.computed, waiting)

    def _pieces(self, shares: Shares, number: int, upscaler: FrameUpscaler) -> Iterator[_Piece]:
        """Frames of a device's segments, each followed by the ends of their segments."""
        reading: _Reading | None = None
        while (segment := shares.take(number)) is not None:
            if reading is None or reading.number != segment.number:
                reading = _Reading(self._video, segment, deinterlace=self._deinterlace)
            for frame in reading.frames(segment):
                if self._stopping.is_set():
                    return
                yield _Piece(segment, upscaler.load(frame))
            yield _Piece(segment, reading.corrupt_frames(segment))

    def _finish(
        self, segment: Segment, times: Sequence[int], corrupt_frames: CorruptFrames
    ) -> None:
        with self._keeping:
            self._work.finish(segment, times, corrupt_frames)


class Shares:
    """Segments for several devices, each of which gets a run of neighbours.

    Neighbours are read in one go. So a device that has done its run takes over the later half of
    the longest that is left.

    Args:
        segments: All of them.
        devices: How many share them.
    """

    def __init__(self, segments: Sequence[Segment], devices: int) -> None:
        cuts = [len(segments) * number // devices for number in range(devices + 1)]
        self._runs = [deque(segments[start:end]) for start, end in pairwise(cuts)]
        self._lock = threading.Lock()

    def take(self, device: int) -> Segment | None:
        """Return the next segment for a device, by its number from 0; None when all are taken."""
        with self._lock:
            run = self._runs[device]
            longest = max(self._runs, key=len)
            if not run and longest:
                run.extend(list(longest)[len(longest) // 2 :])
                for _ in run:
                    longest.pop()
            return run.popleft() if run else None


class _Reading:
    """One pass over a video, from a segment to those behind it.

    Attributes:
        number: Of the segment that it can go on with.
    """

    def __init__(self, video: VideoInfo, first: Segment, *, deinterlace: bool) -> None:
        self.number = first.number
        self._reader: FrameReader = read_frames(
            video, start_pts=first.times[0], deinterlace=deinterlace
        )
        self._frames = iter(self._reader)
        self._held: VideoFrame | None = None

    def frames(self, segment: Segment) -> Iterator[VideoFrame]:
        """The frames of segment `number`; once."""
        self.number += 1
        last = segment.times[-1]
        while (frame := self._held or next(self._frames, None)) is not None:
            # Frames of the next segment show that the last of this one are lost.
            self._held = frame if frame.pts > last else None
            if self._held is None:
                yield frame
            if frame.pts >= last:
                return

    def corrupt_frames(self, segment: Segment) -> CorruptFrames:
        """What was found wrong with frames of a segment that has been read."""
        report = self._reader.report
        return CorruptFrames(_within(report.damaged, segment), _within(report.resized, segment))


def _within(times: Sequence[int], segment: Segment) -> tuple[int, ...]:
    return tuple(sorted({time for time in times if segment.times[0] <= time <= segment.times[-1]}))


class _Files:
    """Writes frames into the files of their segments; one that is not ended is left behind.

    Encoders keep frames back: the end of a segment takes as long as dozens of frames. So segments
    are finished one after another in a thread of their own, while the next is begun.

    Use it as a context manager.
    """

    def __init__(
        self,
        work: Work,
        encoder: Encoder,
        finish: Callable[[Segment, Sequence[int], CorruptFrames], None],
    ) -> None:
        self._work, self._encoder, self._finish = work, encoder, finish
        self._file: SegmentWriter | None = None
        self._finisher = ThreadPoolExecutor(1, "upscale-finish")
        self._ending: Future[None] | None = None

    def take(self, piece: _Piece) -> None:
        """Write a frame; or see to it that a segment is closed and entered into the journal."""
        if isinstance(piece.content, UpscaledFrame):
            if self._file is None:
                self._file = SegmentWriter(self._work.path_for(piece.segment), self._encoder)
            self._file.write(piece.content.frame())
        elif isinstance(piece.content, CorruptFrames):
            self._wait()
            file, self._file = self._file, None
            self._ending = self._finisher.submit(self._end, piece.segment, file, piece.content)

    def _end(
        self, segment: Segment, file: SegmentWriter | None, corrupt_frames: CorruptFrames
    ) -> None:
        if file is not None:
            file.close()
        self._finish(segment, file.times if file is not None else (), corrupt_frames)

    def _wait(self) -> None:
        """Wait for the segment that is being finished, so that there is one at most."""
        if self._ending is not None:
            self._ending.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._finisher.shutdown()
        if self._file is not None:
            self._file.abandon()
        if kind is None:
            self._wait()
