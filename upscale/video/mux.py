"""A container that is being written: a video's image, and what is carried beside it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import AttachmentStream, Stream
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from upscale.video.container import demux, lists_packets, opened
from upscale.video.encoders import Encoder, tag_image
from upscale.video.info import VideoInfo
from upscale.video.matroska import CONTAINERS as MATROSKA
from upscale.video.matroska import NO_CHECKSUMS, PLACEHOLDER, set_pixel_shape
from upscale.video.output_stream import Span, Target
from upscale.video.timing import rising

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext
    from av.container.core import Chapter

TEXT_OF = {"mp4": "mov_text", "mov": "mov_text", "matroska": "srt", "webm": "webvtt"}
"""The kind of text that a container's subtitles are."""

OWN_TAGS = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration", "timecode"}
"""Tags of a whole file that a muxer writes itself, or that are written with the image."""

_STALE_TAGS = (
    *("_statistics", "bps", "duration", "number_of_", "encoder", "vendor_id", "rotate"),
    "timecode",
)
"""How tags of a stream begin that do not hold for the new one, or are written for themselves."""

_IMAGE_TYPES = {"mjpeg": "jpeg", "png": "png", "bmp": "bmp"}
_LARGEST_TIMESCALE = 10_000_000
_MARGIN = 5
"""Seconds by which streams may be apart in a file."""

_LATE_PACKETS = 1000
"""So many packets that come after the end, one after another, show that nothing more is wanted."""


def whole(video: VideoInfo) -> Span:
    """All of a video, on its own clock; one that starts before zero, where no file can, at zero."""
    first = video.plan[0] * video.time_base
    return Span(start=first if first < 0 else None)


@dataclass(frozen=True, slots=True)
class Carried:
    """A stream of the source that goes into the output.

    Attributes:
        index: In the source.
        how: Packets as they are; or text in another form; or one packet as an attached file.
    """

    index: int
    how: Literal["copy", "convert", "attach"] = "copy"


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What goes into an output beside the image.

    Attributes:
        carried: Streams, in the source's order.
        lost: What cannot be carried, a line each.
        any_tag: Whether tags are written in QuickTime's newer way, which has any key.
    """

    carried: tuple[Carried, ...] = ()
    lost: tuple[str, ...] = ()
    any_tag: bool = False


Outliers = Mapping[int, frozenset[int]]
"""By stream of the source, the numbers of packets, from 0, whose times fit none of the others."""


class Output:
    """A container that is being written: the image, and what is carried beside it.

    Use it as a context manager; at a good end the file is complete.

    Attributes:
        image: The stream of the image.
        targets: Those of what is carried, by stream of the source; None if complete already.
        unread: What of the source could not be read, a line each, once all packets are.

    Args:
        path: The file, which is replaced.
        video: The source.
        encoder: How the image was encoded.
        plan: What is carried.
        segment: A file of `SegmentWriter`'s, from which the image's header is taken.
        span: The part of the video that is written; None for all of it.
        steady: Whether frames come at a constant rate, which the header may then say.
        find_outliers: Packets that are left out.

    Raises:
        Whatever PyAV raises where the container does not take something.
    """

    def __init__(
        self,
        path: Path,
        video: VideoInfo,
        encoder: Encoder,
        plan: StreamPlan,
        segment: Path,
        *,
        span: Span | None = None,
        steady: bool = True,
        find_outliers: Outliers | None = None,
    ) -> None:
        self._path = path
        self._strays = find_outliers or {}
        self.unread: list[str] = []
        self._video = video
        self._span = span or whole(video)
        self._encoder = encoder
        self._kind = encoder.container
        with ExitStack() as stack:
            self._source = stack.enter_context(opened(video.path, video.max_pixels))
            self._shape = _shape_to_add(video, encoder, self._source)
            template = stack.enter_context(av.open(f"file:{segment}")).streams.video[0]
            options = _container_options(video, encoder, plan, self._source)
            self._container = stack.enter_context(
                av.open(f"file:{path}", "w", format=encoder.container, container_options=options)
            )
            self.image = self._add_image(template, video, encoder, steady=steady)
            self.targets = {each.index: self._add(each) for each in plan.carried}
            self._tag()
            self._container.start_encoding()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is None and self._shape is not None:
            size = self._encoder.width, self._encoder.height
            set_pixel_shape(self._path, size, self._shape)

    @property
    def written(self) -> list[Target]:
        """The streams beside the image that packets are written to."""
        return [target for target in self.targets.values() if target is not None]

    def mux(self, packet: Packet[Any]) -> None:
        """Write a packet of the image, or one of `packets`."""
        self._container.mux_one(packet)

    def packets(self, most: int | None = None) -> Iterator[Packet[Any]]:
        """Packets of the carried streams, ready for the output, in the source's order.

        Args:
            most: How many packets of the source are looked at.
        """
        late, refused = 0, list[str]()
        seen: Counter[int] = Counter()
        for number, packet in islice(_numbered(self._source, seen, refused), most):
            late = late + 1 if self._is_late(packet) else 0
            if late > _LATE_PACKETS:
                return
            index = packet.stream.index
            target = self.targets.get(index)
            if target is None or number in self._strays.get(index, ()):
                continue
            if self._is_wanted(_seconds(packet)):
                yield from target.take(packet)
        self.unread += _unread(self._source, self.targets, seen, refused)
        for index, target in self.targets.items():
            self.unread += _said(index, target)

    def _is_late(self, packet: Packet[Any]) -> bool:
        end = self._span.end
        return end is not None and _seconds(packet) > end + _MARGIN

    def _is_wanted(self, time: Fraction) -> bool:
        start, end = self._span.start, self._span.end
        return (start is None or time >= start) and (end is None or time < end)

    def _add_image(
        self, template: VideoStream, video: VideoInfo, encoder: Encoder, *, steady: bool
    ) -> VideoStream:
        stream = self._container.add_stream_from_template(template, opaque=True)
        stream.time_base = encoder.time_base
        context = stream.codec_context
        context.framerate = encoder.rate if steady or video.timecode else Fraction(0)
        tag_image(context, encoder)
        if encoder.tag is not None:
            context.codec_tag = encoder.tag
        if video.display_matrix is not None:
            stream.set_display_matrix(_upscaled(video.display_matrix, encoder.width / video.width))
        origin = self._source.streams[video.stream]
        stream.metadata.clear()
        stream.metadata.update(_stream_tags(origin))
        if video.timecode is not None:
            stream.metadata["timecode"] = video.timecode
        if self._shape is not None:
            stream.metadata.update(PLACEHOLDER)
        stream.disposition = origin.disposition
        return stream

    def _add(self, carried: Carried) -> Target | None:
        """Add a stream of the source; None for those that are complete with the header."""
        stream = self._source.streams[carried.index]
        if carried.how == "attach":
            self._container.add_attachment(*_attachment(self._video, carried.index))
            return None
        if carried.how == "convert":
            added = self._container.add_stream(TEXT_OF[self._kind])
            context = cast("SubtitleCodecContext", added.codec_context)
            context.subtitle_header = _text_header(cast("SubtitleStream", stream))
            added.time_base = Fraction(1, 1000)
        else:
            added = self._container.add_stream_from_template(stream, opaque=True)
        added.metadata.clear()
        added.metadata.update(_stream_tags(stream))
        if self._kind in ("mp4", "mov") and "title" in added.metadata:
            # The place where players look for the name of a track.
            added.metadata["handler_name"] = added.metadata["title"]
        added.disposition = stream.disposition
        if isinstance(stream, AttachmentStream):
            return None
        return Target(stream, added, self._span, converts=carried.how == "convert")

    def _tag(self) -> None:
        """Copy tags and chapters of the whole video."""
        tags = self._source.metadata
        self._container.metadata.update(
            {key: value for key, value in tags.items() if key.lower() not in OWN_TAGS}
        )
        self._container.set_chapters(list(_chapters(self._source, self._span)))


def find_outliers(video: VideoInfo, plan: StreamPlan) -> Outliers:
    """Find the packets whose times go back or jump ahead, by looking at all of a video.

    Raises:
        VideoError: The source cannot be read.
    """
    times: dict[int, list[int | None]] = {each.index: [] for each in plan.carried}
    with opened(video.path, video.max_pixels) as source:
        for _, packet in _numbered(source, Counter()):
            index = packet.stream.index
            if index in times:
                times[index].append(packet.dts if packet.dts is not None else packet.pts)
    return {
        index: frozenset(number for number, time in enumerate(each) if time is not None)
        - frozenset(rising(each))
        for index, each in times.items()
    }


def _numbered(
    source: InputContainer, seen: Counter[int], refused: list[str] | None = None
) -> Iterator[tuple[int, Packet[Any]]]:
    """All packets as they are stored, each with its number in its stream; `seen` counts them."""
    for packet in demux(source, refused=refused):
        if packet.size or packet.dts is not None:
            index = packet.stream.index
            seen[index] += 1
            yield seen[index] - 1, packet


def _unread(
    source: InputContainer, carried: Iterable[int], seen: Counter[int], refused: Sequence[str]
) -> Iterator[str]:
    """What could not be read beside the image, a line each."""
    if lists_packets(source):
        for index in carried:
            missing = len(source.streams[index].index_entries) - seen[index]
            if missing > 0:
                yield f"{missing} packets of stream {index} cannot be read"
    elif refused and carried:
        yield (
            f"the file cannot be read in {len(refused)} places ({refused[0]}), where sound or"
            " subtitles may be missing"
        )


def _said(index: int, target: Target | None) -> Iterator[str]:
    """What was not right with subtitles, a line each."""
    if target is not None and target.guessed:
        yield f"{target.guessed} texts of stream {index} are not in UTF-8; taken for Windows-1252"
    if target is not None and target.refused:
        yield f"{target.refused} texts of stream {index} cannot be converted, and are left out"


def _stream_tags(stream: Stream) -> dict[str, str]:
    """Tags of a stream, without those that are not true of another file."""
    return {
        key: value
        for key, value in stream.metadata.items()
        if not key.lower().startswith(_STALE_TAGS)
    }


def _container_options(
    video: VideoInfo, encoder: Encoder, plan: StreamPlan, source: InputContainer
) -> dict[str, str]:
    if encoder.container not in ("mp4", "mov"):
        # Sound may start before time zero; else everything would be moved on for its sake.
        options = {"avoid_negative_ts": "disabled"}
        # A header that is changed afterwards can have no checksum.
        return options if _shape_to_add(video, encoder, source) is None else options | NO_CHECKSUMS
    flags = "+faststart+use_metadata_tags" if plan.any_tag else "+faststart"
    # Delays of streams are counted in this unit, 1 ms if nothing is said.
    image = video.time_base.denominator
    # What cannot be decoded has no context.
    contexts = [
        cast("AudioCodecContext | None", each.codec_context) for each in source.streams.audio
    ]
    sounds = [context.sample_rate for context in contexts if context is not None]
    scale = math.lcm(1000, image, *filter(None, sounds))
    scale = scale if scale <= _LARGEST_TIMESCALE else image
    return {"movflags": flags, "movie_timescale": str(min(scale, 2**31 - 1))}


def _shape_to_add(video: VideoInfo, encoder: Encoder, source: InputContainer) -> Fraction | None:
    """The shape of pixels where it has to be added to a complete file."""
    if encoder.container not in MATROSKA or encoder.sample_aspect in (None, 1):
        return None
    # There is no room in a video that is made of two images side by side.
    taken = PLACEHOLDER.keys() & source.streams[video.stream].metadata.keys()
    return None if taken else encoder.sample_aspect


def _upscaled(matrix: Sequence[int], ratio: float) -> list[int]:
    """A display matrix whose shift, in pixels, fits an upscaled image."""
    across, down = (max(-(2**31), min(round(shift * ratio), 2**31 - 1)) for shift in matrix[6:8])
    return [*matrix[:6], across, down, matrix[8]]


def _attachment(video: VideoInfo, index: int) -> tuple[str, str, bytes]:
    """Name, type and content of an image that comes as a stream with one packet."""
    with opened(video.path, video.max_pixels) as source:
        stream = source.streams[index]
        data = next(bytes(packet) for packet in source.demux(stream) if packet.size)
        kind = _IMAGE_TYPES.get(stream.codec_context.name, "jpeg")
        name = stream.metadata.get("filename") or f"cover.{kind.replace('jpeg', 'jpg')}"
    return name, f"image/{kind}", data


def _text_header(stream: SubtitleStream) -> bytes | None:
    """What an encoder of subtitles has to know of their styles."""
    context = stream.codec_context
    context.open(strict=False)
    return context.subtitle_header


def _chapters(source: InputContainer, span: Span) -> Iterator[Chapter]:
    """The chapters of a part, on its own clock."""
    for chapter in source.chapters():
        unit = chapter["time_base"] or Fraction(1, 1000)
        start, end = chapter["start"], chapter["end"]
        if span.start is not None:
            first = round(span.start / unit)
            start, end = max(start - first, 0), end - first
        if span.end is not None:
            end = min(end, round((span.end - (span.start or 0)) / unit))
        if start < end:
            yield {**chapter, "start": start, "end": end, "time_base": unit}


def _seconds(packet: Packet[Any]) -> Fraction:
    time = packet.pts if packet.pts is not None else packet.dts or 0
    return time * packet.time_base
