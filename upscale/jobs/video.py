"""Upscale a video: compute its segments, keep each finished one, and join them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypedDict

from upscale.errors import OutputError
from upscale.files.printable import printable
from upscale.jobs.auto import ChoiceRecord, choice_record, chosen_names, recorded_choice
from upscale.jobs.colour import keeps_colour
from upscale.jobs.events import Status
from upscale.jobs.faces import FaceFactory
from upscale.jobs.video_devices import AnyNetwork, LocalVideo, Tracked, VideoDevices
from upscale.jobs.video_faces import recorded_faces
from upscale.jobs.video_frames import FrameOptions
from upscale.jobs.video_images import image_numbers, write_images
from upscale.jobs.video_plan import VideoJob, VideoSettings, plan_video, state_of_output
from upscale.jobs.video_samples import video_samples
from upscale.shards import Shard
from upscale.video.image_streams import plan_images
from upscale.video.join import JoinResult, join
from upscale.video.segments import InUseError, SegmentStore, identity_of_encoder
from upscale.video.source_version import SourceVersion
from upscale.video.streams import StreamPlan, plan_streams, rehearse_join

if TYPE_CHECKING:
    from upscale.selection import Choice

__all__ = [
    "FrameProgress",
    "VideoJob",
    "VideoRecord",
    "VideoReport",
    "VideoSettings",
    "plan_video",
    "run_video",
    "run_video_on",
    "video_record",
]

DIGITS = 3
"""Decimal places of seconds in JSON records."""

_LARGEST_TILE = 1 << 20

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
        choice: Why the network was chosen; None if the user named it.
        colour_kept: Whether frames got the colours of their sources.
        faces: Number of faces, over all frames; None if none were looked for.
        joined: Whether the output is complete; otherwise, the figures are those of a shard.
        segments: Number of all segments, for a shard.
        unfinished: Number of these that no run has finished yet, for a shard.
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
    choice: Choice | None = None
    colour_kept: bool = False
    faces: int | None = None
    joined: bool = True
    segments: int = 0
    unfinished: int = 0


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
    choice: ChoiceRecord | None
    colour_kept: bool | None
    faces: int | None
    estimated_seconds: float | None
    estimated_bytes: int | None


def video_record(
    source: Path,
    output: Path,
    model: str,
    job: VideoJob | None,
    report: VideoReport | None = None,
    *,
    error: str | None = None,
    status: Status | None = None,
) -> VideoRecord:
    """Return the JSON record of a video.

    Args:
        source: Source video.
        output: Output file.
        model: Name of the network.
        job: The planned job; None if planning failed.
        report: Result; None if the job failed.
        error: Error message on one line, if it failed.
        status: Status; None for that of the report, or of a failure without one.
    """

    def rounded(times: Sequence[float]) -> list[float]:
        return [round(time, DIGITS) for time in times]

    choice = report.choice if report else None
    return {
        "input": str(source),
        "output": str(output),
        "status": str(status or _status(report)),
        "model": chosen_names(choice) if choice else model,
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
        "choice": choice_record(choice) if choice else None,
        "colour_kept": report.colour_kept if report else None,
        "faces": report.faces if report else None,
        "estimated_seconds": None,
        "estimated_bytes": None,
    }


def _status(report: VideoReport | None) -> Status:
    if report is None:
        return Status.FAILED
    return Status.DONE if report.joined else Status.SHARE


def run_video(
    job: VideoJob,
    upscalers: Sequence[AnyNetwork],
    identity: Mapping[str, str],
    progress: FrameProgress,
    warn: Callable[[str], None],
    *,
    faces: FaceFactory | None = None,
) -> VideoReport:
    """Process a video on local devices; see `run_video_on`.

    Args:
        job: Planned video.
        upscalers: Upscalers, one for each device.
        identity: Everything beside source and encoder that determines the frames, by name.
        progress: Callback for every frame.
        warn: Callback for notes, with one line of text.
        faces: Factory of what restores faces, by device; None to restore none.

    Raises:
        VideoError: The source cannot be read, or changes meanwhile.
        OutputError: The segments or the output cannot be written or verified.
    """
    return run_video_on(LocalVideo(upscalers, faces), job, identity, progress, warn)


def run_video_on(
    devices: VideoDevices,
    job: VideoJob,
    identity: Mapping[str, str],
    progress: FrameProgress,
    warn: Callable[[str], None],
) -> VideoReport:
    """Process a video, or the part that an interrupted run has not finished.

    Finished segments are kept if the run is interrupted, and the same call resumes from them, also
    on other devices of the same kind. With a shard, only its segments are computed, and they are
    joined only on request, by the run that finishes last.

    Args:
        devices: Devices that compute the frames.
        job: Planned video.
        identity: Everything beside source and encoder that determines the frames, by name.
        progress: Callback for every frame.
        warn: Callback for the networks that are chosen, and for each stream or property that is
            lost, with one line of text.

    Raises:
        VideoError: The source cannot be read, or changes meanwhile.
        OutputError: The segments or the output cannot be written or verified.
        DeviceError: No device can be used.
    """
    start = perf_counter()
    source = SourceVersion(job.video.path, job.state, job.video.files)
    full = _full_identity(job, source, identity)
    run = _Run(job, devices, source, full, progress, warn)
    shard = job.settings.shard
    report = _run_all(run) if shard is None else _run_share(run, shard)
    report.seconds = perf_counter() - start
    return report


@dataclass(frozen=True, slots=True)
class _Run:
    """The arguments of `run_video_on`, with the full identity."""

    job: VideoJob
    devices: VideoDevices
    source: SourceVersion
    identity: Mapping[str, str]
    progress: FrameProgress
    warn: Callable[[str], None]


def _full_identity(
    job: VideoJob, source: SourceVersion, identity: Mapping[str, str]
) -> dict[str, str]:
    """Return everything that determines the frames of a video, by name."""
    settings = job.settings
    full = {
        **source.identity,
        **identity_of_encoder(job.encoder),
        **identity,
        "deinterlacing": str(settings.deinterlace),
        "treatment of colours": settings.keep_colour,
    }
    if settings.stream is not None:
        full["video stream"] = str(settings.stream)
    if settings.duplicates != "exact":
        full["treatment of duplicates"] = settings.duplicates
    if settings.conversion is not None:
        full["deinterlacing"] = settings.conversion
    if settings.on_change != "scale":
        full["treatment of other sizes"] = settings.on_change
    if settings.steady:
        full["steadiness"] = str(settings.steady)
    return full


def _run_all(run: _Run) -> VideoReport:
    """Compute all pending segments and join them."""
    job, settings, warn = run.job, run.job.settings, run.warn
    report = VideoReport(notes=job.notes)
    with SegmentStore(job.work_name, job.times, run.identity, restart=settings.restart) as store:
        if settings.only_join:
            _check_finished(job, store)
        streams = _compute(run, store, report)
        result = _join(run, store, streams)
        for line in result.warnings:
            warn(line)
        report.notes += (*streams.notes, *streams.losses, *result.warnings)
        _report_corrupt_frames(job, store, report)
        store.remove()
    report.frames = result.frames
    return report


def _check_finished(job: VideoJob, store: SegmentStore) -> None:
    """Check that all segments are finished, also those of a run with another output."""
    pending, count = len(store.pending), len(store.segments)
    if not pending:
        return
    if pending == count:
        store.remove()
        raise OutputError(
            f"{printable(job.output)}: there is no finished work with these settings to join; give"
            " the options of the run that computed it"
        )
    raise OutputError(
        f"{printable(store.folder)}: {pending} of {count} segments are not finished; leave out"
        " --join-into to compute them"
    )


def _join(run: _Run, store: SegmentStore, streams: StreamPlan) -> JoinResult:
    """Write the output from all segments."""
    job, segments = run.job, store.encoded_segments()
    if job.pattern is not None:
        numbers = image_numbers(job.pattern, job.video, job.times)
        count = write_images(
            job.pattern,
            job.video,
            job.encoder,
            numbers,
            segments,
            check_source=run.source.check,
        )
        return JoinResult(count)
    return join(
        job.output,
        job.video,
        job.encoder,
        streams,
        segments,
        span=job.span,
        overwrite=job.settings.overwrite,
        check_source=run.source.check,
    )


def _run_share(run: _Run, shard: Shard) -> VideoReport:
    """Compute the pending segments of a shard, while other runs compute theirs."""
    job, report = run.job, VideoReport(notes=run.job.notes, joined=False)
    with SegmentStore(job.work_name, job.times, run.identity, shard=shard) as store:
        if _is_joined(job, store):
            store.remove()
            note = "another run has joined the video meanwhile"
            run.warn(note)
            count = len(job.times)
            return VideoReport(count, resumed=count, notes=(*job.notes, note))
        new = sum(len(each.times) for each in store.pending)
        streams = _compute(run, store, report)
        report.frames = sum(len(each.times) for each in store.share) - len(store.lost)
        report.unfinished = store.count_unfinished()
        report.segments = len(store.segments)
        report.notes += (*streams.notes, *streams.losses)
        _report_corrupt_frames(job, store, report)
    if not job.settings.join or report.unfinished:
        return report
    try:
        joined = _run_all(run)
    except InUseError:  # of several runs that see the last segment finished, one joins
        return report
    joined.computed, joined.resumed = report.computed, joined.resumed - new
    joined.waited_for_reading, joined.waited_for_writing = (
        report.waited_for_reading,
        report.waited_for_writing,
    )
    return joined


def _is_joined(job: VideoJob, store: SegmentStore) -> bool:
    """Whether another run has written the output since the plan, and removed all segments."""
    now, before = state_of_output(job.output), job.replaced
    if now is None or (before is not None and now.may_be_same(before)):
        return False
    return store.count_unfinished() == len(store.segments)


def _compute(run: _Run, store: SegmentStore, report: VideoReport) -> StreamPlan:
    """Compute the pending segments of a store; return the streams of the output."""
    job, devices, warn = run.job, run.devices, run.warn
    streams = _plan_streams(job, store, warn)
    devices.open(job, run.source.digest)
    report.choice = _pin_choice(store, devices)
    if report.choice is not None:
        warn(f"upscaling with {chosen_names(report.choice)}: {report.choice.reason}")
    report.colour_kept = _pin_colour(job, store, report.choice)
    devices.use(report.choice)
    _pin_kernels(store, devices)
    _pin_tile(store, devices)
    tracked = _pin_faces(store, devices) if devices.restores_faces else None
    if tracked is not None:
        found = sum(map(bool, tracked.values()))
        warn(f"faces found in {found} of {len(job.times)} frames")
        share = [time for segment in store.share for time in segment.times]
        report.faces = sum(len(tracked.get(time, ())) for time in share)
    _process_segments(run, store, report, tracked)
    return streams


def _plan_streams(job: VideoJob, store: SegmentStore, warn: Callable[[str], None]) -> StreamPlan:
    """Find what the container refuses before any frame is computed."""
    settings = job.settings
    if job.pattern is not None:
        streams = plan_images(job.video, job.output, strict=settings.strict)
        for line in (*streams.notes, *streams.losses):
            warn(line)
        return streams
    with store.exclusive():
        streams = plan_streams(
            job.video,
            job.encoder,
            job.output,
            store.folder,
            strict=settings.strict,
            audio=settings.audio,
            audio_tracks=settings.audio_tracks,
            subtitle_tracks=settings.subtitle_tracks,
        )
        for line in (*streams.notes, *streams.losses):
            warn(line)
        if store.pending:
            rehearse_join(
                job.video,
                job.encoder,
                streams,
                job.output,
                store.folder,
                times=job.times,
                span=job.span,
            )
    return streams


def _pin_choice(store: SegmentStore, devices: VideoDevices) -> Choice | None:
    """Choose networks for all frames, also of resumed runs; None if the user named one."""
    if not devices.chooses:
        return None

    def choose(known: dict[str, object] | None) -> dict[str, object]:
        return {**devices.choose()} if known is None else known

    choice = recorded_choice(store.pin("choice", dict[str, object], choose))
    if choice is None:
        raise store.damaged("choice")
    return choice


def _pin_colour(job: VideoJob, store: SegmentStore, choice: Choice | None) -> bool:
    """Decide whether all frames get the colours of their sources, also in resumed runs."""

    def choose(known: bool | None) -> bool:
        if known is not None:
            return known
        settings = job.settings
        return keeps_colour(
            settings.keep_colour,
            lambda: video_samples(job.video, deinterlace=settings.deinterlace),
            choice,
        )

    return store.pin("colour kept", bool, choose)


def _pin_kernels(store: SegmentStore, devices: VideoDevices) -> None:
    """Use the same kernels for all frames, also in resumed runs: others round differently."""
    store.pin("kernels", dict[str, Any], lambda known: devices.resolve_kernels(known or {}))


def _pin_tile(store: SegmentStore, devices: VideoDevices) -> None:
    """Use one tile size for all frames, also in resumed runs."""

    def choose(known: int | None) -> int:
        if known is not None and not 0 <= known <= _LARGEST_TILE:
            raise store.damaged("tile")
        return devices.resolve_tile(known)

    store.pin("tile", int, choose)


def _pin_faces(store: SegmentStore, devices: VideoDevices) -> Tracked:
    """Return the faces of all frames, found by the first run."""

    def choose(known: dict[str, Any] | None) -> dict[str, Any]:
        return {**devices.find_faces()} if known is None else known

    faces = recorded_faces(store.pin("faces", dict[str, Any], choose))
    if faces is None:
        raise store.damaged("faces")
    return faces


def _process_segments(
    run: _Run, store: SegmentStore, report: VideoReport, tracked: Tracked | None
) -> None:
    """Compute the pending segments."""
    progress = run.progress
    total = sum(len(each.times) for each in store.share)
    done = report.resumed = total - sum(len(each.times) for each in store.pending)
    progress(done, total)

    def advance(frames: int) -> None:
        nonlocal done
        done += frames
        progress(done, total)

    options = FrameOptions(report.colour_kept, run.job.settings.steady)
    computed = run.devices.compute(store, options, tracked, advance, run.source.check)
    report.computed, waits = computed.frames, computed.waits
    report.resumed += computed.restored
    report.waited_for_reading = waits.for_input
    report.waited_for_writing = waits.for_output


def _report_corrupt_frames(job: VideoJob, store: SegmentStore, report: VideoReport) -> None:
    """Report lost and corrupt frames, those of earlier runs included."""

    def seconds(times: Iterable[int]) -> tuple[float, ...]:
        return tuple(float(time * job.video.time_base) for time in sorted(times))

    missing = job.video.lost
    if job.span is not None or not report.joined:
        times = [time for segment in store.share for time in segment.times]
        missing = [time for time in missing if times and times[0] <= time <= times[-1]]
    report.lost = seconds((*store.lost, *missing))
    report.damaged = seconds(store.corrupt_frames.damaged)
    report.resized = seconds(store.corrupt_frames.resized)
