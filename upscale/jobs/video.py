"""A video: segments of frames through the network, each kept when it is whole, then joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import TypedDict

from upscale.errors import OutputError, VideoError
from upscale.files.atomic import check_target_free
from upscale.files.printable import printable
from upscale.jobs.events import Status
from upscale.jobs.video_frames import TensorUpscaler
from upscale.jobs.video_segments import Segments
from upscale.video.encoders import Encoder, Encoding, encoder_for
from upscale.video.info import DEFAULT_MAX_PIXELS, VideoInfo
from upscale.video.join import join
from upscale.video.mux import whole
from upscale.video.output_stream import Span
from upscale.video.probe import probe
from upscale.video.segments import Work, identity_of_encoder, identity_of_source
from upscale.video.streams import plan_streams

_PQ, _HLG = 16, 18
_DIGITS = 3

FrameProgress = Callable[[int, int], None]
"""Called with (frames done, frames in all); from several threads, one at a time."""


@dataclass(frozen=True, slots=True)
class VideoSettings:
    """What a user asked for of a video.

    Attributes:
        encoding: How it is encoded.
        start: Seconds from the video's own zero before which frames are left out.
        end: Seconds from there on.
        frames: How many frames at most.
        deinterlace: Make whole frames of two fields each, before anything else.
        strict: Refuse to lose any stream.
        restart: Throw unfinished work away.
        overwrite: Replace the output.
        max_pixels: The most that a frame of the source may have; None for the usual limit.
    """

    encoding: Encoding = field(default_factory=Encoding)
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
    """A video that can be done; `times` are those of its frames, `span` is None for all of it."""

    video: VideoInfo
    output: Path
    encoder: Encoder
    times: tuple[int, ...]
    span: Span | None
    settings: VideoSettings
    notes: tuple[str, ...]


@dataclass(slots=True)
class VideoReport:
    """What came of a video.

    Attributes:
        frames: In the output.
        resumed: Of those, done by an earlier run.
        computed: Sent through the network in this run; the others repeat the one before.
        lost: Times in seconds of frames that could not be decoded.
        damaged: Times in seconds of frames that the decoder could only guess in part.
        resized: Times in seconds of frames that had another size or pixel format than the video.
        notes: What the output does not hold of the source, a line each.
        waited_for_reading: Seconds that the network waited for frames.
        waited_for_writing: Seconds that it waited for the encoder.
        seconds: Wall time.
    """

    frames: int = 0
    resumed: int = 0
    computed: int = 0
    lost: tuple[float, ...] = ()
    damaged: tuple[float, ...] = ()
    resized: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    waited_for_reading: float = 0.0
    waited_for_writing: float = 0.0
    seconds: float = 0.0


class VideoRecord(TypedDict):
    """The line of `upscale video --json`, an interface that docs/json.md describes."""

    input: str
    output: str
    status: str
    model: str
    size_in: list[int] | None
    size_out: list[int] | None
    codec: str | None
    frames: int | None
    resumed: int | None
    computed: int | None
    lost: list[float] | None
    damaged: list[float] | None
    resized: list[float] | None
    waited_for_reading: float | None
    waited_for_writing: float | None
    seconds: float | None
    notes: list[str]
    error: str | None


def video_record(
    source: Path,
    output: Path,
    model: str,
    job: VideoJob | None,
    report: VideoReport | None = None,
    *,
    error: str | None = None,
) -> VideoRecord:
    """What is printed of a video that was done, or has failed.

    Args:
        source: The video.
        output: The video that was or should have been written.
        model: The network's name.
        job: None if it failed before it was planned.
        report: What came of it; None if it failed.
        error: Why it failed, in one line.
    """

    def rounded(times: Sequence[float]) -> list[float]:
        return [round(time, _DIGITS) for time in times]

    return {
        "input": str(source),
        "output": str(output),
        "status": str(Status.DONE if report else Status.FAILED),
        "model": model,
        "size_in": [job.video.width, job.video.height] if job else None,
        "size_out": [job.encoder.width, job.encoder.height] if job else None,
        "codec": job.encoder.codec if job else None,
        "frames": report and report.frames,
        "resumed": report and report.resumed,
        "computed": report and report.computed,
        "lost": report and rounded(report.lost),
        "damaged": report and rounded(report.damaged),
        "resized": report and rounded(report.resized),
        "waited_for_reading": report and round(report.waited_for_reading, _DIGITS),
        "waited_for_writing": report and round(report.waited_for_writing, _DIGITS),
        "seconds": report and round(report.seconds, _DIGITS),
        "notes": list(report.notes if report else job.notes if job else ()),
        "error": error,
    }


def plan_video(
    source: Path,
    output: Path,
    size_of: Callable[[tuple[int, int]], tuple[int, int]],
    settings: VideoSettings,
) -> VideoJob:
    """Look through a video, and settle everything that can be settled before any frame.

    Args:
        source: The video.
        output: The file to be.
        size_of: Gives (width, height) of the output for those of the source.
        settings: What was asked for.

    Raises:
        VideoError: The source is no video that can be read, or nothing of it is wanted.
        OutputError: The output exists, or cannot hold what is wanted.
        UsageError: An option of the encoder is wrong.
    """
    refuse_target(source, output, overwrite=settings.overwrite)
    video = probe(source, max_pixels=settings.max_pixels or DEFAULT_MAX_PIXELS)
    times = wanted_times(video, settings)
    size = fitting_size(video, size_of((video.width, video.height)))
    encoder = encoder_for(video, settings.encoding, output, size)
    span = _span(video, times)
    notes = (*notes_on(video, settings), *encoder.notes)
    if video.timecode is not None and times[0] != video.plan[0]:
        video = replace(video, timecode=None)
        notes = (*notes, "the timecode is left out, since it is that of the video's first frame")
    return VideoJob(video, output, encoder, times, span, settings, notes)


def run_video(
    job: VideoJob,
    upscalers: Sequence[TensorUpscaler],
    identity: Mapping[str, str],
    progress: FrameProgress,
    tell: Callable[[str], None],
) -> VideoReport:
    """Do a video, or what an earlier run has left of it.

    Each upscaler takes a segment at a time. Whatever ends the work, finished segments stay, and
    the same call goes on from there.

    Args:
        job: What to do.
        upscalers: One for each device.
        identity: All on which the frames depend beside source and encoder, by name.
        progress: Told of every frame.
        tell: Told what cannot be carried, a line each, before any frame is computed.

    Raises:
        VideoError: The source cannot be read (any more).
        OutputError: The work folder or the output cannot be written; or the result is not right.
    """
    began = perf_counter()
    report = VideoReport(notes=job.notes)
    whole = {**identity_of_source(job.video.path), **identity_of_encoder(job.encoder), **identity}
    whole["deinterlaced"] = str(job.settings.deinterlace)
    with Work(job.output, job.times, whole, restart=job.settings.restart) as work:
        streams = plan_streams(
            job.video, job.encoder, job.output, work.folder, strict=job.settings.strict
        )
        for line in streams.lost:
            tell(line)
        report.notes += streams.lost
        _resolve_tile(job.video, work, upscalers)
        _upscale(job, work, upscalers, report, progress)
        joined = join(
            job.output,
            job.video,
            job.encoder,
            streams,
            work.parts(),
            span=job.span,
            overwrite=job.settings.overwrite,
        )
        for line in joined.notes:
            tell(line)
        report.notes += joined.notes
        _note_flaws(job, work, report)
        work.remove()
    report.frames = joined.frames
    report.seconds = perf_counter() - began
    return report


def _resolve_tile(video: VideoInfo, work: Work, upscalers: Sequence[TensorUpscaler]) -> None:
    """Have all frames computed with one tile, in this run and in those that go on from it."""
    first, *others = upscalers
    tile = work.settle("tile", lambda tile: first.resolve_tile(video.width, video.height, tile))
    for other in others:
        other.resolve_tile(video.width, video.height, tile)


def _upscale(
    job: VideoJob,
    work: Work,
    upscalers: Sequence[TensorUpscaler],
    report: VideoReport,
    progress: FrameProgress,
) -> None:
    """Do the segments that are to do."""
    total = len(job.times)
    done = report.resumed = total - sum(len(each.times) for each in work.to_do)
    progress(done, total)

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    deinterlace = job.settings.deinterlace
    segments = Segments(job.video, job.encoder, work, deinterlace=deinterlace, advance=advance)
    effort = segments.run(upscalers)
    report.computed = effort.computed
    report.waited_for_reading = effort.waiting.for_input
    report.waited_for_writing = effort.waiting.for_output


def _note_flaws(job: VideoJob, work: Work, report: VideoReport) -> None:
    """Say what is wrong with frames, by all runs together."""

    def seconds(times: Iterable[int]) -> tuple[float, ...]:
        return tuple(float(time * job.video.time_base) for time in sorted(times))

    ends = job.times[0], job.times[-1]
    never_there = job.video.lost
    if job.span is not None:
        never_there = (time for time in job.video.lost if ends[0] <= time <= ends[1])
    report.lost = seconds((*work.lost, *never_there))
    report.damaged, report.resized = (
        seconds(work.corrupt_frames.damaged),
        seconds(work.corrupt_frames.resized),
    )


def refuse_target(source: Path, output: Path, *, overwrite: bool) -> None:
    """Refuse an output that is the source, or must not be written.

    Raises:
        OutputError: It is one of these.
    """
    if output.exists() and source.exists() and output.samefile(source):
        raise OutputError(f"{printable(output)}: is the input itself; give another output")
    check_target_free(output, overwrite=overwrite)


def wanted_times(video: VideoInfo, settings: VideoSettings) -> tuple[int, ...]:
    """Times of the frames that are asked for.

    Raises:
        VideoError: There is none.
    """
    times = tuple(_wanted(video, settings))
    if not times:
        raise VideoError(f"{printable(video.path)}: has no frame between --start and --end")
    return times


def _wanted(video: VideoInfo, settings: VideoSettings) -> Iterator[int]:
    count = 0
    for time in video.plan:
        seconds = time * video.time_base
        if settings.start is not None and seconds < settings.start:
            continue
        if settings.end is not None and seconds >= settings.end:
            return
        if settings.frames is not None and count >= settings.frames:
            return
        count += 1
        yield time


def _span(video: VideoInfo, times: tuple[int, ...]) -> Span | None:
    """The part of the video that the frames make; None for all of it."""
    if times == video.plan:
        return None
    after = video.plan.index(times[-1]) + 1
    end = video.plan[after] * video.time_base if after < len(video.plan) else None
    if times[0] == video.plan[0]:
        return Span(whole(video).start, end)
    return Span(times[0] * video.time_base, end)


def fitting_size(video: VideoInfo, size: tuple[int, int]) -> tuple[int, int]:
    """A size whose halves are whole where chroma is stored in halves."""
    steps = 1 << video.planes.chroma_across, 1 << video.planes.chroma_down
    width, height = (
        max(1, round(side / step)) * step for side, step in zip(size, steps, strict=True)
    )
    return width, height


def notes_on(video: VideoInfo, settings: VideoSettings) -> Iterator[str]:
    """What is to be known of a video before work on it, a line each."""
    yield from video.warnings
    if video.open_end:
        yield "its container does not tell whether it is whole; a missing end would not be seen"
    if video.colour.guessed and video.planes.kind == "yuv":
        yield f"its colours are not tagged; taken for {video.colour.matrix}"
    if video.colour.transfer in (_PQ, _HLG):
        name = "PQ" if video.colour.transfer == _PQ else "HLG"
        yield f"it is {name}: the network sees it as it is coded, and was not trained on that"
    if video.interlaced and not settings.deinterlace:
        yield "it is interlaced; --deinterlace makes whole frames first"
