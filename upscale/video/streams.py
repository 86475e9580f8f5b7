"""Determine which streams and properties of a source the output can contain.

There is no table of what containers support. Instead, the header and first packets of each stream
are written into a temporary file and read back, before any frame is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Self, cast

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.codec.context import CodecContext
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from upscale.errors import OutputError
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale.files.regular import create_anew
from upscale.files.system_errors import is_system_error
from upscale.video import embedded
from upscale.video.container import open_video
from upscale.video.encoders import MP4_CONTAINERS, SEGMENT_CONTAINER, Encoder
from upscale.video.info import VideoFrame, VideoInfo
from upscale.video.join import EncodedSegment, rehearse
from upscale.video.mp4_tracks import metadata_tracks
from upscale.video.mux import GENERATED_TAGS, Muxer, StreamMapping, StreamPlan
from upscale.video.output_stream import Span
from upscale.video.probe import timecode_of
from upscale.video.pyav import clean_tags, fraction, side_data
from upscale.video.recode import AudioChoice, encoders_for, is_lossless
from upscale.video.segment_writer import SegmentWriter
from upscale.video.segments import MUX_TEST_NAMES
from upscale.video.stream_header import matroska_header, shown_elements
from upscale.video.track_choice import TrackChoice, check_tracks

_MUX_ERRORS = (FFmpegError, OSError, ValueError, RuntimeError)
_TEXT_CODECS = ("subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text")
"""Subtitle codecs that can be converted to another text format."""

_PHONE_TAG = "com."
"""Prefix of tags that phones write, such as com.apple.quicktime.make."""

_TEST_PACKETS = 2000
_SMALL_PACKET = 4096
"""Bytes of the frames that stand in for the true ones."""

_ASPECT_TOLERANCE = Fraction(1, 250)


def plan_streams(
    video: VideoInfo,
    encoder: Encoder,
    output: Path,
    folder: Path,
    *,
    strict: bool = False,
    audio: AudioChoice = "auto",
    audio_tracks: TrackChoice | None = None,
    subtitle_tracks: TrackChoice | None = None,
) -> StreamPlan:
    """Choose the streams that the output can contain, by writing test files.

    Args:
        video: Source video.
        encoder: Encoder of the upscaled video.
        output: Output file; its name is used in messages.
        folder: Folder for temporary files.
        strict: Raise an error if anything is lost.
        audio: Treatment of sound.
        audio_tracks: Tracks of sound to write; None for all.
        subtitle_tracks: Tracks of subtitles to write; None for all.

    Raises:
        OutputError: The output's header cannot be written; or, if strict, something is lost.
        VideoError: The source cannot be read, or lacks a chosen track.
    """
    test = _MuxTest(video, encoder, folder)
    tracks = metadata_tracks(video.path) if video.container.startswith("mov,") else {}
    mappings: list[StreamMapping] = []
    losses: list[str] = []
    notes: list[str] = []
    chosen = {"audio": audio_tracks, "subtitle": subtitle_tracks}
    with open_video(video.source, video.max_pixels) as source, test:
        for kind, choice in chosen.items():
            check_tracks(video.path, source.streams, kind, choice)
        for stream in source.streams:
            is_described = stream.type == "data" and stream.id in tracks
            if stream.index == video.stream:
                continue
            if _is_generated(stream, source) and not is_described:
                continue
            if stream.type == "audio" and audio == "none":
                continue
            choice = chosen.get(stream.type)
            if choice is not None and not choice.includes(stream):
                continue
            candidates = _mappings(stream, encoder, audio, is_described=is_described)
            mapping = next((each for each in candidates if test.keeps(each, _type(stream))), None)
            if mapping is None:
                losses.append(explain_loss(stream, output))
                continue
            mappings.append(mapping)
            if mapping.mode == "recode":
                lines = notes if is_lossless(mapping.codec) or audio != "auto" else losses
                lines.append(f"{_name(stream)} is converted to {mapping.codec}")
            if mapping.mode == "convert" and _codec(stream) in ("ass", "ssa"):
                losses.append(f"{_name(stream)} loses its styles in {output.suffix}")
        # Containers store streams without packets last.
        mappings.sort(key=lambda each: _is_in_header(source.streams[each.index]))
        plan = StreamPlan(tuple(mappings))
        error = test.try_plan(plan)
        if error is not None:
            raise OutputError(f"{printable(output)}: cannot be written ({error})")
        lost_properties = test.lost_properties(plan)
        # Only the older tag format stores the location where all programs look for it.
        has_phone_tags = any(_PHONE_TAG in line for line in lost_properties)
        if "location" not in source.metadata and has_phone_tags:
            plan = replace(plan, any_tag=True)
            test.try_plan(plan)
            lost_properties = test.lost_properties(plan)
    plan = replace(plan, losses=(*losses, *lost_properties), notes=tuple(notes))
    if strict and plan.losses:
        raise OutputError(
            f"{printable(output)}: {'; '.join(plan.losses)};"
            " use another container, or leave out --strict"
        )
    return plan


def rehearse_join(
    video: VideoInfo,
    encoder: Encoder,
    plan: StreamPlan,
    output: Path,
    folder: Path,
    *,
    times: Sequence[int],
    span: Span | None = None,
) -> None:
    """Find out before the first frame whether the container holds every packet of other streams.

    All of them are joined with frames of a few bytes, and verified as the output will be.

    Args:
        video: Source video.
        encoder: Encoder of the upscaled video.
        plan: Result of `plan_streams`.
        output: Output file; its name is used in messages.
        folder: Folder for temporary files.
        times: Times of the selected frames.
        span: Part of the video that they cover; None for all of it.

    Raises:
        OutputError: The container refuses a packet, or the disk is full.
        VideoError: The source cannot be read.
    """
    result, segment, frames = (folder / name for name in MUX_TEST_NAMES)
    try:
        _write_black(segment, video, encoder, 2)
        _write_dummy(frames, segment, len(times))
        _create(result)
        dummy = EncodedSegment(frames, tuple(times), delay=1)
        rehearse(output, video, encoder, plan, dummy, span=span, temporary=result)
    finally:
        segment.unlink(missing_ok=True)
        frames.unlink(missing_ok=True)


def _write_black(path: Path, video: VideoInfo, encoder: Encoder, count: int) -> None:
    """Encode black frames into a segment file."""
    frames = encoder.frame_format
    dtype = np.uint16 if frames.planes.depth > 8 else np.uint8
    planes = tuple(np.zeros(shape, dtype) for shape in frames.plane_shapes())
    step = max(1, round(1 / (video.rate * video.time_base)))
    _create(path)
    with SegmentWriter(path, encoder) as writer:
        for number in range(count):
            writer.write(VideoFrame(video.frame_times[0] + number * step, planes))


def _write_dummy(path: Path, segment: Path, count: int) -> None:
    """Write a segment file of many frames: the first one of another, and small ones after it.

    Every second frame is stored after its successor, as encoders do.
    """
    _create(path)
    with (
        av.open(f"file:{segment}") as source,
        av.open(f"file:{path}", "w", format=SEGMENT_CONTAINER) as target,
    ):
        first, *rest = (bytes(each) for each in source.demux(video=0) if each.size)
        stream = target.add_stream_from_template(source.streams.video[0], opaque=True)
        small = [*rest, first][0][:_SMALL_PACKET]
        for place, number in enumerate(_reordered(count)):
            packet = Packet(small if place else first)
            packet.pts, packet.dts, packet.duration = number, place - count, 1
            packet.time_base, packet.stream = Fraction(1, 1000), stream
            packet.is_keyframe = place == 0
            target.mux_one(packet)


def _reordered(count: int) -> Iterator[int]:
    yield 0
    for number in range(1, count, 2):
        yield from (number + 1, number) if number + 1 < count else (number,)


def _create(path: Path) -> None:
    """Create an empty file, which FFmpeg then opens by its name."""
    try:
        create_anew(path)
    except OSError as error:
        raise OutputError(f"{printable(path)}: cannot be written ({one_line(error)})") from error


class _MuxTest:
    """Write temporary files to test what a container supports; a context manager."""

    def __init__(self, video: VideoInfo, encoder: Encoder, folder: Path) -> None:
        self._video = video
        self._encoder = encoder
        self._result, self._segment = (folder / name for name in MUX_TEST_NAMES[:2])

    def __enter__(self) -> Self:
        _write_black(self._segment, self._video, self._encoder, 1)
        return self

    def __exit__(self, *_: object) -> None:
        self._segment.unlink(missing_ok=True)
        self._result.unlink(missing_ok=True)

    def try_plan(self, plan: StreamPlan) -> str | None:
        """Write a test file; return the error message if the container rejects a stream.

        Raises:
            OutputError: The disk is full, or the like: this says nothing about the container.
        """
        _create(self._result)
        try:
            with (
                Muxer(self._result, self._video, self._encoder, plan, self._segment) as muxer,
                av.open(f"file:{self._segment}") as segment,
            ):
                for packet in segment.demux(video=0):
                    if packet.size:
                        packet.time_base = self._video.time_base
                        packet.pts = packet.dts = max(0, self._video.frame_times[0])
                        packet.stream = muxer.video_stream
                        muxer.mux(packet)
                for packet in muxer.packets(_TEST_PACKETS):
                    muxer.mux(packet)
        except _MUX_ERRORS as error:
            if is_system_error(error):
                raise OutputError(
                    f"{printable(self._result)}: cannot be written ({one_line(error)}); fix this "
                    "and run the same command again"
                ) from error
            return one_line(error)
        return None

    def keeps(self, mapping: StreamMapping, kind: str) -> bool:
        """Return whether a container accepts a stream and does not silently drop it."""
        if self.try_plan(StreamPlan((mapping,))) is not None:
            return False
        with av.open(f"file:{self._result}") as result:
            return kind in map(_type, list(result.streams)[1:])

    def lost_properties(self, plan: StreamPlan) -> list[str]:
        """Return a line for each property that the last test file lacks."""
        with (
            open_video(self._video.source, self._video.max_pixels) as source,
            av.open(f"file:{self._result}") as result,
        ):
            return list(_lost_properties(source, result, self._video, self._encoder, plan))


def _type(stream: Stream) -> str:
    """Return the type of a stream, where covers are a type of their own."""
    return "cover" if stream.disposition & Disposition.attached_pic else stream.type


def _is_in_header(stream: Stream) -> bool:
    """Return whether a stream is an attached file or a cover."""
    return _type(stream) in ("attachment", "cover")


def _is_generated(stream: Stream, source: InputContainer) -> bool:
    """Return whether a muxer writes the content of a data stream itself: timecode or chapters."""
    if stream.type != "data":
        return False
    return "timecode" in stream.metadata or (stream.name == "bin_data" and bool(source.chapters()))


def _mappings(
    stream: Stream, encoder: Encoder, audio: AudioChoice, *, is_described: bool
) -> Iterable[StreamMapping]:
    """Yield possible mappings of a stream, the best one first."""
    if is_described and encoder.container in MP4_CONTAINERS:
        yield StreamMapping(stream.index, "describe")
    if stream.type == "data" and stream.name is None:
        return  # a muxer would write its packets without the header that describes them
    if isinstance(stream, VideoStream):
        if _is_in_header(stream):
            mode = "attach" if encoder.container == "matroska" else "copy"
            yield StreamMapping(stream.index, mode)
        return
    if isinstance(stream, AudioStream):
        yield from _audio_mappings(stream, audio)
        return
    yield StreamMapping(stream.index)
    if stream.type == "subtitle" and _codec(stream) in _TEXT_CODECS:
        yield StreamMapping(stream.index, "convert")


def _audio_mappings(stream: AudioStream, audio: AudioChoice) -> Iterable[StreamMapping]:
    context = cast("AudioCodecContext | None", stream.codec_context)
    if audio in ("auto", "copy", _codec(stream)):
        yield StreamMapping(stream.index)
    if context is None or audio == _codec(stream):
        return
    for encoder in encoders_for(_codec(stream), context.format.name, audio):
        yield StreamMapping(stream.index, "recode", encoder)


def _codec(stream: Stream) -> str:
    # PyAV has no codec context for codecs that it cannot decode.
    context = cast("CodecContext | None", stream.codec_context)
    # Streams of an unknown type have no name at all.
    return (context.name if context is not None else getattr(stream, "name", None)) or ""


def _name(stream: Stream) -> str:
    details = [stream.type, _codec(stream), stream.language or ""]
    return f"stream {stream.index} ({' '.join(filter(None, details))})"


def explain_loss(stream: Stream, output: Path) -> str:
    """Return a line that says why a stream is dropped.

    Args:
        stream: Stream of the source.
        output: Output, whose suffix is named.
    """
    if isinstance(stream, VideoStream) and not _is_in_header(stream):
        return f"{_name(stream)} is dropped; only the default or first video stream is upscaled"
    return f"{_name(stream)} is dropped; {output.suffix} does not support it"


def _lost_properties(
    source: InputContainer,
    result: InputContainer,
    video: VideoInfo,
    encoder: Encoder,
    plan: StreamPlan,
) -> Iterator[str]:
    """Yield a line for each property that was written into a file and is missing from it."""
    container = encoder.container
    header = matroska_header(result.streams.video[0])
    kept = {*embedded.in_elements(shown_elements(header)), *embedded.kept_in(encoder.standard)}
    names = (*video.embedded, *video.registered)
    yield from embedded.losses(each for each in names if each not in kept)
    if source.format.name.startswith("matroska"):
        languages = list(dict.fromkeys(embedded.long_languages(video.path)))
        if languages:
            yield f"the languages {', '.join(languages)} are kept without their regions"
    tags = {key.lower() for key in clean_tags(source.metadata)} - GENERATED_TAGS
    lost = sorted(tags - {key.lower() for key in result.metadata})
    if lost:
        yield f"{container} does not support the tags {', '.join(lost)}"
    if source.chapters() and not result.chapters():
        yield f"{container} does not support chapters"
    stream = result.streams.video[0]
    if _differs(encoder.sample_aspect, fraction(stream.sample_aspect_ratio)):
        yield (
            f"{encoder.codec} in {container} does not support the pixel aspect ratio"
            f" {encoder.sample_aspect}"
        )
    if video.timecode not in (None, timecode_of(result, stream)):
        yield f"{container} does not support the timecode {video.timecode}"
    if _orientation(video.display_matrix) != _orientation(_display_matrix(result)):
        yield f"{container} does not support rotated or mirrored video"
    for mapping, copy in zip(plan.mappings, list(result.streams)[1:], strict=False):
        original = source.streams[mapping.index]
        if not _is_in_header(original):
            yield from _lost_stream_properties(original, copy, container)


def _differs(one: Fraction | None, other: Fraction | None) -> bool:
    """Return whether pixel aspect ratios differ by more than the rounding of a header."""
    return abs((one or 1) / (other or Fraction(1)) - 1) > _ASPECT_TOLERANCE


def _lost_stream_properties(stream: Stream, copy: Stream, container: str) -> Iterator[str]:
    """Yield a line for each property of a stream that its copy lacks."""
    tags = {key.lower(): value for key, value in clean_tags(stream.metadata).items()}
    copied = {key.lower(): value for key, value in copy.metadata.items()}
    for key in ("language", "title"):
        if tags.get(key, "und") not in ("und", copied.get(key), copied.get("handler_name")):
            yield f"{container} does not support the {key} of {_name(stream)}"
    flags = [flag.name or "" for flag in stream.disposition & ~copy.disposition]
    if flags:
        yield f"{container} cannot flag {_name(stream)} as {', '.join(flags)}"


def _display_matrix(container: InputContainer) -> Sequence[int] | None:
    """Return the display matrix of the first frame."""
    data = side_data(next(container.decode(video=0)), "DISPLAYMATRIX")
    return np.frombuffer(data, np.int32).tolist() if data else None


def _orientation(matrix: Sequence[int] | None) -> tuple[int, ...]:
    """Return the part of a display matrix that rotates and mirrors."""
    if matrix is None:
        return (1, 0, 0, 1)
    return tuple(round(matrix[place] / 65536) for place in (0, 1, 3, 4))
