"""`upscale video IN OUT`: a video, frame for frame, with everything beside its image."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, overload

import typer

from upscale.cli.session import Action, Session
from upscale.cli.shared_options import Verbose, switch, text
from upscale.errors import ExitCode, UsageError
from upscale.options import Options, load_options, option_names

if TYPE_CHECKING:
    from upscale import Upscaler
    from upscale.jobs.video import (
        FrameProgress,
        VideoJob,
        VideoRecord,
        VideoReport,
        VideoSettings,
    )
    from upscale.jobs.video_preview import PreviewRecord

_CODECS = "x264, x265, svt-av1, vp9, prores, ffv1, h264_nvenc, hevc_nvenc or av1_nvenc"
_TIMES_SHOWN = 5
_CLOCK = re.compile(r"(\d+:){0,2}\d+(\.\d*)?")

app = typer.Typer(add_completion=False, rich_markup_mode="rich")

_PART, _CODE, _NET, _RUN = "Which part", "Encoding", "Network and size", "Run"


@app.command()
def video(
    context: typer.Context,
    *,
    source: Annotated[Path, typer.Argument(metavar="IN", help="A video.")],
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="OUT",
            help="mp4, m4v, mov, mkv or webm; or an image, with --preview.",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        str | None,
        text("-s", "--scale", metavar="N", panel=_NET, help="Default: the network's own."),
    ] = None,
    width: Annotated[
        str | None,
        text("--width", metavar="PIXELS", panel=_NET, help="Width of the result."),
    ] = None,
    height: Annotated[
        str | None,
        text("--height", metavar="PIXELS", panel=_NET, help="Height of the result."),
    ] = None,
    model: Annotated[
        str | None,
        text("-n", "--model", metavar="NAME|FILE", panel=_NET, help="See upscale models."),
    ] = None,
    tile: Annotated[
        str | None,
        text("-t", "--tile", metavar="auto|0|N", panel=_NET, help="As for images."),
    ] = None,
    device: Annotated[
        str | None,
        text(
            "--device",
            metavar="DEVICE",
            panel=_NET,
            help="As for images; several share the segments of the video.",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        text("--precision", metavar="PRECISION", panel=_NET, help="auto, fp32, fp16 or bf16."),
    ] = None,
    kernels: Annotated[
        bool | None,
        switch("--kernels/--no-kernels", panel=_NET, help="As for images."),
    ] = None,
    codec: Annotated[
        str | None, text("--codec", metavar="CODEC", panel=_CODE, help=f"{_CODECS}.")
    ] = None,
    crf: Annotated[
        float | None,
        text("--crf", metavar="N", panel=_CODE, help="Quality, in the codec's own numbers."),
    ] = None,
    preset: Annotated[
        str | None,
        text("--preset", metavar="WORD", panel=_CODE, help="Effort, in the codec's own words."),
    ] = None,
    pixel_format: Annotated[
        str | None,
        text("--pix-fmt", metavar="FORMAT", panel=_CODE, help="As yuv420p10le."),
    ] = None,
    encoder_option: Annotated[
        list[str] | None,
        text(
            "--encoder-option",
            metavar="KEY=VALUE",
            panel=_CODE,
            help="More options, as FFmpeg calls them.",
        ),
    ] = None,
    start: Annotated[
        str | None,
        text("--start", metavar="TIME", panel=_PART, help="Leave out before: 12.5 or 1:02:03."),
    ] = None,
    end: Annotated[
        str | None,
        text("--end", metavar="TIME", panel=_PART, help="Leave out from there."),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            metavar="N",
            min=1,
            rich_help_panel=_PART,
            show_default=False,
            help="So many frames at most, for a trial.",
        ),
    ] = None,
    preview: Annotated[
        bool,
        switch(
            "--preview",
            panel=_PART,
            help="Write an image instead of a video: the most detailed part of three frames, "
            "before and after. It is OUT, or named after the video, as IN_preview.png.",
        ),
    ] = False,
    at: Annotated[
        str | None,
        text(
            "--at",
            metavar="TIME,...",
            panel=_PART,
            help="Show these frames instead, as 0:05,1:30; a single one whole, and only after.",
        ),
    ] = None,
    deinterlace: Annotated[
        bool,
        switch("--deinterlace", panel=_RUN, help="Make whole frames of two fields first."),
    ] = False,
    strict: Annotated[
        bool, switch("--strict", panel=_RUN, help="Refuse to lose any stream.")
    ] = False,
    restart: Annotated[
        bool, switch("--restart", panel=_RUN, help="Throw unfinished work away.")
    ] = False,
    max_pixels: Annotated[
        str | None,
        text(
            "--max-pixels",
            metavar="N",
            panel=_RUN,
            help="Refuse larger frames, as a guard against hostile files.",
        ),
    ] = None,
    overwrite: Annotated[
        bool | None,
        switch("--overwrite", panel=_RUN, help="Replace the output if it exists."),
    ] = None,
    json: Annotated[
        bool | None,
        switch("--json", panel=_RUN, help="Print one JSON object at the end, whatever came of it."),
    ] = None,
    quiet: Annotated[
        bool | None, switch("--quiet", panel=_RUN, help="Print nothing but errors.")
    ] = None,
    verbose: Verbose = None,
) -> Action:
    """Upscale a video: the same frames at the same times, and all that goes with them.

    A run that was ended, in whatever way, goes on where it was when the same command is given
    again; until then its work lies beside the output, in a folder that starts with a dot.
    """
    flags = {key: value for key, value in context.params.items() if key in option_names()}

    def action(session: Session) -> int:
        from upscale.jobs.video import VideoSettings
        from upscale.video.encoders import Encoding

        options = load_options(flags, session.environ)
        session.verbose = options.report.verbose
        settings = VideoSettings(
            Encoding(codec, crf, preset, pixel_format, _pairs(encoder_option or [])),
            start=_seconds("--start", start),
            end=_seconds("--end", end),
            frames=frames,
            deinterlace=deinterlace,
            strict=strict,
            restart=restart,
            overwrite=options.output.overwrite,
            max_pixels=options.run.max_pixels,
        )
        times = tuple(_seconds("--at", time) for time in at.split(",")) if at else ()
        if preview:
            return preview_video(session, source, target, settings, options, times=times)
        if times:
            raise UsageError("--at is for a preview: give --preview, too")
        if target is None:
            raise UsageError("OUT is missing: name the video to write, or give --preview")
        return upscale_video(session, source, target, settings, options)

    return action


def upscale_video(
    session: Session, source: Path, output: Path, settings: VideoSettings, options: Options
) -> int:
    """Do one video and return the exit code."""
    from upscale.jobs import find_model_info
    from upscale.jobs.video import plan_video, run_video, video_record

    facts = find_model_info(options.engine.model, options.size.needs_model_scale)
    job: VideoJob | None = None

    def tell(line: str) -> None:
        if not options.report.quiet:
            session.say(f"note: {line}")

    with _failures(
        session, options, lambda error: video_record(source, output, facts.name, job, error=error)
    ):
        size_of = partial(options.size.resolve, model_scale=facts.scale)
        job = plan_video(source, output, size_of, settings)
        if not options.report.quiet:
            _announce(session, job)
        upscalers, identity = _upscalers(session, options)
        try:
            with _shown(session, options) as progress:
                report = run_video(job, upscalers, identity, progress, tell)
        except KeyboardInterrupt:
            session.say(f"{output}: the same command goes on from what is done")
            raise
    _print(session, options, video_record(source, output, facts.name, job, report))
    if not options.report.quiet:
        _conclude(session, report)
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
    """Write an image of what a video would become, and return the exit code."""
    from upscale.jobs import find_model_info
    from upscale.jobs.video_preview import plan_preview, preview_name, preview_record, run_preview

    facts = find_model_info(options.engine.model, options.size.needs_model_scale)
    target, job = preview_name(source, output), None

    with _failures(
        session, options, lambda error: preview_record(source, target, facts.name, job, error=error)
    ):
        size_of = partial(options.size.resolve, model_scale=facts.scale)
        job = plan_preview(source, target, size_of, settings, times)
        if not options.report.quiet:
            for note in job.notes:
                session.say(f"note: {note}")
        upscalers, _ = _upscalers(session, options)
        with _shown(session, options) as progress:
            report = run_preview(job, upscalers[0], progress)
    _print(session, options, preview_record(source, target, facts.name, job, report))
    return int(ExitCode.DONE)


@contextmanager
def _failures(
    session: Session, options: Options, record: Callable[[str], VideoRecord | PreviewRecord]
) -> Generator[None]:
    """Print a line of JSON, where that is wanted, for a video that failed, too."""
    from upscale.jobs.events import error_text

    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        if options.report.json:
            session.out(json.dumps(record(error_text(error))))
        raise


def _print(session: Session, options: Options, record: VideoRecord | PreviewRecord) -> None:
    """Print the result."""
    if options.report.json:
        session.out(json.dumps(record))
    elif not options.report.quiet:
        session.out(record["output"])


def _pairs(options: list[str]) -> tuple[tuple[str, str], ...]:
    pairs = [option.partition("=") for option in options]
    for option, (key, sign, _) in zip(options, pairs, strict=True):
        if not key or not sign:
            raise UsageError(f"--encoder-option {option}: is not KEY=VALUE")
    return tuple((key, value) for key, _, value in pairs)


@overload
def _seconds(label: str, value: str) -> Fraction: ...
@overload
def _seconds(label: str, value: None) -> None: ...
def _seconds(label: str, value: str | None) -> Fraction | None:
    """Seconds of a time as 5, 0:05, 1:30.25 or 1:02:03."""
    if value is None:
        return None
    if not _CLOCK.fullmatch(value):
        raise UsageError(f"{label} {value}: is no time, as 12.5 or 1:02:03")
    parts = [Fraction(part) for part in reversed(value.split(":"))]
    return sum((part * 60**power for power, part in enumerate(parts)), Fraction(0))


def _upscalers(session: Session, options: Options) -> tuple[list[Upscaler], dict[str, str]]:
    """An upscaler for each device, and all of them on which pixels depend."""
    from upscale.cli.batch_view import BatchView
    from upscale.cli.image_batch import make_upscaler
    from upscale.jobs.model_info import model_digest

    view = BatchView(session, options.report)
    made = [
        make_upscaler(replace(options.engine, device=device), view)
        for device in options.engine.devices
    ]
    engine = options.engine
    identity = {
        "model": model_digest(engine.model),
        "precision": ", ".join(sorted({one.precision_name for one in made})),
        "kind of device": ", ".join(sorted({one.device_name.partition(":")[0] for one in made})),
        "kernels": ", ".join(sorted({one.kernels_name for one in made})),
        "options of the network": f"tta {engine.tta}, denoise {engine.denoise}",
    }
    return made, identity


def _announce(session: Session, job: VideoJob) -> None:
    from upscale.video.segments import folder_for

    video, encoder = job.video, job.encoder
    session.say(
        f"{video.path}: {len(job.times)} frames, {video.width}x{video.height} -> "
        f"{encoder.width}x{encoder.height}, {encoder.codec} {encoder.pixel_format}; "
        f"unfinished work in {folder_for(job.output)}"
    )
    for note in job.notes:
        session.say(f"note: {note}")


@contextmanager
def _shown(session: Session, options: Options) -> Generator[FrameProgress]:
    """A bar of frames on a terminal."""

    def ignore(done: int, total: int) -> None:
        """Without a terminal nothing moves."""

    if options.report.quiet or not session.stderr.isatty():
        yield ignore
        return
    from upscale.cli.progress_bars import Bars

    bars: Bars | None = None

    def advance(done: int, total: int) -> None:
        nonlocal bars
        if bars is None:  # not before all notes are said
            bars = Bars(session.stderr, 1, ("video",))
            bars.start_image("video", "frames")
        bars.advance("video", done, total)

    try:
        yield advance
    finally:
        if bars is not None:
            bars.stop()


def _frames(times: tuple[float, ...]) -> str:
    """How many frames, and when."""
    listed = ", ".join(f"{time:.3f} s" for time in times[:_TIMES_SHOWN])
    more = " and more" if len(times) > _TIMES_SHOWN else ""
    return f"{len(times)} frame{'s' * (len(times) > 1)} at {listed}{more}"


def _conclude(session: Session, report: VideoReport) -> None:
    """Say what is wrong with frames, and how fast it was."""
    for what, times in (
        ("could not be decoded", report.lost),
        ("are damaged in part", report.damaged),
        ("had another size or format than the video", report.resized),
    ):
        if times:
            session.say(f"note: {_frames(times)} {what}")
    rate = (report.frames - report.resumed) / max(report.seconds, 1e-9)
    session.say(
        f"{report.frames} frames in {report.seconds:.1f} s, {rate:.2f} a second; "
        f"{report.computed} computed, {report.resumed} from an earlier run; the network waited "
        f"{report.waited_for_reading:.1f} s for reading and {report.waited_for_writing:.1f} s for "
        "writing"
    )
