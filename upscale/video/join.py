"""Join the segments of a video with its other streams, and verify the result."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from heapq import merge
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.error import FFmpegError
from av.packet import Packet

from upscale.errors import OutputError
from upscale.files.atomic import remove_stale_temporaries, write_atomically
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale.video.encoders import Encoder
from upscale.video.info import VideoInfo
from upscale.video.mux import Muxer, Outliers, StreamPlan, find_outliers, full_span
from upscale.video.output_stream import OutputStream, Span
from upscale.video.pyav import fraction

_RATE_TOLERANCE = Fraction(1, 1000)
"""Deviation in seconds that a constant frame rate may have, as Matroska rounds to milliseconds."""


@dataclass(frozen=True, slots=True)
class EncodedSegment:
    """A segment that is ready to be joined.

    Attributes:
        path: File of a `SegmentWriter`; None if the segment has no frames.
        times: Presentation times of its frames in units of the video's time base, sorted.
        delay: Number of frames by which decoding runs ahead of presentation.
    """

    path: Path | None
    times: tuple[int, ...]
    delay: int


@dataclass(frozen=True, slots=True)
class JoinResult:
    """Content of an output file, as verified by reading it back.

    Attributes:
        frames: Number of frames.
        warnings: Problems with other streams, one line each.
    """

    frames: int
    warnings: tuple[str, ...] = ()


def join(
    output: Path,
    video: VideoInfo,
    encoder: Encoder,
    plan: StreamPlan,
    segments: Sequence[EncodedSegment],
    *,
    span: Span | None = None,
    overwrite: bool = False,
) -> JoinResult:
    """Write the segments of a video and its other streams into one file, and verify it.

    The file gets its name only after it was verified.

    Args:
        output: Output file.
        video: Source video.
        encoder: Encoder of the segments.
        plan: Other streams to write.
        segments: Segments in order.
        span: Part of the video that the segments cover; None for all of it.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The file exists, cannot be written, or does not contain what was written.
        VideoError: The source cannot be read.
    """
    span = span or full_span(video)
    times = _shift(list(chain.from_iterable(each.times for each in segments)), video, span)
    header = next((each.path for each in segments if each.path is not None), None)
    if header is None:
        raise OutputError(f"{printable(output)}: no frame could be decoded, so nothing is written")
    warnings: list[str] = []

    def write(file: BinaryIO) -> None:
        # FFmpeg opens the file by name, because it moves the index to the front at the end.
        path = Path(file.name)
        outliers: Outliers = {}
        muxer = mux(path, outliers)
        if any(each.has_outliers for each in muxer.written_streams):
            outliers = find_outliers(video, plan)
            muxer = mux(path, outliers)
        verify(path, output, times, video.time_base, muxer.written_streams)
        warnings.extend(_outlier_warnings(outliers))
        warnings.extend(muxer.warnings)

    def mux(path: Path, outliers: Outliers) -> Muxer:
        steady = _is_steady(times, video)
        with Muxer(
            path, video, encoder, plan, header, span=span, steady=steady, outliers=outliers
        ) as muxer:
            frames = _video_packets(segments, times, video, muxer)
            for packet in merge(frames, muxer.packets(), key=_decoding_time):
                muxer.mux(packet)
        return muxer

    remove_stale_temporaries(output.parent)
    try:
        write_atomically(output, write, overwrite=overwrite)
    except (FFmpegError, ValueError) as error:
        raise OutputError(f"{printable(output)}: cannot be written ({one_line(error)})") from error
    return JoinResult(len(times), tuple(warnings))


def _outlier_warnings(outliers: Outliers) -> Iterator[str]:
    """Yield a line for each stream with packets that are left out."""
    for index, numbers in outliers.items():
        if numbers:
            yield f"{len(numbers)} packets of stream {index} have outlying timestamps; dropped"


def verify(
    path: Path, output: Path, times: Sequence[int], unit: Fraction, streams: Sequence[OutputStream]
) -> None:
    """Read a file back, and compare the times of all packets with those that were written.

    Args:
        path: The file.
        output: File name for error messages.
        times: Times of the frames, sorted.
        unit: Duration in seconds of one unit of `times`.
        streams: Other streams that were written.

    Raises:
        OutputError: A packet is missing, or has another time.
    """
    with av.open(f"file:{path}") as container:
        written = [array("q") for _ in container.streams]
        units = [fraction(stream.time_base) or unit for stream in container.streams]
        untimed = [0 for _ in container.streams]
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                written[packet.stream.index].append(packet.pts)
            elif packet.size:
                untimed[packet.stream.index] += 1
    clocks = [_Clock(sorted(each), own) for each, own in zip(written, units, strict=True)]
    clocks[0].compare(output, "frames", times, unit, units[0] / 2)
    places = _places(streams, len(clocks))
    for stream in streams:
        if stream.type == "cover" or stream.index not in places:
            continue
        place = places[stream.index]
        clock, name = clocks[place], f"packets of stream {stream.index}"
        if stream.type == "subtitle":
            # MP4 fills the time between subtitles with empty ones.
            clock = clock.nearest_to(stream.times, stream.unit)
        expected = sorted(stream.times)
        # Matroska stores audio before time zero, but not its time.
        before = min(untimed[place], sum(time < 0 for time in expected))
        clock.compare(output, name, expected[before:], stream.unit, clock.unit)


def _places(streams: Sequence[OutputStream], count: int) -> dict[int, int]:
    """Return where each stream is in a file of `count` streams.

    FFmpeg's MP4 muxer leaves out streams without packets, for example audio that starts after the
    end of the part that was asked for. The streams behind such a one move up.
    """
    indices = [stream.index for stream in streams]
    if count > max(indices, default=0):
        return {index: index for index in indices}
    written = [stream.index for stream in streams if stream.times or stream.type == "cover"]
    return {index: place for place, index in enumerate(sorted(written), 1)}


@dataclass(frozen=True, slots=True)
class _Clock:
    """Times of a stream that was read back, sorted, in units of its own."""

    times: list[int]
    unit: Fraction

    def compare(
        self, output: Path, name: str, times: Sequence[int], unit: Fraction, tolerance: Fraction
    ) -> None:
        """Raise an error if the times differ from the expected ones."""
        if len(self.times) != len(times):
            raise OutputError(
                f"{printable(output)}: the container holds only {len(self.times)} of"
                f" {len(times)} {name}; use another container"
            )
        for own, expected in zip(self.times, times, strict=True):
            if abs(own * self.unit - expected * unit) > tolerance:
                raise OutputError(
                    f"{printable(output)}: the container holds {name} at"
                    f" {float(own * self.unit):.6f} s instead of {float(expected * unit):.6f} s;"
                    " use another container"
                )

    def nearest_to(self, times: Iterable[int], unit: Fraction) -> _Clock:
        """Return only the time that is nearest to each of the given times."""
        places = (bisect_left(self.times, time * unit / self.unit - 1) for time in times)
        return _Clock(sorted(self.times[at] for at in places if at < len(self.times)), self.unit)


def _video_packets(
    segments: Sequence[EncodedSegment], times: Sequence[int], video: VideoInfo, muxer: Muxer
) -> Iterator[Packet[Any]]:
    """Yield the packets of all segments, with their final timestamps."""
    delay = max(segment.delay for segment in segments)
    step = max(1, round(1 / (video.rate * video.time_base)))
    header: bytes | None = None
    first = number = 0
    for segment in segments:
        if segment.path is None:
            continue
        with av.open(f"file:{segment.path}") as container:
            stream = container.streams.video[0]
            header = header if number else stream.codec_context.extradata
            if stream.codec_context.extradata != header:
                raise OutputError(
                    f"{printable(segment.path)}: was encoded by another version of the encoder;"
                    " pass --restart to start again"
                )
            for packet in container.demux(stream):
                if packet.size and packet.pts is not None:
                    frame = first + packet.pts
                    packet.time_base, packet.stream = video.time_base, muxer.video_stream
                    packet.pts = times[frame]
                    packet.dts = _time_of(number - delay, times, step)
                    packet.duration = _time_of(frame + 1, times, step) - times[frame]
                    number += 1
                    yield packet
        first += len(segment.times)


def _time_of(number: int, times: Sequence[int], step: int) -> int:
    """Return the time of a frame, extrapolated before the first and after the last one."""
    if number < 0:
        return times[0] + number * step
    return times[number] if number < len(times) else times[-1] + step


def _shift(times: list[int], video: VideoInfo, span: Span) -> list[int]:
    """Convert times to the clock of the output, which starts at the span."""
    if span.start is None:
        return times
    start = round(span.start / video.time_base)
    return [time - start for time in times]


def _is_steady(times: Sequence[int], video: VideoInfo) -> bool:
    """Return whether the frame rate is constant."""
    step = Fraction(times[-1] - times[0], max(1, len(times) - 1))
    limit = max(Fraction(1), _RATE_TOLERANCE / video.time_base)
    return all(abs(time - times[0] - step * number) <= limit for number, time in enumerate(times))


def _decoding_time(packet: Packet[Any]) -> float:
    return float((packet.dts or 0) * packet.time_base)
