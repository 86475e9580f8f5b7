"""Upscale a video: compute its segments, keep each finished one, and join them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TypedDict

from upscale.jobs.events import Status
from upscale.jobs.video_frames import TensorUpscaler
from upscale.jobs.video_plan import VideoJob, VideoSettings, plan_video
from upscale.jobs.video_segments import SegmentRunner
from upscale.video.info import VideoInfo
from upscale.video.join import join
from upscale.video.segments import SegmentStore, identity_of_encoder, identity_of_source
from upscale.video.streams import plan_streams

__all__ = [
    "FrameProgress",
    "VideoJob",
    "VideoRecord",
    "VideoReport",
    "VideoSettings",
    "plan_video",
    "run_video",
    "video_record",
]

DIGITS = 3
"""Decimal places of seconds in JSON records."""

FrameProgress = Callable[[int, int], None]
"""Called with (finished frames, all frames); from several threads, but one at a time."""


@dataclass(slots=True)
class VideoReport:
    """Result of a video.

    Attributes:
        frames: Number of frames in the output.
        resumed: Number of these that an earlier run had finished.
        computed: Number of frames that the network computed in this run; repeated ones are not.
        lost: Times in seconds of frames that could not be decoded.
        damaged: Times in seconds of frames that the decoder flagged as corrupt.
        resized: Times in seconds of frames of another size or pixel format, which were converted.
        notes: Warnings, one line each.
        waited_for_reading: Seconds that the network waited for source frames.
        waited_for_writing: Seconds that the network waited for the encoder.
        seconds: Elapsed time in seconds.
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
    """Result of `upscale video --json`, a public interface described in docs/reference/json.md."""

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
    """Return the JSON record of a video.

    Args:
        source: Source video.
        output: Output file.
        model: Name of the network.
        job: The planned job; None if planning failed.
        report: Result; None if the job failed.
        error: Error message on one line, if it failed.
    """

    def rounded(times: Sequence[float]) -> list[float]:
        return [round(time, DIGITS) for time in times]

    return {
        "input": str(source),
        "output": str(output),
        "status": str(Status.DONE if report else Status.FAILED),
        "model": model,
        "size_in": [job.video.width, job.video.height] if job else None,
        "size_out": [job.encoder.frame_format.width, job.encoder.frame_format.height]
        if job
        else None,
        "codec": job.encoder.codec if job else None,
        "frames": report and report.frames,
        "resumed": report and report.resumed,
        "computed": report and report.computed,
        "lost": report and rounded(report.lost),
        "damaged": report and rounded(report.damaged),
        "resized": report and rounded(report.resized),
        "waited_for_reading": report and round(report.waited_for_reading, DIGITS),
        "waited_for_writing": report and round(report.waited_for_writing, DIGITS),
        "seconds": report and round(report.seconds, DIGITS),
        "notes": list(report.notes if report else job.notes if job else ()),
        "error": error,
    }


def run_video(
    job: VideoJob,
    upscalers: Sequence[TensorUpscaler],
    identity: Mapping[str, str],
    progress: FrameProgress,
    warn: Callable[[str], None],
) -> VideoReport:
    """Process a video, or the part that an interrupted run has not finished.

    Each upscaler processes one segment at a time. Finished segments are kept if the run is
    interrupted, and the same call resumes from them.

    Args:
        job: Planned video.
        upscalers: Upscalers, one for each device.
        identity: Everything beside source and encoder that determines the frames, by name.
        progress: Callback for every frame.
        warn: Callback for each stream or property that is lost, with one line of text.

    Raises:
        VideoError: The source cannot be read.
        OutputError: The segments or the output cannot be written or verified.
    """
    start = perf_counter()
    settings = job.settings
    report = VideoReport(notes=job.notes)
    full_identity = {
        **identity_of_source(job.video.path),
        **identity_of_encoder(job.encoder),
        **identity,
        "deinterlacing": str(settings.deinterlace),
    }
    with SegmentStore(job.output, job.times, full_identity, restart=settings.restart) as store:
        streams = plan_streams(
            job.video, job.encoder, job.output, store.folder, strict=settings.strict
        )
        for line in streams.losses:
            warn(line)
        _pin_tile(job.video, store, upscalers)
        _process_segments(job, store, upscalers, report, progress)
        result = join(
            job.output,
            job.video,
            job.encoder,
            streams,
            store.encoded_segments(),
            span=job.span,
            overwrite=settings.overwrite,
        )
        for line in result.warnings:
            warn(line)
        report.notes += (*streams.losses, *result.warnings)
        _report_corrupt_frames(job, store, report)
        store.remove()
    report.frames = result.frames
    report.seconds = perf_counter() - start
    return report


def _pin_tile(video: VideoInfo, store: SegmentStore, upscalers: Sequence[TensorUpscaler]) -> None:
    """Use one tile size for all frames, also in resumed runs."""
    first, *others = upscalers
    tile = store.pin("tile", lambda tile: first.resolve_tile(video.width, video.height, tile))
    for other in others:
        other.resolve_tile(video.width, video.height, tile)


def _process_segments(
    job: VideoJob,
    store: SegmentStore,
    upscalers: Sequence[TensorUpscaler],
    report: VideoReport,
    progress: FrameProgress,
) -> None:
    """Compute the pending segments."""
    total = len(job.times)
    done = report.resumed = total - sum(len(each.times) for each in store.pending)
    progress(done, total)

    def advance() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    report.computed, waits = SegmentRunner(job, store, advance).run(upscalers)
    report.waited_for_reading = waits.for_input
    report.waited_for_writing = waits.for_output


def _report_corrupt_frames(job: VideoJob, store: SegmentStore, report: VideoReport) -> None:
    """Report lost and corrupt frames, those of earlier runs included."""

    def seconds(times: Iterable[int]) -> tuple[float, ...]:
        return tuple(float(time * job.video.time_base) for time in sorted(times))

    missing = job.video.lost
    if job.span is not None:
        missing = [time for time in missing if job.times[0] <= time <= job.times[-1]]
    report.lost = seconds((*store.lost, *missing))
    report.damaged = seconds(store.corrupt_frames.damaged)
    report.resized = seconds(store.corrupt_frames.resized)
