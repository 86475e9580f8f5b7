"""Write an output file: the upscaled video, and the other streams of the source."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, cast

import av
from av.audio.stream import AudioStream
from av.codec.context import CodecContext
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import AttachmentStream, Stream
from av.subtitles.codeccontext import SubtitleCodecContext
from av.subtitles.stream import SubtitleStream
from av.video.stream import VideoStream

from upscale.video.container import demux, has_packet_index, open_video
from upscale.video.encoders import MP4_CONTAINERS, Encoder, tag_stream
from upscale.video.info import VideoInfo
from upscale.video.matroska import CONTAINERS as MATROSKA_CONTAINERS
from upscale.video.matroska import NO_CHECKSUMS, PLACEHOLDER, set_pixel_aspect
from upscale.video.mp4_stereo import remove_apple_boxes
from upscale.video.mp4_tracks import MetadataTrack, describe_tracks, metadata_tracks
from upscale.video.output_stream import OutputStream, Span
from upscale.video.pyav import clean_tags, fraction
from upscale.video.recode import Recoder, add_encoder, set_missing_layout
from upscale.video.stream_header import (
    STEREO_MODE,
    Elements,
    matroska_header,
    scaled,
    shown_elements,
    shown_size,
    shown_with,
)
from upscale.video.timeline import timeline_for
from upscale.video.timing import longest_nondecreasing

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext
    from av.container.core import Chapter

_TEXT_FORMATS = {"mp4": "mov_text", "mov": "mov_text", "matroska": "srt", "webm": "webvtt"}
"""Format of text subtitles in each container."""

GENERATED_TAGS = {
    *("encoder", "major_brand", "minor_version", "compatible_brands", "duration", "timecode"),
}
"""Global tags that are not copied, because the muxer or the video stream sets them."""

_STALE_TAGS = (
    *("_statistics", "bps", "duration", "number_of_", "encoder", "vendor_id", "rotate"),
    "timecode",
    "alpha_mode",
)
"""Prefixes of stream tags that are not copied, because they do not apply to the new stream."""

_IMAGE_TYPES = {"mjpeg": "jpeg", "png": "png", "bmp": "bmp"}
_MAX_TIMESCALE = 10_000_000
_LEAST_TEXT_SCALE = 20_000
"""Above the unit that FFmpeg's MP4 muxer gives to videos with coarse times."""
_MAX_INTERLEAVING = 5
"""Distance in seconds by which the streams of a file may be apart."""

_LATE_PACKETS = 1000
"""Number of consecutive packets beyond the end after which reading stops."""


def full_span(video: VideoInfo) -> Span:
    """Return the span of a whole video; negative times, which no file can hold, move to zero."""
    first = video.frame_times[0] * video.time_base
    return Span(start=first if first < 0 else None)


@dataclass(frozen=True, slots=True)
class StreamMapping:
    """A source stream that is written to the output.

    Attributes:
        index: Index of the stream in the source.
        mode: Copy the packets, convert subtitles to another text format, recode sound, attach one
            packet as a file, or copy packets of metadata with the description of their track.
        codec: FFmpeg's name of the encoder of recoded sound.
    """

    index: int
    mode: Literal["copy", "convert", "recode", "attach", "describe"] = "copy"
    codec: str = ""


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """The streams that are written to an output beside the upscaled video.

    Attributes:
        mappings: Streams in output order.
        losses: Streams and properties that the output cannot contain, one line each.
        any_tag: True if MP4 tags are written in the newer format, which allows any key.
        notes: Changes that lose nothing, one line each.
    """

    mappings: tuple[StreamMapping, ...] = ()
    losses: tuple[str, ...] = ()
    any_tag: bool = False
    notes: tuple[str, ...] = ()


Outliers = Mapping[int, frozenset[int]]
"""Numbers of the packets with outlying timestamps, counted from 0, for each source stream."""


class Muxer:
    """Write an output file; use it as a context manager, which completes the file.

    Args:
        path: Output file; it is replaced.
        video: Source video.
        encoder: Encoder of the upscaled video.
        plan: Other streams to write.
        segment: File of a `SegmentWriter`, from which the video stream's header is copied.
        span: Part of the video to write; None for all of it.
        steady: True if the frame rate is constant, so that the header may contain it.
        outliers: Packets to leave out.

    Attributes:
        video_stream: Output stream of the upscaled video.
        outputs: Output stream for each source stream; None if the header contains all of it.
        warnings: Problems with other streams, one line each, complete after the last packet.

    Raises:
        FFmpegError, OSError, ValueError, RuntimeError: The container rejects a stream or packet.
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
        outliers: Outliers | None = None,
    ) -> None:
        self._path = path
        self._outliers = outliers or {}
        self.warnings: list[str] = []
        self._video = video
        self._span = span or full_span(video)
        self._encoder = encoder
        self._described: dict[int, MetadataTrack] = {}
        self._numbers: dict[int, int] = {}
        is_described = any(each.mode == "describe" for each in plan.mappings)
        self._tracks = metadata_tracks(video.path) if is_described else {}
        with ExitStack() as stack:
            self._source = stack.enter_context(open_video(video.source, video.max_pixels))
            self._elements = _elements(video, encoder, self._source)
            template = stack.enter_context(_template(segment, self._elements))
            self._pixel_aspect = _missing_pixel_aspect(video, encoder, self._source, self._elements)
            options = _container_options(video, encoder, plan, self._source, self._elements)
            self._container = stack.enter_context(
                av.open(f"file:{path}", "w", format=encoder.container, container_options=options)
            )
            self.video_stream = self._add_video(template, steady=steady)
            self.outputs = {each.index: self._add_stream(each) for each in plan.mappings}
            self._copy_tags()
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
        if kind is None and self._pixel_aspect is not None:
            frames = self._encoder.frame_format
            size = shown_size(frames.width, frames.height, self._elements)
            set_pixel_aspect(self._path, size, self._pixel_aspect)
        if kind is None and self._elements and self._encoder.container in MP4_CONTAINERS:
            remove_apple_boxes(self._path)
        if kind is None and self._described:
            describe_tracks(self._path, self._described, self._numbers)

    @property
    def written_streams(self) -> list[OutputStream]:
        """Output streams beside the video to which packets are written."""
        return [output for output in self.outputs.values() if output is not None]

    def mux(self, packet: Packet[Any]) -> None:
        """Write a packet of the video, or one of `packets`."""
        self._container.mux_one(packet)

    def packets(self, limit: int | None = None) -> Iterator[Packet[Any]]:
        """Yield the output packets of all other streams, in the order of the source.

        Args:
            limit: Maximum number of source packets to read.
        """
        late, errors = 0, list[str]()
        counts: Counter[int] = Counter()
        for number, packet in islice(_numbered(self._source, self._video, counts, errors), limit):
            late = late + 1 if self._is_late(packet) else 0
            if late > _LATE_PACKETS:
                yield from self._remaining()
                return
            index = packet.stream.index
            output = self.outputs.get(index)
            if output is None or number in self._outliers.get(index, ()):
                continue
            if self._is_inside(_seconds(packet)):
                yield from output.process(packet)
        yield from self._remaining()
        self.warnings += _read_warnings(self._source, self.outputs, counts, errors)
        for index, output in self.outputs.items():
            self.warnings += _subtitle_warnings(index, output)

    def _remaining(self) -> Iterator[Packet[Any]]:
        for output in self.written_streams:
            yield from output.flush()

    def _is_late(self, packet: Packet[Any]) -> bool:
        end = self._span.end
        return end is not None and _seconds(packet) > end + _MAX_INTERLEAVING

    def _is_inside(self, time: Fraction) -> bool:
        start, end = self._span.start, self._span.end
        return (start is None or time >= start) and (end is None or time < end)

    def _add_video(self, template: VideoStream, *, steady: bool) -> VideoStream:
        video, encoder = self._video, self._encoder
        stream = self._container.add_stream_from_template(template, opaque=True)
        stream.time_base = encoder.time_base
        context = stream.codec_context
        context.framerate = encoder.rate if steady or video.timecode else Fraction(0)
        tag_stream(context, encoder)
        if encoder.tag is not None:
            context.codec_tag = encoder.tag
        if video.display_matrix is not None:
            scale = encoder.frame_format.width / video.width
            stream.set_display_matrix(_scale_matrix(video.display_matrix, scale))
        source = self._source.streams[video.stream]
        stream.metadata.clear()
        stream.metadata.update(_copied_tags(source))
        if video.timecode is not None:
            stream.metadata["timecode"] = video.timecode
        if encoder.frame_format.planes.alpha and encoder.standard == "vp9":
            # Its transparency lies beside the packets, where readers look for it if told to.
            stream.metadata["alpha_mode"] = "1"
        if self._pixel_aspect is not None:
            stream.metadata.update(PLACEHOLDER)
        stream.disposition = source.disposition
        self._numbers[source.id] = stream.index + 1
        return stream

    def _add_stream(self, mapping: StreamMapping) -> OutputStream | None:
        """Add a source stream; return None if the header contains all of it."""
        stream = self._source.streams[mapping.index]
        container = self._encoder.container
        recoder: Recoder | None = None
        if mapping.mode == "attach":
            self._container.add_attachment(*_read_attachment(self._video, mapping.index))
            return None
        if mapping.mode == "convert":
            added = self._container.add_stream(_TEXT_FORMATS[container])
            context = cast("SubtitleCodecContext", added.codec_context)
            context.subtitle_header = _subtitle_header(cast("SubtitleStream", stream))
        elif mapping.mode == "recode":
            added = add_encoder(self._container, mapping.codec, cast("AudioStream", stream))
            recoder = Recoder(cast("AudioStream", stream), added)
        elif mapping.mode == "describe" and container == "mp4":
            # Of all data, FFmpeg's muxer takes that of GoPro alone.
            added = self._container.add_data_stream("bin_data")
            added.time_base = stream.time_base
        else:
            added = self._container.add_stream_from_template(stream, opaque=True)
            if isinstance(added, AudioStream) and isinstance(stream, AudioStream):
                set_missing_layout(added.codec_context, stream.codec_context)
        if mapping.mode == "convert" or _is_mov_text(stream):
            added.time_base = _text_unit(self._video, self._source)
        added.metadata.clear()
        added.metadata.update(_copied_tags(stream))
        if container in MP4_CONTAINERS and "title" in added.metadata:
            # Players read the name of a track from this tag.
            added.metadata["handler_name"] = added.metadata["title"]
        added.disposition = stream.disposition
        self._numbers[stream.id] = added.index + 1
        if mapping.mode == "describe":
            track = self._described[added.index + 1] = self._tracks[stream.id]
            added.metadata["handler_name"] = track.placeholder
        if isinstance(stream, AttachmentStream):
            return None
        converts = mapping.mode == "convert"
        return OutputStream(
            stream, added, self._span, converts=converts, container=container, recoder=recoder
        )

    def _copy_tags(self) -> None:
        """Copy the global tags and the chapters."""
        tags = clean_tags(self._source.metadata)
        self._container.metadata.update(
            {key: value for key, value in tags.items() if key.lower() not in GENERATED_TAGS}
        )
        offset = self._video.offsets[0] if self._video.offsets else Fraction(0)
        self._container.set_chapters(list(_chapters(self._source, self._span, offset)))


def find_outliers(video: VideoInfo, plan: StreamPlan) -> Outliers:
    """Find packets whose timestamps go back or jump ahead, by reading all of the source.

    Raises:
        VideoError: The source cannot be read.
    """
    times: dict[int, list[int | None]] = {each.index: [] for each in plan.mappings}
    with open_video(video.source, video.max_pixels) as source:
        for _, packet in _numbered(source, video, Counter()):
            index = packet.stream.index
            if index in times:
                times[index].append(packet.dts if packet.dts is not None else packet.pts)
    return {
        index: frozenset(number for number, time in enumerate(each) if time is not None)
        - frozenset(longest_nondecreasing(each))
        for index, each in times.items()
    }


def _numbered(
    source: InputContainer,
    video: VideoInfo,
    counts: Counter[int],
    errors: list[str] | None = None,
) -> Iterator[tuple[int, Packet[Any]]]:
    """Yield all packets in file order, each with its number in its stream; `counts` counts them."""
    timeline = timeline_for(video.container, video.stream, video.offsets)
    for packet in demux(source, errors=errors, timeline=timeline):
        if packet.size or packet.dts is not None:
            index = packet.stream.index
            counts[index] += 1
            yield counts[index] - 1, packet


def _read_warnings(
    source: InputContainer, indices: Collection[int], counts: Counter[int], errors: Sequence[str]
) -> Iterator[str]:
    """Yield a line for each stream with unreadable packets."""
    if has_packet_index(source):
        for index in indices:
            missing = len(source.streams[index].index_entries) - counts[index]
            if missing > 0:
                yield f"{missing} packets of stream {index} cannot be read"
    elif errors and indices:
        yield (
            f"the source has {len(errors)} read errors ({errors[0]}); audio or subtitles may be"
            " missing there"
        )


def _subtitle_warnings(index: int, output: OutputStream | None) -> Iterator[str]:
    """Yield a line for each problem with a subtitle stream."""
    if output is not None and output.recoded:
        yield f"{output.recoded} subtitles of stream {index} are not UTF-8; read as Windows-1252"
    if output is not None and output.recoder is not None and output.recoder.failures:
        yield f"{output.recoder.failures} packets of stream {index} cannot be decoded; dropped"
    if output is not None and output.unconvertible:
        yield f"{output.unconvertible} subtitles of stream {index} cannot be converted; dropped"


def _copied_tags(stream: Stream) -> dict[str, str]:
    """Return the tags of a stream that also apply to its copy."""
    return {
        key: value
        for key, value in clean_tags(stream.metadata).items()
        if not key.lower().startswith(_STALE_TAGS)
    }


def _elements(video: VideoInfo, encoder: Encoder, source: InputContainer) -> Elements:
    """Return how the source is shown beyond its frames, for frames of the output's size."""
    stream = cast("VideoStream", source.streams[video.stream])
    frames = encoder.frame_format
    elements = shown_elements(matroska_header(stream))
    return scaled(elements, frames.width / video.width, frames.height / video.height)


@contextmanager
def _template(segment: Path, elements: Elements) -> Generator[VideoStream]:
    """Yield the video stream of a segment, with these elements where they can be added."""
    with ExitStack() as stack:
        container = stack.enter_context(av.open(f"file:{segment}"))
        stream = container.streams.video[0]
        if elements:
            first = next(container.demux(stream))
            with suppress(FFmpegError, KeyError, IndexError):
                stream = stack.enter_context(shown_with(stream, elements, first))
        yield stream


def _container_options(
    video: VideoInfo,
    encoder: Encoder,
    plan: StreamPlan,
    source: InputContainer,
    elements: Elements,
) -> dict[str, str]:
    if encoder.container not in MP4_CONTAINERS:
        # Audio may start before time zero; otherwise all streams would be shifted.
        options = {"avoid_negative_ts": "disabled"}
        is_changed = _missing_pixel_aspect(video, encoder, source, elements) is not None
        return options | NO_CHECKSUMS if is_changed else options
    flags = "+faststart+use_metadata_tags" if plan.any_tag else "+faststart"
    # The start times of streams are stored in this unit, which is 1 ms by default.
    video_scale = video.time_base.denominator
    scale = math.lcm(1000, video_scale, *_sample_rates(source))
    scale = scale if scale <= _MAX_TIMESCALE else video_scale
    options = {"movflags": flags, "movie_timescale": str(min(scale, 2**31 - 1))}
    # FFmpeg calls the boxes for stereo and 360-degree video unofficial.
    return options | {"strict": "unofficial"} if elements else options


def _sample_rates(source: InputContainer) -> list[int]:
    """Return the sample rates of all audio streams that FFmpeg knows."""
    # Streams that cannot be decoded have no context.
    contexts = [
        cast("AudioCodecContext | None", each.codec_context) for each in source.streams.audio
    ]
    return [context.sample_rate for context in contexts if context and context.sample_rate]


def _text_unit(video: VideoInfo, source: InputContainer) -> Fraction:
    """Return a unit of time for text in MP4: whole parts of a millisecond, but no needless ones.

    FFmpeg's muxer compares the end of a text with the times of other streams as bare numbers. It
    ends the text too early unless its unit is the shortest of all.
    """
    finest = max(_LEAST_TEXT_SCALE, video.time_base.denominator, *_sample_rates(source), 0)
    return Fraction(1, -(-finest // 1000) * 1000)


def _is_mov_text(stream: Stream) -> bool:
    context = cast("CodecContext | None", stream.codec_context)
    return context is not None and context.name == "mov_text"


def _missing_pixel_aspect(
    video: VideoInfo, encoder: Encoder, source: InputContainer, elements: Elements
) -> Fraction | None:
    """Return the pixel aspect ratio if it must be written into the complete file."""
    if encoder.container not in MATROSKA_CONTAINERS or encoder.sample_aspect in (None, 1):
        return None
    # The placeholder cannot be used if the source is stereo video itself.
    is_tagged = PLACEHOLDER.keys() & source.streams[video.stream].metadata.keys()
    return None if is_tagged or STEREO_MODE in elements else encoder.sample_aspect


def _scale_matrix(matrix: Sequence[int], scale: float) -> list[int]:
    """Scale the translation of a display matrix, which is in pixels."""
    across, down = (max(-(2**31), min(round(shift * scale), 2**31 - 1)) for shift in matrix[6:8])
    return [*matrix[:6], across, down, matrix[8]]


def _read_attachment(video: VideoInfo, index: int) -> tuple[str, str, bytes]:
    """Return the name, MIME type and content of a cover image, a stream with one packet."""
    with open_video(video.source, video.max_pixels) as source:
        stream = source.streams[index]
        data = next(bytes(packet) for packet in source.demux(stream) if packet.size)
        kind = _IMAGE_TYPES.get(stream.codec_context.name, "jpeg")
        name = clean_tags(stream.metadata).get("filename") or f"cover.{kind.replace('jpeg', 'jpg')}"
    return name, f"image/{kind}", data


def _subtitle_header(stream: SubtitleStream) -> bytes | None:
    """Return the style header that a subtitle encoder needs."""
    context = stream.codec_context
    context.open(strict=False)
    return context.subtitle_header


def _chapters(source: InputContainer, span: Span, offset: Fraction) -> Iterator[Chapter]:
    """Yield the chapters of a span, on the clock of the output."""
    for chapter in source.chapters():
        unit = fraction(chapter["time_base"]) or Fraction(1, 1000)
        start, end = (chapter[key] + round(offset / unit) for key in ("start", "end"))
        if span.start is not None:
            first = round(span.start / unit)
            start, end = max(start - first, 0), end - first
        if span.end is not None:
            end = min(end, round((span.end - (span.start or 0)) / unit))
        if start < end:
            tags = clean_tags(chapter["metadata"])
            yield {**chapter, "start": start, "end": end, "time_base": unit, "metadata": tags}


def _seconds(packet: Packet[Any]) -> Fraction:
    time = packet.pts if packet.pts is not None else packet.dts or 0
    return time * packet.time_base
