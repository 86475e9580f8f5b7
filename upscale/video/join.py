"""Put the segments of a video together, with all that goes beside them, and check the result."""

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
from upscale.video.mux import Outliers, Output, StreamPlan, find_outliers, whole
from upscale.video.output_stream import Span, Target

_STEADY = Fraction(1, 1000)
"""Seconds by which frames of a constant rate may be off, since Matroska counts milliseconds."""


@dataclass(frozen=True, slots=True)
class Part:
    """A segment that is ready to be joined.

    Attributes:
        path: A file of `SegmentWriter`'s; None where the segment has no frames.
        times: Times of its frames in units of the video's time base, sorted.
        delay: By how many frames decoding has to run ahead of presentation.
    """

    path: Path | None
    times: tuple[int, ...]
    delay: int


@dataclass(frozen=True, slots=True)
class Joined:
    """What a result holds, as read back from it.

    Attributes:
        frames: Number of frames.
        notes: What of other streams is missing, a line each.
    """

    frames: int
    notes: tuple[str, ...] = ()


def join(
    output: Path,
    video: VideoInfo,
    encoder: Encoder,
    plan: StreamPlan,
    parts: Sequence[Part],
    *,
    span: Span | None = None,
    overwrite: bool = False,
) -> Joined:
    """Write a video's segments and the streams beside them into one file, and check it.

    The file appears under its name when it was found right; until then it has another, beside it.

    Args:
        output: The file.
        video: The source.
        encoder: How the segments were encoded.
        plan: What is carried beside the image.
        parts: The segments in order.
        span: The part of the video that they make; None for all of it.
        overwrite: Replace an existing file.

    Raises:
        OutputError: The file exists, cannot be written, or does not hold what was written.
        VideoError: The source cannot be read.
    """
    span = span or whole(video)
    times = _on_own_clock(list(chain.from_iterable(part.times for part in parts)), video, span)
    header = next((part.path for part in parts if part.path is not None), None)
    if header is None:
        raise OutputError(f"{printable(output)}: there is no frame to write")
    notes: list[str] = []

    def write(file: BinaryIO) -> None:
        # FFmpeg opens the file itself, since it reads again what it wrote to put its index first.
        path = Path(file.name)
        made = copy(path, {})
        found = find_outliers(video, plan) if any(each.disordered for each in made.written) else {}
        if found:
            made = copy(path, found)
        check(path, output, times, video.time_base, made.written)
        notes.extend(_said(made, found))

    def copy(path: Path, found: Outliers) -> Output:
        steady = _is_steady(times, video)
        with Output(
            path, video, encoder, plan, header, span=span, steady=steady, find_outliers=found
        ) as made:
            image = _image(parts, times, video, made)
            for packet in merge(image, made.packets(), key=_decoding_time):
                made.mux(packet)
        return made

    remove_stale_temporaries(output.parent)
    try:
        write_atomically(output, write, overwrite=overwrite)
    except (FFmpegError, ValueError) as error:
        raise OutputError(f"{printable(output)}: cannot be written ({one_line(error)})") from error
    return Joined(len(times), tuple(notes))


def _said(made: Output, found: Outliers) -> Iterator[str]:
    """What of other streams is missing, a line each."""
    for index, numbers in found.items():
        if numbers:
            yield (
                f"{len(numbers)} packets of stream {index} have times that fit none of the others,"
                " and are left out"
            )
    yield from made.unread


def check(
    path: Path, output: Path, times: Sequence[int], unit: Fraction, targets: Sequence[Target]
) -> None:
    """Read a file back and compare the times of all packets with those that were written.

    Args:
        path: The file.
        output: Its name in errors.
        times: Of the frames, sorted.
        unit: Seconds in a unit of `times`.
        targets: What was written beside the image.

    Raises:
        OutputError: Something is missing, or at another time.
    """
    with av.open(f"file:{path}") as container:
        found = [array("q") for _ in container.streams]
        units = [stream.time_base or unit for stream in container.streams]
        timeless = [0 for _ in container.streams]
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                found[packet.stream.index].append(packet.pts)
            elif packet.size:
                timeless[packet.stream.index] += 1
    clocks = [_Clock(sorted(each), own) for each, own in zip(found, units, strict=True)]
    clocks[0].compare(output, "frames", times, unit, units[0] / 2)
    for target in targets:
        if target.type == "cover":
            continue
        clock, what = clocks[target.index], f"packets of stream {target.index}"
        if target.type == "subtitle":
            # MP4 fills the time between subtitles with empty ones.
            clock = clock.among(target.times, target.unit)
        wanted = sorted(target.times)
        # Matroska holds sound that comes before time zero, but not by how much.
        before = min(timeless[target.index], sum(time < 0 for time in wanted))
        clock.compare(output, what, wanted[before:], target.unit, clock.unit)


@dataclass(frozen=True, slots=True)
class _Clock:
    """Times of a stream that was read back, sorted, in units of its own."""

    times: list[int]
    unit: Fraction

    def compare(
        self, output: Path, what: str, times: Sequence[int], unit: Fraction, most: Fraction
    ) -> None:
        """Refuse a file in which times are not those that they should be."""
        if len(self.times) != len(times):
            raise OutputError(
                f"{printable(output)}: would hold {len(self.times)} of {len(times)} {what};"
                " try another container"
            )
        for own, wanted in zip(self.times, times, strict=True):
            if abs(own * self.unit - wanted * unit) > most:
                raise OutputError(
                    f"{printable(output)}: {what} would come at {float(own * self.unit):.6f} s"
                    f" and not at {float(wanted * unit):.6f} s; try another container"
                )

    def among(self, times: Iterable[int], unit: Fraction) -> _Clock:
        """For each of some times the one that is next to it."""
        found = (bisect_left(self.times, time * unit / self.unit - 1) for time in times)
        return _Clock(sorted(self.times[at] for at in found if at < len(self.times)), self.unit)


def _image(
    parts: Sequence[Part], times: Sequence[int], video: VideoInfo, output: Output
) -> Iterator[Packet[Any]]:
    """The packets of all segments, with their true times."""
    delay = max(part.delay for part in parts)
    step = max(1, round(1 / (video.rate * video.time_base)))
    header: bytes | None = None
    first = number = 0
    for part in parts:
        if part.path is None:
            continue
        with av.open(f"file:{part.path}") as container:
            stream = container.streams.video[0]
            header = header if number else stream.codec_context.extradata
            if stream.codec_context.extradata != header:
                raise OutputError(
                    f"{printable(part.path)}: was encoded by another version of the encoder;"
                    " start again with --restart"
                )
            for packet in container.demux(stream):
                if packet.size and packet.pts is not None:
                    shown_at = first + packet.pts
                    packet.time_base, packet.stream = video.time_base, output.image
                    packet.pts = times[shown_at]
                    packet.dts = _at(number - delay, times, step)
                    packet.duration = _at(shown_at + 1, times, step) - times[shown_at]
                    number += 1
                    yield packet
        first += len(part.times)


def _at(number: int, times: Sequence[int], step: int) -> int:
    """The time of a frame; of those before the first and after the last, as far as can be said."""
    if number < 0:
        return times[0] + number * step
    return times[number] if number < len(times) else times[-1] + step


def _on_own_clock(times: list[int], video: VideoInfo, span: Span) -> list[int]:
    """Times on the clock of the output, which starts where the span does."""
    if span.start is None:
        return times
    start = round(span.start / video.time_base)
    return [time - start for time in times]


def _is_steady(times: Sequence[int], video: VideoInfo) -> bool:
    """Whether frames come at a constant rate."""
    step = Fraction(times[-1] - times[0], max(1, len(times) - 1))
    most = max(Fraction(1), _STEADY / video.time_base)
    return all(abs(time - times[0] - step * number) <= most for number, time in enumerate(times))


def _decoding_time(packet: Packet[Any]) -> float:
    return float((packet.dts or 0) * packet.time_base)
