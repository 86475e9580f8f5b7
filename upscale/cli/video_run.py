"""Run `upscale video` for one video: plan it, load the network, upscale, print the result."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from upscale.cli.session import Session
from upscale.cli.video_messages import count, print_notes, print_plan, print_summary
from upscale.errors import ExitCode, UsageError
from upscale.files.printable import printable
from upscale.options import Options

if TYPE_CHECKING:
    from upscale.engine.fusion import FusedUpscaler
    from upscale.engine.upscaler import Upscaler
    from upscale.jobs.auto import AutoUpscaler
    from upscale.jobs.video import VideoJob, VideoRecord, VideoSettings
    from upscale.jobs.video_devices import VideoDevices
    from upscale.jobs.video_preview import PreviewRecord


def upscale_video(
    session: Session,
    source: Path,
    output: Path,
    settings: VideoSettings,
    options: Options,
    *,
    hint: str | None = None,
) -> int:
    """Upscale one video and return the exit code.

    Args:
        session: Streams.
        source: Input video.
        output: Output file.
        settings: Settings of the video.
        options: Options of the command line.
        hint: Remark on the choice of the network; None for none.
    """
    from upscale.cli.progress_bars import step_progress
    from upscale.jobs import find_model_info
    from upscale.jobs.video import plan_video, run_video_on, video_record

    facts = find_model_info(options.engine.model, options.size.needs_model_scale)
    job: VideoJob | None = None

    def print_note(line: str) -> None:
        if not options.report.quiet:
            session.say(f"note: {line}")

    with recorded_failures(
        session, options, lambda error: video_record(source, output, facts.name, job, error=error)
    ):
        size_of = partial(options.size.resolve, model_scale=facts.scale)
        job = plan_video(source, output, size_of, settings)
        if not options.report.quiet:
            print_plan(session, job, verbose=options.report.verbose)
            print_notes(session, [hint] if hint else [])
        try:
            with (
                _video_devices(session, options, print_note) as (devices, identity, kernels),
                step_progress(session, "frames", options.report) as progress,
            ):
                report = run_video_on(devices, job, identity, progress, print_note)
        except KeyboardInterrupt:
            session.say(f"{printable(output)}: run the same command again to resume")
            raise
    print_record(session, options, video_record(source, output, facts.name, job, report))
    if not options.report.quiet:
        print_summary(session, report)
        if options.report.verbose:
            session.say(f"convolutions: {kernels()}")
    return int(ExitCode.DONE)


def preview_video(
    session: Session,
    source: Path,
    output: Path | None,
    settings: VideoSettings,
    options: Options,
    *,
    times: tuple[Fraction, ...],
) -> int:
    """Write a preview image of an upscaled video and return the exit code.

    Args:
        session: Streams.
        source: Input video.
        output: Preview image, or a video that it is named after; None for a name after `source`.
        settings: Settings of the video.
        options: Options of the command line.
        times: Times of the frames in seconds; empty for three evenly spaced frames.
    """
    from upscale.cli.batch_view import BatchView
    from upscale.cli.progress_bars import step_progress
    from upscale.jobs import find_model_info
    from upscale.jobs.loading import face_factory
    from upscale.jobs.video_preview import plan_preview, preview_name, preview_record, run_preview

    facts = find_model_info(options.engine.model, options.size.needs_model_scale)
    target, job = preview_name(source, output), None

    with recorded_failures(
        session, options, lambda error: preview_record(source, target, facts.name, job, error=error)
    ):
        size_of = partial(options.size.resolve, model_scale=facts.scale)
        job = plan_preview(source, target, size_of, settings, times)
        if not options.report.quiet:
            print_notes(session, job.notes)
        upscalers, _ = make_upscalers(session, options)
        faces = face_factory(options, BatchView(session, options.report))
        with step_progress(session, "frames", options.report) as progress:
            report = run_preview(job, upscalers[0], progress, faces)
    print_record(session, options, preview_record(source, target, facts.name, job, report))
    return int(ExitCode.DONE)


@contextmanager
def recorded_failures(
    session: Session, options: Options, record: Callable[[str], VideoRecord | PreviewRecord]
) -> Generator[None]:
    """With `--json`, print a record of a failure before raising it."""
    from upscale.jobs.events import error_text

    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        if options.report.json:
            session.out_json(record(error_text(error)))
        raise


def print_record(session: Session, options: Options, record: VideoRecord | PreviewRecord) -> None:
    """Print the result of a video: its record with `--json`, or else the name of its output."""
    from upscale.jobs import Status

    if options.report.json:
        session.out_json(record)
    elif not options.report.quiet and record["status"] != Status.SHARE:
        session.out(session.shown_name(record["output"]))


@contextmanager
def _video_devices(
    session: Session, options: Options, note: Callable[[str], None]
) -> Generator[tuple[VideoDevices, Mapping[str, str], Callable[[], str]]]:
    """Yield the devices of a video, what a resumed run must share, and the names of kernels."""
    from upscale.cli.batch_view import BatchView
    from upscale.jobs.loading import face_factory
    from upscale.jobs.video_devices import LocalVideo, joined

    faces = face_factory(options, BatchView(session, options.report))
    if options.run.cluster is None:
        upscalers, identity = make_upscalers(session, options)
        devices = LocalVideo(upscalers, faces)
        yield devices, identity, lambda: joined(each.convolutions for each in upscalers)
        return
    from upscale.jobs.cluster_video import ClusterVideo

    cluster = ClusterVideo(options.run.cluster, options.run.workers, options, note)
    try:
        note(f"computing on {count(len(cluster.devices), 'worker')}: {', '.join(cluster.devices)}")
        yield cluster, cluster.identity, lambda: cluster.convolutions
    finally:
        cluster.close()


def make_upscalers(
    session: Session, options: Options
) -> tuple[list[Upscaler | FusedUpscaler | AutoUpscaler], dict[str, str]]:
    """Load the network on each device, and list the settings that a resumed run must share."""
    from upscale.cli.batch_view import BatchView
    from upscale.jobs.loading import make_upscaler
    from upscale.jobs.video_devices import network_identity

    engine = options.engine
    view = BatchView(session, options.report)
    upscalers = [make_upscaler(replace(engine, device=device), view) for device in engine.devices]
    return upscalers, network_identity(upscalers, options)
