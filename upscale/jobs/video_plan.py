"""Plan a video: everything that can be checked and chosen before the first frame is computed."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from upscale.engine.choices import KeepColour
from upscale.errors import OutputError, UsageError, VideoError
from upscale.files.atomic import check_target_free
from upscale.files.identity import FileState, file_state, is_same_file
from upscale.files.printable import printable
from upscale.files.regular import special_kind
from upscale.jobs.inputs import reject_image
from upscale.jobs.video_images import check_images_free, image_numbers, images_encoder
from upscale.shards import Shard
from upscale.video.conversions import Conversion, converted
from upscale.video.duplicates import Duplicates
from upscale.video.encoders import Encoder, VideoEncoding, resolve_encoder
from upscale.video.info import DEFAULT_MAX_PIXELS, PQ, VideoInfo
from upscale.video.mux import full_span
from upscale.video.numbered_images import ImagePattern, find_images, image_pattern
from upscale.video.output_stream import Span
from upscale.video.probe import SizeChange, probe
from upscale.video.recode import AudioChoice
from upscale.video.source_version import state_of_source
from upscale.video.track_choice import TrackChoice

_SPELLINGS = {"bt601": "BT.601", "bt709": "BT.709", "bt2020": "BT.2020"}

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
        stream: Index of the video stream; None for the default or first one.
        audio: Whether sound is copied, converted or left out.
        audio_tracks: Tracks of sound to keep; None for all.
        subtitle_tracks: Tracks of subtitles to keep; None for all.
        restart: Discard the segments of an interrupted run.
        overwrite: Replace an existing output.
        max_pixels: Largest accepted width * height of a source frame; None for the default.
        keep_colour: Whether frames get the colours of their sources.
        steady: Strength of the blend of each frame with the previous one, 0..1.
        shard: The share of the segments to compute; None for all of them.
        join: Whether a shard that finishes last joins all segments.
        square_pixels: Make square pixels of oblong ones.
        duplicates: Kind of frames that are not computed again.
        fps: Frames per second of an input of numbered images; None for a video.
        only_join: Join segments that are finished, and compute none.
        on_change: Treatment of frames of another size.
        conversion: Other frames that are made of the fields; None for none.
        work: Output beside which these segments are; None to look for them beside the new output.

    Raises:
        UsageError: Options exclude each other.
    """

    encoding: VideoEncoding = field(default_factory=VideoEncoding)
    start: Fraction | None = None
    end: Fraction | None = None
    frames: int | None = None
    deinterlace: bool = False
    strict: bool = False
    audio: AudioChoice = "auto"
    audio_tracks: TrackChoice | None = None
    subtitle_tracks: TrackChoice | None = None
    stream: int | None = None
    restart: bool = False
    overwrite: bool = False
    max_pixels: int | None = None
    keep_colour: KeepColour = "off"
    steady: float = 0.0
    shard: Shard | None = None
    join: bool = False
    square_pixels: bool = False
    duplicates: Duplicates = "exact"
    fps: Fraction | None = None
    only_join: bool = False
    work: Path | None = None
    on_change: SizeChange = "scale"
    conversion: Conversion | None = None

    def __post_init__(self) -> None:
        if self.duplicates == "near" and self.steady:
            raise UsageError("--duplicates near and --steady exclude each other: choose one")


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
        state: State of the source before it was probed.
        replaced: State of the output before the plan; None if there was none.
        details: Those of the notes that matter to few.
    """

    video: VideoInfo
    output: Path
    encoder: Encoder
    times: tuple[int, ...]
    span: Span | None
    settings: VideoSettings
    notes: tuple[str, ...]
    state: FileState
    replaced: FileState | None = None
    details: tuple[str, ...] = ()

    @property
    def pattern(self) -> ImagePattern | None:
        """Names of the output's images; None if it is a video."""
        return image_pattern(self.output)

    @property
    def work_name(self) -> Path:
        """Path beside which unfinished work is kept: the output, or the folder of its images."""
        if self.settings.work is not None:
            return self.settings.work
        is_folder = self.pattern is not None and bool(self.output.parent.name)
        return self.output.parent if is_folder else self.output


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
    replaced = state_of_output(output)
    check_target(source, output, overwrite=settings.overwrite)
    video, state = probe_source(source, settings)
    times = select_times(video, settings)
    pattern = image_pattern(output)
    size = output_size(video, size_of, settings, is_aligned=pattern is None)
    if pattern is None:
        encoder = resolve_encoder(video, settings.encoding, output, size)
    else:
        encoder = images_encoder(video, settings.encoding, pattern, size)
        image_numbers(pattern, video, times)
    span = _span(video, times)
    details = tuple(source_details(video))
    notes = (
        *source_notes(video, settings),
        *_size_notes(video, size_of, size, settings),
        *encoder.notes,
    )
    if video.timecode is not None and times[0] != video.frame_times[0]:
        video = replace(video, timecode=None)
        notes = (*notes, "the timecode is dropped, because it is that of the first frame")
    return VideoJob(video, output, encoder, times, span, settings, notes, state, replaced, details)


def state_of_output(output: Path) -> FileState | None:
    """Return the state of an output; None if it does not exist."""
    try:
        return file_state(output)
    except OSError:
        return None


def probe_source(source: Path, settings: VideoSettings) -> tuple[VideoInfo, FileState]:
    """Probe a video with the settings of the user, or numbered images if these have a frame rate.

    Returns:
        The video, and its state before it was probed.

    Raises:
        VideoError: The source cannot be read, or is an image.
    """
    video, state = _probe_stored(source, settings)
    if settings.conversion is not None:
        video = converted(video, settings.conversion)
    return video, state


def _probe_stored(source: Path, settings: VideoSettings) -> tuple[VideoInfo, FileState]:
    limit = settings.max_pixels or DEFAULT_MAX_PIXELS
    if settings.fps is not None:
        images = find_images(source, settings.fps)
        state = state_of_source(*images.paths())
        path, change = Path(str(images.pattern)), settings.on_change
        return probe(path, max_pixels=limit, images=images, on_change=change), state
    if image_pattern(source) is not None and not source.exists():
        raise UsageError(f"{printable(source)}: numbered images need --fps, for example --fps 24")
    check_regular(source)
    state = state_of_source(source)
    reject_image(source)
    video = probe(source, max_pixels=limit, stream=settings.stream, on_change=settings.on_change)
    return video, state


def check_regular(source: Path) -> None:
    """Check that a source is not a pipe or a device, because it is read more than once.

    Raises:
        VideoError: The source is one; whether it exists and is a video is checked later.
    """
    try:
        mode = source.stat().st_mode
    except OSError:
        return
    kind = special_kind(mode)
    if kind is not None and not stat.S_ISDIR(mode):
        raise VideoError(f"{printable(source)}: is {kind}; give a video file")


def check_target(source: Path, output: Path, *, overwrite: bool) -> None:
    """Check that an output may be written.

    Raises:
        OutputError: The output is the source, or exists and may not be replaced.
    """
    pattern = image_pattern(output)
    if pattern is not None:
        check_images_free(pattern, source, overwrite=overwrite)
        return
    if is_same_file(output, source):
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


def output_size(
    video: VideoInfo,
    size_of: SizeFunction,
    settings: VideoSettings,
    *,
    is_aligned: bool = True,
) -> tuple[int, int]:
    """Return the stored size of the output, of which the user means the displayed sides.

    Args:
        video: Source video.
        size_of: Function that maps the source size to the output size.
        settings: Options of the user.
        is_aligned: Whether chroma is subsampled as in the source.
    """
    size = _stored_size(video, size_of, settings)
    return align_size(video, size) if is_aligned else size


def _stored_size(
    video: VideoInfo, size_of: SizeFunction, settings: VideoSettings
) -> tuple[int, int]:
    size = video.width, video.height
    if settings.square_pixels:
        size = square_size(video)
    if not is_turned(video):
        return size_of(size)
    height, width = size_of((size[1], size[0]))
    return width, height


def square_size(video: VideoInfo) -> tuple[int, int]:
    """Return the size of a video with square pixels: one side is stretched, and none is shrunk."""
    aspect = video.sample_aspect or Fraction(1)
    return round(video.width * max(aspect, 1)), round(video.height / min(aspect, 1))


def is_turned(video: VideoInfo) -> bool:
    """Return whether a video is shown turned by a quarter, so that its sides are exchanged."""
    return abs(video.rotation) % 180 == 90


def _size_notes(
    video: VideoInfo, size_of: SizeFunction, size: tuple[int, int], settings: VideoSettings
) -> Iterator[str]:
    """Yield a line if the size had to be rounded."""
    width, height = _stored_size(video, size_of, settings)
    if (width, height) != size:
        yield (
            f"{width}x{height} is rounded to {size[0]}x{size[1]}, because the chroma of"
            f" {video.planes.name} has half the size"
        )


def align_size(video: VideoInfo, size: tuple[int, int]) -> tuple[int, int]:
    """Round a size to multiples of the chroma subsampling."""
    steps = 1 << video.planes.chroma_across, 1 << video.planes.chroma_down
    width, height = (
        max(1, round(side / step)) * step for side, step in zip(size, steps, strict=True)
    )
    return width, height


def source_details(video: VideoInfo) -> Iterator[str]:
    """Yield remarks about a source that matter to few, one line each."""
    if video.end_unknown:
        yield "the container does not record its length, so a truncated file cannot be detected"


def source_notes(video: VideoInfo, settings: VideoSettings) -> Iterator[str]:
    """Yield warnings about a source, one line each."""
    yield from video.warnings
    yield from video.changes
    yield from source_details(video)
    if video.colour.guessed and video.planes.kind == "yuv":
        yield f"the colours are not tagged; {_SPELLINGS[video.colour.matrix]} is assumed"
    if video.colour.is_hdr:
        name = "PQ" if video.colour.transfer == PQ else "HLG"
        yield f"the video is HDR ({name}), which the network was not trained on"
    if video.interlaced and not settings.deinterlace and video.progressive:
        yield "part of the frames is interlaced; --deinterlace makes full frames of these first"
    elif video.interlaced and not settings.deinterlace:
        yield "the video is interlaced; use --deinterlace to make full frames first"
