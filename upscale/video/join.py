"""Join the segments of a video with its other streams, and verify the result."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from heapq import merge
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.audio.stream import AudioStream
from av.error import FFmpegError
from av.packet import Packet

from upscale.errors import OutputError
from upscale.files.atomic import remove_stale_temporaries, write_atomically
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale.video import t35
from upscale.video.carried_data import carried_data
from upscale.video.encoders import MP4_CONTAINERS, Encoder
from upscale.video.frame_grid import on_grid
from upscale.video.info import VideoInfo
from upscale.video.mux import Muxer, Outliers, StreamPlan, find_outliers, full_span
from upscale.video.output_stream import OutputStream, Span
from upscale.video.pyav import fraction

_RATE_TOLERANCE = Fraction(1, 1000)
"""Deviation in seconds that a constant frame rate may have, as Matroska rounds to milliseconds."""


_START_TOLERANCE = Fraction(1, 1000)
_SAMPLE_TOLERANCE = Fraction(1, 100)
"""Inaudible deviation in seconds of the end of samples, which MOV stores without times."""

_SAMPLE_BITS = re.compile(r"\d+")


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
    check_source: Callable[[], None] = lambda: None,
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
        check_source: Function that raises an error if the source has changed; called before the
            file gets its name.

    Raises:
        OutputError: The file exists, cannot be written, or does not contain what was written.
        VideoError: The source cannot be read.
    """
    times = [time for segment in segments for time in segment.times]
    is_cut = span is not None and span.start is not None
    data = carried_data(video, encoder.standard, times, is_cut=is_cut)
    joining = _Joining(
        output, video, encoder, plan, tuple(segments), span or full_span(video), data
    )
    warnings: list[str] = []

    def write(file: BinaryIO) -> None:
        # FFmpeg opens the file by name, because it moves the index to the front at the end.
        warnings.extend(joining.write(Path(file.name)))
        check_source()

    remove_stale_temporaries(output.parent)
    with _mapped_errors(output):
        write_atomically(output, write, overwrite=overwrite)
    return JoinResult(sum(len(each.times) for each in segments), tuple(warnings))


def rehearse(
    output: Path,
    video: VideoInfo,
    encoder: Encoder,
    plan: StreamPlan,
    dummy: EncodedSegment,
    *,
    span: Span | None = None,
    temporary: Path,
) -> None:
    """Join all other streams with dummy frames, and verify the result, before any frame exists.

    Args:
        output: Output file, for error messages.
        video: Source video.
        encoder: Encoder of the video.
        plan: Other streams to write.
        dummy: A segment of small packets, as many as the video has frames.
        span: Part of the video that it covers; None for all of it.
        temporary: File to write; it is deleted again.

    Raises:
        OutputError: The container cannot hold a packet of another stream at its time.
        VideoError: The source cannot be read.
    """
    joining = _Joining(output, video, encoder, plan, (dummy,), span or full_span(video))
    try:
        with _mapped_errors(output):
            joining.write(temporary)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _mapped_errors(output: Path) -> Generator[None]:
    try:
        yield
    except (FFmpegError, ValueError) as error:
        raise OutputError(f"{printable(output)}: cannot be written ({one_line(error)})") from error


@dataclass(frozen=True, slots=True)
class _Joining:
    """Everything that the content of an output depends on; see `join`."""

    output: Path
    video: VideoInfo
    encoder: Encoder
    plan: StreamPlan
    segments: tuple[EncodedSegment, ...]
    span: Span
    data: Mapping[int, tuple[bytes, ...]] = field(default_factory=dict[int, tuple[bytes, ...]])

    def write(self, path: Path) -> list[str]:
        """Write and verify a file, and return warnings about other streams."""
        times = [time for segment in self.segments for time in segment.times]
        times = _shift(times, self.video, self.span)
        exact = on_grid(times, self.video.time_base, self.video.rate)
        if exact is None or self.encoder.container not in MP4_CONTAINERS:
            return self._write(path, times)
        times, unit = exact
        video = replace(self.video, time_base=unit)
        encoder = replace(self.encoder, time_base=unit)
        return replace(self, video=video, encoder=encoder)._write(path, times)

    def _write(self, path: Path, times: Sequence[int]) -> list[str]:
        outliers: Outliers = {}
        muxer = self._mux(path, times, outliers)
        if any(each.has_outliers for each in muxer.written_streams):
            outliers = find_outliers(self.video, self.plan)
            muxer = self._mux(path, times, outliers)
        verify(path, self.output, times, self.video.time_base, muxer.written_streams)
        return [*_outlier_warnings(outliers), *muxer.warnings]

    def _mux(self, path: Path, times: Sequence[int], outliers: Outliers) -> Muxer:
        header = next((each.path for each in self.segments if each.path is not None), None)
        if header is None:
            raise OutputError(
                f"{printable(self.output)}: no frame could be decoded, so nothing is written"
            )
        with Muxer(
            path,
            self.video,
            self.encoder,
            self.plan,
            header,
            span=self.span,
            steady=_is_steady(times, self.video),
            outliers=outliers,
        ) as muxer:
            frames = _video_packets(self.segments, times, self.video, muxer, self.data)
            for packet in merge(frames, muxer.packets(), key=_decoding_time):
                muxer.mux(packet)
        return muxer


def _outlier_warnings(outliers: Outliers) -> Iterator[str]:
    """Yield a line for each stream with packets that are left out."""
    for index, numbers in outliers.items():
        if numbers:
            are = "packets of stream {} have" if len(numbers) > 1 else "packet of stream {} has"
            yield f"{len(numbers)} {are.format(index)} outlying timestamps; dropped"


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
        is_recut = container.format.name.startswith("mov,")
        written = [array("q") for _ in container.streams]
        units = [fraction(stream.time_base) or unit for stream in container.streams]
        untimed = [0 for _ in container.streams]
        sizes = [0 for _ in container.streams]
        ends = [Fraction(0) for _ in container.streams]
        for packet in container.demux():
            index = packet.stream.index
            sizes[index] += packet.size
            if packet.size and packet.pts is not None:
                written[index].append(packet.pts)
                length = _seconds_of_samples(packet)
                if length is not None:
                    ends[index] = max(ends[index], packet.pts * units[index] + length)
            elif packet.size:
                untimed[index] += 1
    clocks = [_Clock(sorted(each), own) for each, own in zip(written, units, strict=True)]
    clocks[0].compare(output, "frames", times, unit, units[0] / 2)
    places = _places(streams, len(clocks))
    for stream in streams:
        if stream.type == "cover" or stream.index not in places:
            continue
        place = places[stream.index]
        clock, name = clocks[place], f"packets of stream {stream.index}"
        if stream.is_pcm and is_recut:
            _compare_samples(output, stream, clock, sizes[place], ends[place])
            continue
        if stream.type == "subtitle":
            # MP4 fills the time between subtitles with empty ones.
            clock = clock.nearest_to(stream.times, stream.unit)
        expected = sorted(stream.times)
        # Matroska stores audio before time zero, but not its time.
        before = min(untimed[place], sum(time < 0 for time in expected))
        clock.compare(output, name, expected[before:], stream.unit, clock.unit)


def _compare_samples(
    output: Path, stream: OutputStream, clock: _Clock, size: int, end: Fraction
) -> None:
    """Raise an error if samples are missing, or do not start and end at the expected times."""
    if size != stream.size:
        raise OutputError(
            f"{printable(output)}: the container holds only {size} of {stream.size} bytes of"
            f" stream {stream.index}; use another container"
        )
    name, unit = f"samples of stream {stream.index}", stream.unit
    first = _Clock(clock.times[:1], clock.unit)
    first.compare(output, name, [min(stream.times)], unit, _START_TOLERANCE)
    last = _Clock([round(end / clock.unit)], clock.unit)
    last.compare(output, name, [stream.end], unit, _SAMPLE_TOLERANCE)


def _seconds_of_samples(packet: Packet[Any]) -> Fraction | None:
    """Return the duration of PCM by its bytes; None for other codecs.

    FFmpeg's reader of MOV forgets the start of a track in the duration of its last packet.
    """
    stream = packet.stream
    if not isinstance(stream, AudioStream) or not stream.codec_context.name.startswith("pcm_"):
        return None
    bits = _SAMPLE_BITS.search(stream.codec_context.name)
    size = (int(bits[0]) if bits else 8) * stream.codec_context.channels
    return Fraction(packet.size * 8, size * stream.codec_context.sample_rate)


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
    segments: Sequence[EncodedSegment],
    times: Sequence[int],
    video: VideoInfo,
    muxer: Muxer,
    data: Mapping[int, tuple[bytes, ...]],
) -> Iterator[Packet[Any]]:
    """Yield the packets of all segments, with their final timestamps and metadata."""
    delay = max(segment.delay for segment in segments)
    step = max(1, round(1 / (video.rate * video.time_base)))
    early = _times_before(segments, times, delay, step)
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
            for encoded in container.demux(stream):
                if encoded.size and encoded.pts is not None:
                    frame = first + encoded.pts
                    packet = _with_data(encoded, data[frame]) if frame in data else encoded
                    packet.time_base, packet.stream = video.time_base, muxer.video_stream
                    packet.pts = times[frame]
                    packet.dts = early[number] if number < delay else times[number - delay]
                    packet.duration = _time_of(frame + 1, times, step) - times[frame]
                    number += 1
                    yield packet
        first += len(segment.times)


def _with_data(packet: Packet[Any], payloads: tuple[bytes, ...]) -> Packet[Any]:
    """Return a packet with user data, and without times."""
    context = packet.stream.codec_context
    codec = context.codec.canonical_name
    lengths = t35.length_bytes(codec, context.extradata or b"")
    result: Packet[Any] = Packet(t35.with_payloads(codec, bytes(packet), lengths, payloads))
    result.is_keyframe = packet.is_keyframe
    return result


def _time_of(number: int, times: Sequence[int], step: int) -> int:
    """Return the time of a frame, extrapolated after the last one."""
    return times[number] if number < len(times) else times[-1] + step


def _times_before(
    segments: Sequence[EncodedSegment], times: Sequence[int], delay: int, step: int
) -> list[int]:
    """Return the decoding times of the first `delay` packets, which precede the first frame.

    FFmpeg's MP4 muxer takes the least distance between presentation and decoding for that of the
    first packet. So the steps are so short that no packet has a smaller distance.
    """
    order = islice(chain.from_iterable(map(_frame_numbers, _numbered(segments))), 1, delay + 1)
    shortest = min(
        ((times[frame] - times[0]) // place for place, frame in enumerate(order, 1)), default=step
    )
    shortest = max(1, min(step, shortest))
    return [times[0] - shortest * (delay - number) for number in range(delay)]


def _numbered(segments: Sequence[EncodedSegment]) -> Iterator[tuple[Path, int]]:
    """Yield the file of each segment, and the number of its first frame."""
    first = 0
    for segment in segments:
        if segment.path is not None:
            yield segment.path, first
        first += len(segment.times)


def _frame_numbers(segment: tuple[Path, int]) -> Iterator[int]:
    """Yield the number of each packet's frame, in the order of decoding."""
    path, first = segment
    with av.open(f"file:{path}") as container:
        for packet in container.demux(video=0):
            if packet.size and packet.pts is not None:
                yield first + packet.pts


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
