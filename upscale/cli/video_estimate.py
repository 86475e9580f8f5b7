"""Run `upscale video --estimate`: say what a video would take, and write nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from upscale.cli.session import Session
from upscale.cli.video_messages import print_notes, print_plan
from upscale.cli.video_run import make_upscalers, recorded_failures
from upscale.options import Options

if TYPE_CHECKING:
    from upscale.jobs.video import VideoJob, VideoSettings
    from upscale.jobs.video_estimate import VideoEstimate

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


def estimate_one(
    session: Session,
    source: Path,
    output: Path,
    settings: VideoSettings,
    options: Options,
    *,
    hint: str | None = None,
) -> VideoEstimate:
    """Print an estimate for one video, and return it; the arguments are those of `upscale_video`.

    Args:
        session: Streams.
        source: Input video.
        output: Output that would be written.
        settings: Settings of the video.
        options: Options of the command line.
        hint: Remark on the choice of the network; None for none.
    """
    from upscale.cli.batch_view import BatchView
    from upscale.cli.progress_bars import step_progress
    from upscale.jobs import find_model_info
    from upscale.jobs.loading import face_factory
    from upscale.jobs.video import plan_video, video_record
    from upscale.jobs.video_estimate import estimate_record, estimate_video

    facts = find_model_info(options.engine.model, options.size.needs_model_scale)
    job: VideoJob | None = None
    with recorded_failures(
        session, options, lambda error: video_record(source, output, facts.name, job, error=error)
    ):
        size_of = partial(options.size.resolve, model_scale=facts.scale)
        job = plan_video(source, output, size_of, settings)
        if not options.report.quiet:
            print_plan(session, job, verbose=options.report.verbose)
            print_notes(session, [hint] if hint else [])
        upscalers, _ = make_upscalers(session, options)
        faces = face_factory(options, BatchView(session, options.report))
        with step_progress(session, "parts", options.report) as progress:
            estimate = estimate_video(job, upscalers, progress, faces=faces)
    if options.report.json:
        session.out_json(estimate_record(job, source, facts.name, estimate))
    elif not options.report.quiet:
        name = session.shown_name(str(output))
        session.out(f"{name}  {estimate_text(estimate.seconds, estimate.size)}")
    return estimate


def estimate_text(seconds: float, size: int) -> str:
    """Return a time and a size for people, rounded as estimates are.

    Example:
        >>> estimate_text(5400, 1_430_000_000)
        'about 1 h 30 min, about 1.4 GB'
    """
    from upscale.cli.progress_bars import duration_text

    return f"about {duration_text(seconds)}, about {_size_text(size)}"


def _size_text(size: float) -> str:
    unit = 0
    while size >= 1000 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if size < 10 and unit else f"{size:.0f} {_UNITS[unit]}"
