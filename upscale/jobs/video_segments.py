"""Compute the pending segments of a video on one or several devices."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from upscale.jobs.pipeline import WaitTimes, WriteBehind, read_ahead
from upscale.jobs.video_frames import (
    PLAIN,
    FrameOptions,
    FrameUpscaler,
    LoadedFrame,
    TensorUpscaler,
    UpscaledFrame,
)
from upscale.jobs.video_plan import VideoJob
from upscale.video.duplicates import RepeatFinder
from upscale.video.info import FrameFormat, VideoFrame
from upscale.video.reader import read_frames
from upscale.video.saved_frames import SavedFrame, SavedFrames
from upscale.video.segment_writer import SegmentWriter
from upscale.video.segments import CorruptFrames, Segment

FRAMES_AHEAD = FRAMES_BEHIND = 3
"""Frames that are read ahead of the network, and that wait for the encoder."""


@dataclass(frozen=True, slots=True)
class _Item:
    """A frame in the pipeline, or the end of a segment with its corrupt frames.

    A warm-up frame is computed for the next frame, and not written.

    Attributes:
        segment: Segment of the frame.
        content: The frame, or the problems of the segment at its end.
        saved: Stored frames of the segment.
        is_warm_up: Whether the frame is not written.
        is_damaged: Whether the decoder flagged the source frame as corrupt.
        is_resized: Whether the source frame had another size or pixel format.
    """

    segment: Segment
    content: LoadedFrame | UpscaledFrame | SavedFrame | CorruptFrames
    saved: SavedFrames
    is_warm_up: bool = False
    is_damaged: bool = False
    is_resized: bool = False


class Segments(Protocol):
    """Segments to compute, and where they go: the part of `SegmentStore` that is used here."""

    @property
    def segments(self) -> Sequence[Segment]:
        """All segments, in order."""
        ...

    @property
    def pending(self) -> Sequence[Segment]:
        """Segments to compute, in order."""
        ...

    def saved_frames(self, segment: Segment, format: FrameFormat) -> SavedFrames:
        """Return the frames of a pending segment that an interrupted run has stored."""
        ...

    def create(self, segment: Segment) -> Path:
        """Create the empty file of a segment."""
        ...

    def finish(
        self, segment: Segment, times: Sequence[int], corrupt_frames: CorruptFrames, /
    ) -> None:
        """Take a segment, whose file was written and closed; without times there is no file."""
        ...


class SegmentRunner:
    """Compute the pending segments of a video.

    On each device, neighbouring segments pass through one pipeline without a pause: while one of
    them is being finished, frames of the next are read and upscaled.

    Args:
        job: Planned video.
        store: Store of its segments.
        advance: Callback for every frame; from several threads, but one at a time.
        options: Options for the frames.
        check_source: Function that raises an error if the source has changed; called before a
            segment is entered into the journal.

    Attributes:
        restored: Number of frames of unfinished segments that an earlier run had computed.
    """

    def __init__(
        self,
        job: VideoJob,
        store: Segments,
        advance: Callable[[], None],
        options: FrameOptions = PLAIN,
        check_source: Callable[[], None] = lambda: None,
    ) -> None:
        self._job, self._store = job, store
        self._check_source = check_source
        self._options = options
        # Times of the frames that frames are blended with.
        self._before = dict(pairwise(reversed(job.times))) if options.steady else {}
        self._parts = tuple(segment.times[0] for segment in store.segments)
        self.restored = 0
        self._advance = advance
        self._advance_lock, self._store_lock = threading.Lock(), threading.Lock()
        self._stop = threading.Event()

    def run(self, upscalers: Sequence[TensorUpscaler]) -> tuple[int, WaitTimes]:
        """Compute all pending segments, with one upscaler for each device.

        The first failure stops the other devices at their next frame; segments that are finished
        by then are kept.

        Returns:
            The number of frames that the networks computed, and how long they waited in total.

        Raises:
            VideoError: The source cannot be read.
            OutputError: A segment cannot be written.
        """
        queue = SegmentQueue(self._store.pending, len(upscalers))
        with ThreadPoolExecutor(len(upscalers), "upscale-video") as pool:
            futures = [
                pool.submit(self._run_device, queue, number, upscaler)
                for number, upscaler in enumerate(upscalers)
            ]
            try:
                results = [future.result() for future in futures]
            finally:
                self._stop.set()
        waits = WaitTimes(
            sum(waits.for_input for _, waits in results),
            sum(waits.for_output for _, waits in results),
        )
        return sum(computed for computed, _ in results), waits

    def _run_device(
        self, queue: SegmentQueue, number: int, upscaler: TensorUpscaler
    ) -> tuple[int, WaitTimes]:
        """Compute segments on one device until the queue is empty."""
        waits = WaitTimes()
        formats = self._job.video.frame_format, self._job.encoder.frame_format
        frames = FrameUpscaler(*formats, upscaler, self._options)
        items = self._items(queue, number, frames)
        try:
            with (
                _SegmentFiles(
                    self._job, self._store, self._store_lock, self._check_source
                ) as files,
                read_ahead(items, FRAMES_AHEAD, waits) as loaded,
                WriteBehind(files.process, FRAMES_BEHIND, waits) as writer,
            ):
                for item in loaded:
                    if isinstance(item.content, LoadedFrame):
                        if self._stop.is_set():
                            break
                        upscaled = frames.upscale(item.content)
                        if not item.is_warm_up:
                            writer.put(replace(item, content=upscaled))
                    else:
                        writer.put(item)
                    self._count(item)
        except BaseException:
            self._stop.set()
            raise
        return frames.computed, waits

    def _count(self, item: _Item) -> None:
        """Report a frame as done, and count it if an earlier run has computed it."""
        if isinstance(item.content, CorruptFrames) or item.is_warm_up:
            return
        with self._advance_lock:
            self.restored += isinstance(item.content, SavedFrame)
            self._advance()

    def _items(self, queue: SegmentQueue, number: int, upscaler: FrameUpscaler) -> Iterator[_Item]:
        """Yield the frames of a device's segments, and an end after each segment."""
        reader: _SegmentReader | None = None
        while (segment := queue.take(number)) is not None:
            saved = self._store.saved_frames(segment, self._job.encoder.frame_format)
            restored = saved.load(segment.times)
            yield from (_Item(segment, each, saved) for each in restored)
            rest = segment
            if restored:
                times = segment.times[segment.times.index(restored[-1].frame.pts) + 1 :]
                rest, reader = Segment(segment.number, times), None
            if reader is None or reader.next_number != segment.number:
                before = self._before.get(rest.times[0])
                reader = _SegmentReader(self._job, rest, before, self._parts)
                if reader.frame_before is not None:
                    warm_up = upscaler.load(reader.frame_before)
                    yield _Item(segment, warm_up, saved, is_warm_up=True)
            for place, frame in enumerate(reader.frames(rest)):
                if self._stop.is_set():
                    return
                # A run that is resumed here cannot repeat a frame that it has not written.
                is_new = bool(self._options.steady) and place == 0
                loaded = upscaler.load(
                    replace(frame, repeats=False) if is_new else frame, self._before.get(frame.pts)
                )
                damaged, resized = reader.problems_at(frame.pts)
                yield _Item(segment, loaded, saved, is_damaged=damaged, is_resized=resized)
            yield _Item(segment, _with_restored(reader.corrupt_frames(segment), restored), saved)


class SegmentQueue:
    """Distribute segments to devices, so that each gets consecutive ones, which are read in one go.

    A device that has finished its own segments takes over the later half of the longest remaining
    share.

    Args:
        segments: All segments in order.
        devices: Number of devices.
    """

    def __init__(self, segments: Sequence[Segment], devices: int) -> None:
        bounds = [len(segments) * number // devices for number in range(devices + 1)]
        self._shares = [deque(segments[start:end]) for start, end in pairwise(bounds)]
        self._lock = threading.Lock()

    def take(self, device: int) -> Segment | None:
        """Return the next segment of a device, counted from 0; None if all are taken."""
        with self._lock:
            share = self._shares[device]
            longest = max(self._shares, key=len)
            if not share and longest:
                share.extend(list(longest)[len(longest) // 2 :])
                for _ in share:
                    longest.pop()
            return share.popleft() if share else None


class _SegmentReader:
    """Read consecutive segments in one pass over the video.

    Args:
        job: Planned video.
        first: First segment.
        before: Time of the frame before it that is read as well; None for none.
        parts: Times of the first frames of all segments.

    Attributes:
        next_number: Number of the segment that can be read next.
        frame_before: The frame before the first segment; None if it was not wanted or is lost.
    """

    def __init__(
        self,
        job: VideoJob,
        first: Segment,
        before: int | None = None,
        parts: Sequence[int] = (),
    ) -> None:
        self.next_number = first.number
        start = first.times[0] if before is None else before
        repeats = RepeatFinder(job.video.planes, job.settings.duplicates, parts)
        self._reader = read_frames(
            job.video, start_pts=start, deinterlace=job.settings.deinterlace, repeats=repeats
        )
        self._frames = iter(self._reader)
        self._pending: VideoFrame | None = None
        self.frame_before: VideoFrame | None = None
        if before is not None:
            frame = next(self._frames, None)
            if frame is not None and frame.pts == before:
                self.frame_before = frame
            else:
                self._pending = frame

    def frames(self, segment: Segment) -> Iterator[VideoFrame]:
        """Yield the frames of segment `next_number`; call it once for each segment."""
        self.next_number += 1
        last = segment.times[-1]
        while (frame := self._pending or next(self._frames, None)) is not None:
            # A frame of the next segment shows that the last frames of this one are lost.
            self._pending = frame if frame.pts > last else None
            if self._pending is None:
                yield frame
            if frame.pts >= last:
                return

    def problems_at(self, time: int) -> tuple[bool, bool]:
        """Return whether the frame that was read last is damaged, and whether it was resized."""
        report = self._reader.report
        return time in report.damaged[-1:], time in report.resized[-1:]

    def corrupt_frames(self, segment: Segment) -> CorruptFrames:
        """Return the corrupt frames of a segment that has been read."""
        report = self._reader.report
        return CorruptFrames(_within(report.damaged, segment), _within(report.resized, segment))


def _within(times: Sequence[int], segment: Segment) -> tuple[int, ...]:
    return tuple(sorted({time for time in times if segment.times[0] <= time <= segment.times[-1]}))


def _with_restored(found: CorruptFrames, restored: Sequence[SavedFrame]) -> CorruptFrames:
    """Add the problems of frames that were not read again."""
    damaged = (each.frame.pts for each in restored if each.damaged)
    resized = (each.frame.pts for each in restored if each.resized)
    return CorruptFrames((*damaged, *found.damaged), (*resized, *found.resized))


class _SegmentFiles:
    """Write frames to the files of their segments, and enter finished ones into the journal.

    Encoders delay frames, so completing a segment takes as long as dozens of frames. That is why
    segments are completed one after another in a separate thread, while the next one is started.
    Use it as a context manager; an incomplete segment is abandoned.
    """

    def __init__(
        self,
        job: VideoJob,
        store: Segments,
        lock: threading.Lock,
        check_source: Callable[[], None],
    ) -> None:
        self._check_source = check_source
        self._encoder, self._store, self._lock = job.encoder, store, lock
        self._writer: SegmentWriter | None = None
        self._finisher = ThreadPoolExecutor(1, "upscale-finish")
        self._finishing: Future[None] | None = None

    def process(self, item: _Item) -> None:
        """Write a frame, or start to finish a segment."""
        content = item.content
        if isinstance(content, CorruptFrames):
            self._wait()
            writer, self._writer = self._writer, None
            self._finishing = self._finisher.submit(self._finish, item, writer, content)
        elif isinstance(content, SavedFrame):
            self._write(item.segment, content.frame)
        elif isinstance(content, UpscaledFrame):
            frame = content.frame()
            self._write(item.segment, frame)
            item.saved.add(SavedFrame(frame, item.is_damaged, item.is_resized))

    def _write(self, segment: Segment, frame: VideoFrame) -> None:
        if self._writer is None:
            self._writer = SegmentWriter(self._store.create(segment), self._encoder)
        self._writer.write(frame)

    def _finish(
        self, item: _Item, writer: SegmentWriter | None, corrupt_frames: CorruptFrames
    ) -> None:
        times: tuple[int, ...] = ()
        if writer is not None:
            writer.close()
            times = writer.times
        with self._lock:
            self._check_source()
            self._store.finish(item.segment, times, corrupt_frames)
        item.saved.discard()

    def _wait(self) -> None:
        """Wait for the segment that is being finished, and raise its error."""
        if self._finishing is not None:
            self._finishing.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._finisher.shutdown()
        if self._writer is not None:
            self._writer.abandon()
        if kind is None:
            self._wait()
