"""Everything of a video beside its image: what an output can hold of it.

What a container takes is not looked up but tried: a stream's header and first packets are written
into a scratch file, and read back, before any frame is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Self, cast

import av
import numpy as np
from av.codec.context import CodecContext
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from upscale.errors import OutputError
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale.video.container import opened
from upscale.video.encoders import Encoder
from upscale.video.info import VideoFrame, VideoInfo
from upscale.video.mux import (
    OWN_TAGS,
    Carried,
    Output,
    StreamPlan,
)
from upscale.video.probe import timecode_of
from upscale.video.segment_writer import SegmentWriter, plane_shapes

_REFUSALS = (FFmpegError, OSError, ValueError, RuntimeError)
_TEXTS = ("subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text")
"""Subtitles that are text, and can become another kind of text."""

_PHONE_TAG = "com."
"""How the tags of telephones begin, such as com.apple.quicktime.make."""

_TRIED_PACKETS = 2000
_SHAPE_TOLERANCE = Fraction(1, 250)


def plan_streams(
    video: VideoInfo, encoder: Encoder, output: Path, folder: Path, *, strict: bool = False
) -> StreamPlan:
    """Find out, by trying, what of a video the output can hold.

    Args:
        video: The source.
        encoder: How its image will be encoded.
        output: The file to be; named in errors.
        folder: Where scratch files may lie for a while.
        strict: Whether anything lost is an error.

    Raises:
        OutputError: The output's header cannot be written; or, if strict, something is lost.
        VideoError: The source cannot be read.
    """
    trial = _Trial(video, encoder, folder)
    carried: list[Carried] = []
    lost: list[str] = []
    with opened(video.path, video.max_pixels) as source, trial:
        for stream in source.streams:
            if stream.index == video.stream or _is_made_anew(stream, source):
                continue
            ways = _ways(stream, encoder)
            way = next((each for each in ways if trial.holds(each, _kind(stream))), None)
            if way is None:
                lost.append(_refusal(stream, output))
                continue
            carried.append(way)
            if way.how == "convert" and _codec(stream) in ("ass", "ssa"):
                lost.append(f"{_name(stream)} loses its styles in {output.suffix}")
        # Containers put those without packets last.
        carried.sort(key=lambda each: _is_in_header(source.streams[each.index]))
        plan = StreamPlan(tuple(carried))
        refusal = trial.refusal(plan)
        if refusal is not None:
            raise OutputError(f"{printable(output)}: cannot be written ({refusal})")
        forgotten = trial.forgotten(plan)
        # Only the older way has a place for the location that all programs look at.
        if "location" not in source.metadata and any(_PHONE_TAG in line for line in forgotten):
            plan = replace(plan, any_tag=True)
            trial.refusal(plan)
            forgotten = trial.forgotten(plan)
    plan = replace(plan, lost=(*lost, *forgotten))
    if strict and plan.lost:
        raise OutputError(f"{printable(output)}: --strict, and {'; '.join(plan.lost)}")
    return plan


class _Trial:
    """Scratch files that show what a container takes."""

    def __init__(self, video: VideoInfo, encoder: Encoder, folder: Path) -> None:
        self._video = video
        self._encoder = encoder
        self._segment = folder / "trial-segment"
        self._result = folder / "trial"

    def __enter__(self) -> Self:
        shapes = plane_shapes(self._encoder)
        deep = self._encoder.planes.depth > 8
        planes = tuple(np.zeros(shape, np.uint16 if deep else np.uint8) for shape in shapes)
        with SegmentWriter(self._segment, self._encoder) as writer:
            writer.write(VideoFrame(self._video.plan[0], planes))
        return self

    def __exit__(self, *_: object) -> None:
        self._segment.unlink(missing_ok=True)
        self._result.unlink(missing_ok=True)

    def refusal(self, plan: StreamPlan) -> str | None:
        """Why a container does not take the streams of a plan; None where it does."""
        try:
            with (
                Output(self._result, self._video, self._encoder, plan, self._segment) as output,
                av.open(f"file:{self._segment}") as segment,
            ):
                for packet in segment.demux(video=0):
                    if packet.size:
                        packet.time_base = self._video.time_base
                        packet.pts = packet.dts = max(0, self._video.plan[0])
                        packet.stream = output.image
                        output.mux(packet)
                for packet in output.packets(_TRIED_PACKETS):
                    output.mux(packet)
        except _REFUSALS as error:
            return one_line(error)
        return None

    def holds(self, carried: Carried, kind: str) -> bool:
        """Whether a container takes a stream, and does not drop it without a word."""
        if self.refusal(StreamPlan((carried,))) is not None:
            return False
        with av.open(f"file:{self._result}") as result:
            return kind in map(_kind, list(result.streams)[1:])

    def forgotten(self, plan: StreamPlan) -> list[str]:
        """What the container took and does not hold, by reading the last trial's result."""
        with (
            opened(self._video.path, self._video.max_pixels) as source,
            av.open(f"file:{self._result}") as result,
        ):
            return list(_forgotten(source, result, self._video, self._encoder, plan))


def _kind(stream: Stream) -> str:
    """A stream's type, where covers are one of their own."""
    return "cover" if stream.disposition & Disposition.attached_pic else stream.type


def _is_in_header(stream: Stream) -> bool:
    """Whether a stream is a file that was attached, or a cover."""
    return _kind(stream) in ("attachment", "cover")


def _is_made_anew(stream: Stream, source: InputContainer) -> bool:
    """Whether a stream of data says what a muxer writes by itself: timecode, or chapters."""
    if stream.type != "data":
        return False
    return "timecode" in stream.metadata or (stream.name == "bin_data" and bool(source.chapters()))


def _ways(stream: Stream, encoder: Encoder) -> Iterable[Carried]:
    """How a stream might be carried, best first."""
    if stream.type == "data" and stream.name is None:
        return  # a muxer would write its packets without what explains them
    if isinstance(stream, VideoStream):
        if _is_in_header(stream):
            how = "attach" if encoder.container == "matroska" else "copy"
            yield Carried(stream.index, how)
        return
    yield Carried(stream.index)
    if stream.type == "subtitle" and _codec(stream) in _TEXTS:
        yield Carried(stream.index, "convert")


def _codec(stream: Stream) -> str:
    # PyAV has no codec context for codecs that it cannot decode.
    context = cast("CodecContext | None", stream.codec_context)
    # Streams of an unknown kind have no name at all.
    return (context.name if context is not None else getattr(stream, "name", None)) or ""


def _name(stream: Stream) -> str:
    parts = [stream.type, _codec(stream), stream.language or ""]
    return f"stream {stream.index} ({' '.join(filter(None, parts))})"


def _refusal(stream: Stream, output: Path) -> str:
    """Why a stream is not carried."""
    if isinstance(stream, VideoStream) and not _is_in_header(stream):
        return f"{_name(stream)} is left out; only the video's first or default image is upscaled"
    return f"{_name(stream)} cannot go into {output.suffix}"


def _forgotten(
    source: InputContainer,
    result: InputContainer,
    video: VideoInfo,
    encoder: Encoder,
    plan: StreamPlan,
) -> Iterator[str]:
    """What a file does not say that was written into it, a line each."""
    place = encoder.container
    tags = {key.lower() for key in source.metadata} - OWN_TAGS
    lost = sorted(tags - {key.lower() for key in result.metadata})
    if lost:
        yield f"{place} cannot hold the tags {', '.join(lost)}"
    if source.chapters() and not result.chapters():
        yield f"{place} cannot hold chapters"
    image = result.streams.video[0]
    if _differ(video.sample_aspect, image.sample_aspect_ratio):
        yield f"{encoder.codec} in {place} cannot hold the pixels' shape, {video.sample_aspect}"
    if video.timecode not in (None, timecode_of(result, image)):
        yield f"{place} cannot hold the timecode {video.timecode}"
    if _turn(video.display_matrix) != _turn(_display_matrix(result)):
        yield f"{place} cannot hold that the image is turned or mirrored"
    for carried, copy in zip(plan.carried, list(result.streams)[1:], strict=False):
        stream = source.streams[carried.index]
        if not _is_in_header(stream):
            yield from _changes(stream, copy, place)


def _differ(one: Fraction | None, other: Fraction | None) -> bool:
    """Whether shapes of pixels are others by more than the rounding of a header."""
    return abs((one or 1) / (other or Fraction(1)) - 1) > _SHAPE_TOLERANCE


def _changes(stream: Stream, copy: Stream, place: str) -> Iterator[str]:
    """What a copied stream says no more of itself."""
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    kept = {key.lower(): value for key, value in copy.metadata.items()}
    for key in ("language", "title"):
        if tags.get(key, "und") not in ("und", kept.get(key), kept.get("handler_name")):
            yield f"{place} cannot hold the {key} of {_name(stream)}"
    flags = [flag.name or "" for flag in stream.disposition & ~copy.disposition]
    if flags:
        yield f"{place} cannot flag {_name(stream)} as {', '.join(flags)}"


def _display_matrix(container: InputContainer) -> Sequence[int] | None:
    """How the first frame is turned and mirrored for display."""
    data = next(container.decode(video=0)).side_data.get("DISPLAYMATRIX")
    return None if data is None else np.frombuffer(bytes(data), np.int32).tolist()


def _turn(matrix: Sequence[int] | None) -> tuple[int, ...]:
    """The part of a display matrix that turns and mirrors."""
    if matrix is None:
        return (1, 0, 0, 1)
    return tuple(round(matrix[place] / 65536) for place in (0, 1, 3, 4))
