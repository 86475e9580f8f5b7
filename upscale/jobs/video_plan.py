"""Plan a video: everything that can be checked and chosen before the first frame is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from upscale.errors import OutputError, VideoError
from upscale.files.atomic import check_target_free
from upscale.files.printable import printable
from upscale.jobs.inputs import reject_image
from upscale.video.encoders import Encoder, VideoEncoding, resolve_encoder
from upscale.video.info import DEFAULT_MAX_PIXELS, PQ, VideoInfo
from upscale.video.mux import full_span
from upscale.video.output_stream import Span
from upscale.video.probe import probe

SizeFunction = Callable[[tuple[int, int]], tuple[int, int]]
"""Maps the (width, height) of a source to that of the output."""


@dataclass(frozen=True, slots=True)
class VideoSettings:
    """Options of a user for a video.

    Attributes:
        encoding: Encoding options.
        start: Time in seconds of the first frame; None for the beginning.
        end: Time in seconds at which to stop, exclusive; None for the end.
        frames: Maximum number of frames.
        deinterlace: Make a full frame from the two fields of each frame first.
        strict: Raise an error if a stream or property of the source is lost.
        restart: Discard the segments of an interrupted run.
        overwrite: Replace an existing output.
        max_pixels: Largest accepted width * height of a source frame; None for the default.
    """

    encoding: VideoEncoding = field(default_factory=VideoEncoding)
    start: Fraction | None = None
    end: Fraction | None = None
    frames: int | None = None
    deinterlace: bool = False
    strict: bool = False
    restart: bool = False
    overwrite: bool = False
    max_pixels: int | None = None


@dataclass(frozen=True, slots=True)
class VideoJob:
    """A video that is ready to be processed.

    Attributes:
        video: Source video.
        output: Output file.
        encoder: Encoder of the upscaled frames.
        times: Times of the selected frames in units of the video's time base.
        span: Part of the video that the frames cover; None for all of it.
        settings: Options of the user.
        notes: Warnings about the source and the encoding, one line each.
    """

    video: VideoInfo
    output: Path
    encoder: Encoder
    times: tuple[int, ...]
    span: Span | None
    settings: VideoSettings
    notes: tuple[str, ...]


def plan_video(
    source: Path, output: Path, size_of: SizeFunction, settings: VideoSettings
) -> VideoJob:
    """Probe a video, select its frames, and open the encoder once.

    Args:
        source: Source video.
        output: Output file.
        size_of: Function that maps the source size to the output size.
        settings: Options of the user.

    Raises:
        VideoError: The source cannot be read, or no frame is selected.
        OutputError: The output exists, or its container does not support the encoding.
        UsageError: An option of the encoder is invalid.
    """
    check_target(source, output, overwrite=settings.overwrite)
    video = probe_with_limit(source, settings)
    times = select_times(video, settings)
    size = align_size(video, size_of((video.width, video.height)))
    encoder = resolve_encoder(video, settings.encoding, output, size)
    span = _span(video, times)
    notes = (*source_notes(video, settings), *encoder.notes)
    if video.timecode is not None and times[0] != video.frame_times[0]:
        video = replace(video, timecode=None)
        notes = (*notes, "the timecode is dropped, because it is that of the first frame")
    return VideoJob(video, output, encoder, times, span, settings, notes)


def probe_with_limit(source: Path, settings: VideoSettings) -> VideoInfo:
    """Probe a video with the frame size limit of the settings.

    Raises:
        VideoError: The source cannot be read, or is an image.
    """
    reject_image(source)
    return probe(source, max_pixels=settings.max_pixels or DEFAULT_MAX_PIXELS)


def check_target(source: Path, output: Path, *, overwrite: bool) -> None:
    """Check that an output may be written.

    Raises:
        OutputError: The output is the source, or exists and may not be replaced.
    """
    if output.exists() and source.exists() and output.samefile(source):
        raise OutputError(f"{printable(output)}: is the input itself; choose another output")
    check_target_free(output, overwrite=overwrite)


def select_times(video: VideoInfo, settings: VideoSettings) -> tuple[int, ...]:
    """Return the times of the selected frames.

    Raises:
        VideoError: No frame is selected.
    """
    start, end = settings.start, settings.end
    seconds = ((time, time * video.time_base) for time in video.frame_times)
    times = [
        time
        for time, second in seconds
        if (start is None or second >= start) and (end is None or second < end)
    ]
    if not times:
        raise VideoError(f"{printable(video.path)}: has no frame between --start and --end")
    return tuple(times[: settings.frames])


def _span(video: VideoInfo, times: tuple[int, ...]) -> Span | None:
    """Return the part of the video that the frames cover; None for all of it."""
    all_times = video.frame_times
    if times == all_times:
        return None
    after = all_times.index(times[-1]) + 1
    end = all_times[after] * video.time_base if after < len(all_times) else None
    if times[0] == all_times[0]:
        return Span(full_span(video).start, end)
    return Span(times[0] * video.time_base, end)


def align_size(video: VideoInfo, size: tuple[int, int]) -> tuple[int, int]:
    """Round a size to multiples of the chroma subsampling."""
    steps = 1 << video.planes.chroma_across, 1 << video.planes.chroma_down
    width, height = (
        max(1, round(side / step)) * step for side, step in zip(size, steps, strict=True)
    )
    return width, height


def source_notes(video: VideoInfo, settings: VideoSettings) -> Iterator[str]:
    """Yield warnings about a source, one line each."""
    yield from video.warnings
    if video.end_unknown:
        yield "the container does not record its length, so a truncated file cannot be detected"
    if video.colour.guessed and video.planes.kind == "yuv":
        yield f"the colours are not tagged; assuming {video.colour.matrix}"
    if video.colour.is_hdr:
        name = "PQ" if video.colour.transfer == PQ else "HLG"
        yield f"the video is HDR ({name}), which the network was not trained on"
    if video.interlaced and not settings.deinterlace:
        yield "the video is interlaced; use --deinterlace to make full frames first"
