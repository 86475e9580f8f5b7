"""Probe a video: timing, colours, geometry and everything else that the output must preserve."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Literal, get_args

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from upscale.errors import VideoError
from upscale.files.error_mapping import map_os_errors
from upscale.files.printable import printable
from upscale.video.container import (
    ErrorLog,
    check_is_animated,
    decode,
    discard_other_streams,
    open_video,
    read_packets,
    select_video_stream,
)
from upscale.video.embedded import REGISTERED, in_elements, in_frame
from upscale.video.info import (
    DEFAULT_MAX_PIXELS,
    Colour,
    HdrMetadata,
    MasteringDisplay,
    Matrix,
    PlaneFormat,
    VideoInfo,
)
from upscale.video.numbered_images import NumberedImages
from upscale.video.planes import nearest_planar_format
from upscale.video.pyav import clean_tags, fraction, side_data
from upscale.video.stream_header import matroska_header, shown_elements
from upscale.video.timeline import first_offset, timeline_for
from upscale.video.timing import (
    Timing,
    may_split_fields,
    timing_from_decoding,
    timing_from_packets,
)
from upscale.video.truncation import Truncation, check_truncation

_HD_HEIGHT = 720
"""Untagged videos below this height are assumed to be BT.601."""
# Numbered as in ITU-T H.273. FCC nearly equals BT.601, and SMPTE 240M nearly equals BT.709.
_MATRICES: dict[int, Matrix] = {
    0: "rgb",
    1: "bt709",
    4: "bt601",
    5: "bt601",
    6: "bt601",
    7: "bt709",
    9: "bt2020",
    10: "bt2020",
}
_FULL_RANGE = 2
_LIMITED_RANGE = 1
_PROGRESSIVE = 1
# Matroska's elements for horizontal and vertical chroma siting, and FFmpeg's number for each pair.
_CHROMA_SITING = re.compile(rb"\x55\xb7\x81([\x01-\x03])\x55\xb8\x81([\x01-\x03])")
_CHROMA_LOCATIONS = {(1, 2): 1, (2, 2): 2, (1, 1): 3, (2, 1): 4, (1, 3): 5, (2, 3): 6}
_GROWING_CODECS = ("vp8", "vp9")
"""Codecs of calls, which begin with small frames; the header has the size to come."""

SizeChange = Literal["scale", "pad", "first"]
"""What happens to frames of another size than the video's."""

SIZE_CHANGES: tuple[SizeChange, ...] = get_args(SizeChange)

_SLOWEST, _FASTEST = Fraction(1, 1001), Fraction(1000)
_RATE_TOLERANCE = Fraction(1, 50)


def probe(
    path: Path,
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    stream: int | None = None,
    images: NumberedImages | None = None,
    on_change: SizeChange = "scale",
) -> VideoInfo:
    """Return the properties of a video; frames are decoded only as far as needed.

    Args:
        path: The file.
        max_pixels: Largest accepted width * height of a frame, here and when the video is read.
        stream: Index of the video stream; by default, the default or first one.
        images: Numbered images to read in place of a file; `path` is their pattern.
        on_change: Treatment of frames of another size: they are stretched or padded to the size of
            the header or the first frame, or stretched to that of the first frame.

    Raises:
        VideoError: The file is not a video, its codec is unsupported, its frames are too large, or
            none of them can be decoded.
    """
    with open_video(images or path, max_pixels) as container:
        selected = select_video_stream(container, path, stream)
        size = selected.width, selected.height
        _check_size(path, f"{selected.width}x{selected.height}", max_pixels)
        with ErrorLog() as log:
            frame = _first_frame(container, selected)
        if frame is None:
            _check_size(path, log.rejected_size(), max_pixels)
            raise VideoError(
                f"{printable(path)}: contains no frame that can be decoded; check the file"
            )
        video = replace(describe(path, container, selected, frame), images=images)
    video = replace(video, pads=on_change == "pad")
    is_larger = math.prod(size) > video.width * video.height
    if video.codec in _GROWING_CODECS and is_larger and on_change != "first":
        video = replace(video, width=size[0], height=size[1])
    return _add_timing(replace(video, max_pixels=max_pixels), frame.pts)


def _check_size(path: Path, size: str | None, limit: int) -> None:
    if size is not None and math.prod(map(int, size.split("x"))) > limit:
        raise VideoError(
            f"{printable(path)}: {size} exceeds the limit of {limit} pixels; pass a larger"
            " --max-pixels if you trust the file"
        )


def _first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    discard_other_streams(container, stream)
    results = decode(stream, read_packets(container, stream))
    return next((result.frames[0] for result in results if result.frames), None)


def _add_timing(video: VideoInfo, first: int | None) -> VideoInfo:
    """Return the same video with its frame times and what follows from them.

    Args:
        video: All other properties.
        first: The file's own time of the first frame that can be decoded.
    """
    timing, offsets = _read_timing(video)
    timing = _without_leading(timing, first, round(sum(offsets[:1]) / video.time_base))
    times = timing.times
    if not times:
        raise VideoError(f"{printable(video.path)}: contains no frames; check the file")
    check_is_animated(video.path, video.container, len(times))
    rate = _resolve_rate(video.rate, times, video.time_base)
    last = Fraction(timing.last) or 1 / (rate * video.time_base)
    truncation = _truncation(video)
    truncated = ("its end is missing",) if truncation is Truncation.TRUNCATED else ()
    jumps = f"{len(offsets) - 1} times" if len(offsets) > 2 else "once"
    jumped = (f"the clock jumps {jumps}; its parts follow each other",) * (len(offsets) > 1)
    names = dict.fromkeys((*video.embedded, *timing.embedded))
    registered = tuple(each for each in timing.embedded if each in REGISTERED)
    return replace(
        video,
        frame_times=times,
        rate=rate,
        # The palette is stored only once, at the beginning.
        keyframe_times=() if video.source_format == "pal8" else timing.keyframes,
        sequential=timing.sequential,
        lost=timing.lost,
        warnings=(*truncated, *jumped, *timing.warnings),
        offsets=offsets,
        embedded=tuple(each for each in names if each not in registered),
        registered=registered,
        interlaced=timing.progressive[1] > 0 if any(timing.progressive) else video.interlaced,
        progressive=timing.progressive[0] if any(timing.progressive) else None,
        end_unknown=truncation is Truncation.UNKNOWN,
        changes=tuple(_changes(video, timing)),
        duration=(times[-1] - times[0] + last) * video.time_base,
    )


def _changes(video: VideoInfo, timing: Timing) -> Iterator[str]:
    """Yield a line for the first change of the size and of the shape of pixels."""
    if not timing.shapes:
        return
    (_, first), *others = timing.shapes
    for time, shape in others:
        if (shape.width, shape.height) != (first.width, first.height):
            moment = _moment(time, video)
            yield f"the size of frames changes to {shape.width}x{shape.height}{moment}"
            break
    for time, shape in others:
        if shape.aspect != first.aspect:
            ratio = f"{shape.aspect.numerator}:{shape.aspect.denominator}"
            moment = _moment(time, video)
            yield f"the shape of pixels changes to {ratio}{moment}; the output keeps the first one"
            break


def _moment(time: int | None, video: VideoInfo) -> str:
    return "" if time is None else f" at {float(time * video.time_base):.2f} s"


def _truncation(video: VideoInfo) -> Truncation:
    if video.images is not None:
        return Truncation.COMPLETE
    with map_os_errors(video.path, VideoError, "a video"), video.path.open("rb") as file:
        return check_truncation(video.container, file)


def _without_leading(timing: Timing, first: int | None, offset: int) -> Timing:
    """Leave out frames before the first one that can be decoded: the file starts amid a group."""
    if first is None or timing.sequential or first + offset not in timing.times:
        return timing
    place = timing.times.index(first + offset)
    lost = tuple(sorted((*timing.times[:place], *timing.lost)))
    return replace(timing, times=timing.times[place:], lost=lost)


def _resolve_rate(tagged: Fraction, times: tuple[int, ...], time_base: Fraction) -> Fraction:
    """Return the tagged frame rate if it is about the true one, otherwise the true one."""
    if len(times) < 2:
        return tagged
    average = (len(times) - 1) / ((times[-1] - times[0]) * time_base)
    if abs(average / tagged - 1) < _RATE_TOLERANCE:
        return tagged
    return average.limit_denominator(1001) or _SLOWEST


def _read_timing(video: VideoInfo) -> tuple[Timing, tuple[Fraction, ...]]:
    """Return the timing, and the offsets of the parts of the file's clock."""
    with ErrorLog() as log:
        timing, offsets = _demux_or_decode(video, log)
    warnings = dict.fromkeys((*timing.warnings, *log.messages(video.container)))
    return replace(timing, warnings=tuple(warnings)), offsets


def _demux_or_decode(video: VideoInfo, log: ErrorLog) -> tuple[Timing, tuple[Fraction, ...]]:
    with open_video(video.source, video.max_pixels, log) as container:
        stream = select_video_stream(container, video.path, video.stream)
        split_fields = may_split_fields(container, stream, video.interlaced)
        offsets = first_offset(container, stream)
        timeline = timeline_for(video.container, video.stream, offsets)
        from_packets, is_reliable = timing_from_packets(container, stream, timeline)
    offsets = tuple(timeline.offsets) if timeline else ()
    if is_reliable and not split_fields:
        return from_packets, offsets
    with open_video(video.source, video.max_pixels, log) as container:
        stream = select_video_stream(container, video.path, video.stream)
        timing = timing_from_decoding(
            container,
            stream,
            video.rate,
            split_fields=split_fields,
            timeline=timeline_for(video.container, video.stream, offsets),
        )
    lost = tuple(sorted((*timing.lost, *from_packets.lost)))
    warnings = (*from_packets.warnings, *timing.warnings)
    timing = replace(
        timing,
        lost=lost,
        warnings=warnings,
        embedded=from_packets.embedded,
        progressive=from_packets.progressive,
        shapes=from_packets.shapes,
    )
    return timing, offsets


def describe(
    path: Path, container: InputContainer, stream: VideoStream, frame: VideoFrame
) -> VideoInfo:
    """Return all properties of a video except the timing.

    Args:
        path: The file.
        container: Open file.
        stream: Its video stream.
        frame: First frame of the stream.
    """
    planes = nearest_planar_format(frame.format)
    header = matroska_header(stream)
    return VideoInfo(
        path=path,
        stream=stream.index,
        width=frame.width,
        height=frame.height,
        planes=planes,
        source_format=frame.format.name,
        colour=_colour(container, header, frame, planes),
        time_base=fraction(stream.time_base) or Fraction(1, av.time_base),
        frame_times=(),
        rate=_tagged_rate(stream),
        duration=None,
        sample_aspect=fraction(stream.sample_aspect_ratio),
        display_matrix=_display_matrix(frame),
        rotation=frame.rotation,
        interlaced=frame.interlaced_frame or stream.codec_context.field_order > _PROGRESSIVE,
        hdr=_hdr(frame),
        timecode=timecode_of(container, stream),
        codec=stream.codec_context.codec.canonical_name,
        container=container.format.name,
        embedded=tuple(_embedded(stream, frame, header)),
    )


def _tagged_rate(stream: VideoStream) -> Fraction:
    for rate in map(fraction, (stream.average_rate, stream.guessed_rate)):
        if rate and 0 < rate <= _FASTEST:
            return rate
    return Fraction(25)


def _colour(
    container: InputContainer, header: bytes, frame: VideoFrame, planes: PlaneFormat
) -> Colour:
    space = int(frame.colorspace)
    matrix = _MATRICES.get(space)
    guess: Matrix = "bt601" if frame.height < _HD_HEIGHT else "bt709"
    if planes.kind == "rgb":
        matrix = "rgb"
    elif matrix == "rgb":
        matrix = None
    tagged_range = int(frame.color_range)
    is_full = tagged_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
    # Like FFmpeg, assume full range for untagged grey.
    is_full = is_full or (tagged_range != _LIMITED_RANGE and planes.kind != "yuv")
    return Colour(
        matrix=matrix or guess,
        full_range=is_full,
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        space=space,
        guessed=matrix is None and planes.kind == "yuv",
        chroma_location=_chroma_location(header),
    )


def _embedded(stream: VideoStream, frame: VideoFrame, header: bytes) -> Iterator[str]:
    yield from in_frame(frame)
    yield from in_elements(shown_elements(header))
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    if tags.get("alpha_mode") == "1" and not any(
        component.is_alpha for component in frame.format.components
    ):
        yield "the transparency"


def _chroma_location(header: bytes) -> int:
    """Return FFmpeg's chroma location."""
    match = _CHROMA_SITING.search(header)
    return _CHROMA_LOCATIONS.get((match[1][0], match[2][0]), 0) if match else 0


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    data = side_data(frame, "DISPLAYMATRIX")
    return struct.unpack("9i", data[:36]) if len(data) >= 36 else None


def _hdr(frame: VideoFrame) -> HdrMetadata | None:
    mastering = _mastering_display(side_data(frame, "MASTERING_DISPLAY_METADATA"))
    light = side_data(frame, "CONTENT_LIGHT_LEVEL")
    content = struct.unpack("2I", light[:8]) if len(light) >= 8 else None
    return HdrMetadata(mastering, content) if mastering or content else None


def _mastering_display(data: bytes) -> MasteringDisplay | None:
    """Parse AVMasteringDisplayMetadata: ten ratios of two numbers, and two flags."""
    if len(data) < 88:
        return None
    *numbers, has_primaries, has_luminance = struct.unpack("22i", data[:88])
    ratios = [
        Fraction(numerator, denominator or 1)
        for numerator, denominator in zip(numbers[::2], numbers[1::2], strict=True)
    ]
    points = tuple(zip(ratios[:8:2], ratios[1:8:2], strict=True))
    luminance = (ratios[8], ratios[9])
    return MasteringDisplay(points if has_primaries else None, luminance if has_luminance else None)


def timecode_of(container: InputContainer, stream: VideoStream) -> str | None:
    """Return the timecode of the first frame, which may be stored in one of several places."""
    tracks = [other.metadata for other in container.streams if other.type == "data"]
    for tags in (stream.metadata, container.metadata, *tracks):
        for name, value in clean_tags(tags).items():
            if name.lower() == "timecode":
                return value
    return None
