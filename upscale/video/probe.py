"""Look through a video once: its times, colours, shape and all else that its output has to keep."""

from __future__ import annotations

import io
import math
import re
import struct
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from upscale.errors import VideoError
from upscale.files.error_mapping import map_os_errors
from upscale.files.printable import printable
from upscale.video.container import (
    Complaints,
    decode,
    only,
    opened,
    packets_of,
    refuse_still,
    video_stream,
)
from upscale.video.info import (
    DEFAULT_MAX_PIXELS,
    Colour,
    HdrMetadata,
    Mastering,
    Matrix,
    PlaneFormat,
    VideoInfo,
)
from upscale.video.planes import planar_format
from upscale.video.timing import Timing, decoded, demuxed, fields_apart
from upscale.video.truncation import Ending, ending

# Below this many lines a video that says nothing is taken for BT.601.
_LINES_OF_HD = 720
# Numbers of ITU-T H.273. FCC is nearly 601 and SMPTE 240M nearly 709.
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
_FULL = 2
_LIMITED = 1
_PROGRESSIVE = 1
_TOP_SHOWN_FIRST = (2, 5)
# Of a Matroska header: where chroma samples lie across and down, and FFmpeg's number for both.
_CHROMA_SITING = re.compile(rb"\x55\xb7\x81([\x01-\x03])\x55\xb8\x81([\x01-\x03])")
_CHROMA_LOCATIONS = {(1, 2): 1, (2, 2): 2, (1, 1): 3, (2, 1): 4, (1, 3): 5, (2, 3): 6}
_SLOWEST, _FASTEST = Fraction(1, 1001), Fraction(1000)
_RATE_TOLERANCE = Fraction(1, 50)


def probe(path: Path, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> VideoInfo:
    """Find out all about a video; frames are decoded only as far as needed.

    Args:
        path: The file.
        max_pixels: The most that width times height of a frame may be, here and when it is read.

    Raises:
        VideoError: It is no video, its codec is not supported, it has too many pixels, or no frame
            of it can be decoded.
    """
    with opened(path, max_pixels) as container:
        stream = video_stream(container, path)
        _check_size(path, f"{stream.width}x{stream.height}", max_pixels)
        with Complaints() as complaints:
            frame = _first_frame(container, stream)
        if frame is None:
            _check_size(path, complaints.too_large(), max_pixels)
            raise VideoError(
                f"{printable(path)}: holds no frame that can be decoded; check the file"
            )
        video = _describe(path, container, stream, frame)
    return _timed(replace(video, max_pixels=max_pixels))


def _check_size(path: Path, size: str | None, limit: int) -> None:
    if size is not None and math.prod(map(int, size.split("x"))) > limit:
        raise VideoError(
            f"{printable(path)}: {size} is more than the limit of {limit} pixels: give a higher"
            " --max-pixels if you trust the file"
        )


def _first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    only(container, stream)
    parts = decode(stream, packets_of(container, stream))
    return next((part.frames[0] for part in parts if part.frames), None)


def _timed(video: VideoInfo) -> VideoInfo:
    """The same video with its plan."""
    timing = _timing(video)
    plan = timing.plan
    if not plan:
        raise VideoError(f"{printable(video.path)}: holds no frames; check the file")
    refuse_still(video.path, video.container, len(plan))
    rate = _rate(video.rate, plan, video.time_base)
    last = Fraction(timing.last) or 1 / (rate * video.time_base)
    end = _ending(video)
    missing = ("its end is missing",) if end is Ending.MISSING else ()
    return replace(
        video,
        plan=plan,
        rate=rate,
        # A palette comes once, at the beginning.
        keys=() if video.source_format == "pal8" else timing.keys,
        sequential=timing.sequential,
        lost=timing.lost,
        warnings=(*missing, *timing.warnings),
        open_end=end is Ending.UNKNOWN,
        duration=(plan[-1] - plan[0] + last) * video.time_base,
    )


def _rate(claimed: Fraction, plan: tuple[int, ...], time_base: Fraction) -> Fraction:
    """The rate that a file claims if its frames come at about that rate, or else their own."""
    if len(plan) < 2:
        return claimed
    average = (len(plan) - 1) / ((plan[-1] - plan[0]) * time_base)
    if abs(average / claimed - 1) < _RATE_TOLERANCE:
        return claimed
    return average.limit_denominator(1001) or _SLOWEST


def _timing(video: VideoInfo) -> Timing:
    with Complaints() as complaints:
        timing = _plan(video)
    warnings = dict.fromkeys((*timing.warnings, *complaints.about(video.container)))
    return replace(timing, warnings=tuple(warnings))


def _ending(video: VideoInfo) -> Ending:
    with map_os_errors(video.path, VideoError, "a video"), video.path.open("rb") as file:
        return ending(video.container, file)


def _plan(video: VideoInfo) -> Timing:
    with opened(video.path, video.max_pixels) as container:
        stream = video_stream(container, video.path, video.stream)
        apart = fields_apart(container, stream, video.interlaced)
        told, reliable = demuxed(container, stream)
    if reliable and not apart:
        return told
    with opened(video.path, video.max_pixels) as container:
        stream = video_stream(container, video.path, video.stream)
        timing = decoded(container, stream, video.rate, fields_apart=apart)
    lost = tuple(sorted((*timing.lost, *told.lost)))
    return replace(timing, lost=lost, warnings=(*told.warnings, *timing.warnings))


def _describe(
    path: Path, container: InputContainer, stream: VideoStream, frame: VideoFrame
) -> VideoInfo:
    """All but the times."""
    planes = planar_format(frame.format)
    order = stream.codec_context.field_order
    sides = _side_data(frame)
    return VideoInfo(
        path=path,
        stream=stream.index,
        width=frame.width,
        height=frame.height,
        planes=planes,
        source_format=frame.format.name,
        colour=_colour(container, stream, frame, planes),
        time_base=stream.time_base or Fraction(1, av.time_base),
        plan=(),
        rate=_claimed_rate(stream),
        duration=None,
        sample_aspect=stream.sample_aspect_ratio or None,
        display_matrix=_display_matrix(sides),
        rotation=frame.rotation,
        interlaced=frame.interlaced_frame or order > _PROGRESSIVE,
        top_first=order <= _PROGRESSIVE or order in _TOP_SHOWN_FIRST,
        hdr=_hdr(sides),
        timecode=timecode_of(container, stream),
        codec=stream.codec_context.codec.canonical_name,
        container=container.format.name,
    )


def _claimed_rate(stream: VideoStream) -> Fraction:
    for rate in (stream.average_rate, stream.guessed_rate):
        if rate and 0 < rate <= _FASTEST:
            return rate
    return Fraction(25)


def _colour(
    container: InputContainer, stream: VideoStream, frame: VideoFrame, planes: PlaneFormat
) -> Colour:
    space = int(frame.colorspace)
    found = _MATRICES.get(space)
    guess: Matrix = "bt601" if frame.height < _LINES_OF_HD else "bt709"
    if planes.kind == "rgb":
        found = "rgb"
    elif found == "rgb":
        found = None
    tagged = int(frame.color_range)
    # Without a word, grey is taken to be full as FFmpeg does.
    full = tagged == _FULL or frame.format.name.startswith("yuvj")
    full = full or (tagged != _LIMITED and planes.kind != "yuv")
    return Colour(
        matrix=found or guess,
        full_range=full,
        primaries=int(frame.color_primaries),
        transfer=int(frame.color_trc),
        space=space,
        guessed=found is None and planes.kind == "yuv",
        chroma_location=_chroma_location(stream),
    )


def _chroma_location(stream: VideoStream) -> int:
    """FFmpeg's number, which is nowhere to be read but in a header written from the stream."""
    header = io.BytesIO()
    with suppress(ValueError, FFmpegError), av.open(header, "w", format="matroska") as container:
        container.add_stream_from_template(stream, opaque=True)
        container.start_encoding()
    found = _CHROMA_SITING.search(header.getvalue())
    return _CHROMA_LOCATIONS.get((found[1][0], found[2][0]), 0) if found else 0


def _side_data(frame: VideoFrame) -> dict[str, bytes]:
    """What a frame carries beside its planes, by FFmpeg's names."""
    try:
        return {side.type.name: bytes(side) for side in frame.side_data}  # pyright: ignore
    except ValueError:
        # A kind that the library has no name for hides them all.
        return {}


def _display_matrix(sides: dict[str, bytes]) -> tuple[int, ...] | None:
    data = sides.get("DISPLAYMATRIX", b"")
    return struct.unpack("9i", data[:36]) if len(data) >= 36 else None


def _hdr(sides: dict[str, bytes]) -> HdrMetadata | None:
    mastering = _mastering(sides.get("MASTERING_DISPLAY_METADATA", b""))
    light = sides.get("CONTENT_LIGHT_LEVEL", b"")
    content = struct.unpack("2I", light[:8]) if len(light) >= 8 else None
    return HdrMetadata(mastering, content) if mastering or content else None


def _mastering(data: bytes) -> Mastering | None:
    """FFmpeg's structure: ten ratios of two numbers each, and whether either group is said."""
    if len(data) < 88:
        return None
    *numbers, primaries_said, luminance_said = struct.unpack("22i", data[:88])
    ratios = [
        Fraction(above, below or 1)
        for above, below in zip(numbers[::2], numbers[1::2], strict=True)
    ]
    points = tuple(zip(ratios[:8:2], ratios[1:8:2], strict=True))
    luminance = (ratios[8], ratios[9])
    return Mastering(points if primaries_said else None, luminance if luminance_said else None)


def timecode_of(container: InputContainer, stream: VideoStream) -> str | None:
    """The timecode of a video's first frame, wherever its file says it."""
    tracks = [other.metadata for other in container.streams if other.type == "data"]
    for tags in (stream.metadata, container.metadata, *tracks):
        for name, value in tags.items():
            if name.lower() == "timecode":
                return value
    return None
