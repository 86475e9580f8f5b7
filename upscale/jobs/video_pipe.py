"""Upscale a video into a pipe, frame by frame, without unfinished work on the disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from upscale.errors import UsageError
from upscale.jobs.auto import MOST_FRAMES, AutoUpscaler, chosen_names
from upscale.jobs.colour import keeps_colour
from upscale.jobs.faces import FaceFactory
from upscale.jobs.pipeline import WriteBehind, read_ahead
from upscale.jobs.video_faces import VideoFaces
from upscale.jobs.video_frames import (
    FrameOptions,
    FrameUpscaler,
    LoadedFrame,
    TensorUpscaler,
    UpscaledFrame,
)
from upscale.jobs.video_plan import (
    SizeFunction,
    VideoSettings,
    output_size,
    probe_source,
    select_times,
    source_notes,
)
from upscale.jobs.video_samples import samples_of_frames, video_samples
from upscale.jobs.video_segments import FRAMES_AHEAD, FRAMES_BEHIND
from upscale.video.duplicates import RepeatFinder
from upscale.video.encoders import VideoEncoding
from upscale.video.info import FrameFormat, VideoFrame, VideoInfo
from upscale.video.raw_frames import raw_format, write_raw_frame
from upscale.video.reader import read_frames
from upscale.video.y4m import write_y4m_frame, y4m_format, y4m_header

if TYPE_CHECKING:
    from upscale.selection import Sample


@dataclass(frozen=True, slots=True)
class PipeJob:
    """A video that is ready to be upscaled into a pipe.

    Attributes:
        video: Source video.
        target: Format of the upscaled frames.
        settings: Options of the user.
        frames: Selected frames of the source.
        count: Number of these; 0 if it is not known.
        notes: Warnings about the source, one line each.
        is_raw: Whether the headers of Y4M are left out.
    """

    video: VideoInfo
    target: FrameFormat
    settings: VideoSettings
    frames: Iterator[VideoFrame]
    count: int
    notes: tuple[str, ...]
    is_raw: bool = False


def plan_file(
    source: Path, size_of: SizeFunction, settings: VideoSettings, *, is_raw: bool = False
) -> PipeJob:
    """Plan a file, or numbered images, as the source.

    Args:
        source: Source video.
        size_of: Function that maps the source size to the output size.
        settings: Options of the user.
        is_raw: Whether to leave out the headers of Y4M.

    Raises:
        VideoError: The source cannot be read, or no frame is selected.
        UsageError: An option is not supported.
    """
    video, _ = probe_source(source, settings)
    times = select_times(video, settings)
    reader = read_frames(
        video,
        start_pts=times[0],
        deinterlace=settings.deinterlace,
        repeats=RepeatFinder(video.planes, settings.duplicates),
    )
    steps = {after - before for before, after in pairwise(times)}
    uneven = max(steps, default=0) - min(steps, default=0) > max(1, 0.001 / video.time_base)
    notes = (f"the times of frames are uneven; Y4M shows {video.rate} a second",) * uneven
    frames = islice(reader, len(times))
    job = _plan(video, frames, size_of, settings, is_raw=is_raw, notes=notes)
    return replace(job, count=len(times))


def plan_stream(
    video: VideoInfo,
    frames: Iterator[VideoFrame],
    size_of: SizeFunction,
    settings: VideoSettings,
    *,
    is_raw: bool = False,
) -> PipeJob:
    """Plan a pipe as the source.

    Args:
        video: Video of the pipe, without the times of its frames.
        frames: Its frames.
        size_of: Function that maps the source size to the output size.
        settings: Options of the user.
        is_raw: Whether to leave out the headers of Y4M.

    Raises:
        UsageError: An option is not supported.
    """
    if settings.start is not None or settings.end is not None or settings.deinterlace:
        raise UsageError("--start, --end and --deinterlace need a file as input, not -")
    return _plan(video, islice(frames, settings.frames), size_of, settings, is_raw=is_raw)


def _plan(
    video: VideoInfo,
    frames: Iterator[VideoFrame],
    size_of: SizeFunction,
    settings: VideoSettings,
    *,
    is_raw: bool,
    notes: tuple[str, ...] = (),
) -> PipeJob:
    encoding = settings.encoding
    if encoding != VideoEncoding(pixel_format=encoding.pixel_format):
        raise UsageError("Y4M has no codec: leave out --for, --codec, --crf and --preset")
    if settings.shard is not None:
        raise UsageError("--shard needs a file as output, not -")
    choose = raw_format if is_raw else y4m_format
    target = choose(video, encoding.pixel_format, output_size(video, size_of, settings))
    notes = (*source_notes(video, settings), *notes)
    return PipeJob(video, target, settings, frames, 0, notes, is_raw)


def run_pipe(
    job: PipeJob,
    upscaler: TensorUpscaler | AutoUpscaler,
    output: BinaryIO,
    advance: Callable[[int, int], None],
    warn: Callable[[str], None],
    *,
    faces: FaceFactory | None = None,
) -> int:
    """Upscale frames as they come, and write each when it is computed.

    Args:
        job: Planned video.
        upscaler: Network.
        output: Pipe.
        advance: Callback for every frame, with the number of frames so far and of all, if known.
        warn: Callback for the networks that are chosen.
        faces: Factory of what restores faces, which are not tracked here; None to restore none.

    Returns:
        The number of frames.

    Raises:
        VideoError: The source cannot be read.
        OSError: The pipe is closed.
    """
    video, settings = job.video, job.settings
    first = list(islice(job.frames, MOST_FRAMES))
    chosen, keeps = _choose(job, upscaler, first, warn)
    chosen.resolve_kernels({})
    chosen.resolve_tile(video.width, video.height)
    options = FrameOptions(keeps, settings.steady, None if faces is None else VideoFaces(faces))
    frames = FrameUpscaler(video.frame_format, job.target, chosen, options)

    def write(frame: UpscaledFrame) -> None:
        if job.is_raw:
            write_raw_frame(output, frame.frame(), settings.encoding.pixel_format)
        else:
            write_y4m_frame(output, frame.frame())

    if not job.is_raw:
        aspect = None if settings.square_pixels else video.sample_aspect
        output.write(y4m_header(job.target, video.rate, aspect))
    count = 0
    loaded = _loaded(chain(first, job.frames), frames)
    with (
        read_ahead(loaded, FRAMES_AHEAD) as items,
        WriteBehind(write, FRAMES_BEHIND) as behind,
    ):
        for item in items:
            behind.put(frames.upscale(item))
            count += 1
            advance(count, job.count)
    return count


def _loaded(frames: Iterable[VideoFrame], upscaler: FrameUpscaler) -> Iterator[LoadedFrame]:
    before: int | None = None
    for frame in frames:
        yield upscaler.load(frame, before)
        before = frame.pts


def _choose(
    job: PipeJob,
    upscaler: TensorUpscaler | AutoUpscaler,
    first: list[VideoFrame],
    warn: Callable[[str], None],
) -> tuple[TensorUpscaler, bool]:
    """Choose networks, and whether colours are kept, by a file or the first frames of a pipe."""
    video, settings, choice = job.video, job.settings, None

    def samples() -> list[Sample]:
        if job.count:
            return video_samples(video, deinterlace=settings.deinterlace)
        return samples_of_frames(video, first)

    if isinstance(upscaler, AutoUpscaler):
        choice = upscaler.choose(samples())
        warn(f"upscaling with {chosen_names(choice)}: {choice.reason}")
        upscaler = upscaler.upscaler_for(choice)
    return upscaler, keeps_colour(settings.keep_colour, samples, choice)
