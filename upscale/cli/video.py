"""The command `upscale video IN OUT`."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, overload

import typer

from upscale.cli import shared_options as shared
from upscale.cli.completion import audio_choices, codecs, one_of
from upscale.cli.session import Action, Session
from upscale.cli.shared_options import option, resolve_options, switch
from upscale.errors import ExitCode, UsageError
from upscale.files.printable import printable, shell_word
from upscale.options import Options

if TYPE_CHECKING:
    from upscale.engine.fusion import FusedUpscaler
    from upscale.engine.upscaler import Upscaler
    from upscale.jobs.auto import AutoUpscaler
    from upscale.jobs.video import VideoJob, VideoRecord, VideoReport, VideoSettings
    from upscale.jobs.video_preview import PreviewRecord
    from upscale.video.recode import AudioChoice

_MAX_LISTED_TIMES = 5
_TIME = re.compile(r"(\d+:){0,2}\d+(\.\d*)?")
_ENCODING, _PREVIEW = "Encoding", "Preview"

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command()
def video(
    context: typer.Context,
    *,
    source: Annotated[Path, typer.Argument(metavar="IN", help="Input video.")],
    target: Annotated[
        Path | None,
        typer.Argument(metavar="OUT", show_default=False,
                       help="Output video: .mp4, .m4v, .mov, .mkv or .webm. With --preview, an "
                       "image file."),
    ] = None,
    scale: shared.Scale = None,
    width: shared.Width = None,
    height: shared.Height = None,
    max_side: shared.MaxSide = None,
    model: shared.Model = None,
    tile: shared.Tile = None,
    device: shared.Device = None,
    precision: shared.Precision = None,
    kernels: shared.Kernels = None,
    tta: shared.Tta = None,
    denoise: shared.Denoise = None,
    fidelity: shared.Fidelity = None,
    keep_colour: shared.KeepColour = None,
    face: shared.Face = None,
    face_model: shared.FaceModel = None,
    face_strength: shared.FaceStrength = None,
    face_min_size: shared.FaceMinSize = None,
    face_debug: shared.FaceDebug = None,
    steady: Annotated[
        str | None,
        option("--steady", metavar="0..1", panel=shared.NETWORK,
               help="Reduce flicker: blend each frame with the one before, moved along with the "
               "picture. 0.5 removes up to 40 % of the flicker, and some detail. Default: 0, off."),
    ] = None,
    codec: Annotated[
        str | None,
        option("--codec", metavar="CODEC", panel=_ENCODING, autocompletion=one_of(codecs),
               help="Video codec: {codecs}. FFmpeg's names, such as libx265 or hevc, work too. "
               "Default: x264; for .webm vp9, and above 8 bits svt-av1."),
    ] = None,
    crf: Annotated[
        float | None,
        option("--crf", metavar="N", panel=_ENCODING,
               help="Constant quality, on the codec's own scale; lower is better."),
    ] = None,
    preset: Annotated[
        str | None,
        option("--preset", metavar="PRESET", panel=_ENCODING,
               help="Speed preset of the codec, for example slow; for prores, the profile."),
    ] = None,
    pixel_format: Annotated[
        str | None,
        option("--pix-fmt", metavar="FORMAT", panel=_ENCODING,
               help="Output pixel format, for example yuv420p10le."),
    ] = None,
    encoder_option: Annotated[
        list[str] | None,
        option("--encoder-option", metavar="KEY=VALUE", panel=_ENCODING,
               help="Set another FFmpeg option of the encoder. Can be repeated."),
    ] = None,
    start: Annotated[
        str | None,
        option("--start", metavar="TIME", panel=shared.INPUT,
               help="Start at this time: seconds or [H:]MM:SS, for example 12.5 or 1:02:03."),
    ] = None,
    end: Annotated[
        str | None, option("--end", metavar="TIME", panel=shared.INPUT, help="Stop at this time.")
    ] = None,
    frames: Annotated[
        int | None,
        option("--frames", metavar="N", min=1, panel=shared.INPUT,
               help="Process at most N frames."),
    ] = None,
    deinterlace: Annotated[
        bool,
        switch("--deinterlace", panel=shared.INPUT, help="Deinterlace the video before upscaling."),
    ] = False,
    stream: Annotated[
        int | None,
        option("--stream", metavar="N", min=0, panel=shared.INPUT,
               help="Upscale the video stream with this index in the input. Default: the one "
               "flagged as default, or the first."),
    ] = None,
    audio: Annotated[
        str,
        option("--audio", metavar="CHOICE", panel=_ENCODING, autocompletion=one_of(audio_choices),
               help="What happens to sound: copy, aac, opus, flac, none, or auto, which copies it "
               "and converts only what the output cannot hold. Default: auto."),
    ] = "auto",
    strict: Annotated[
        bool,
        switch("--strict", panel=shared.INPUT,
               help="Fail if the output cannot hold all of the input's streams and metadata."),
    ] = False,
    restart: Annotated[
        bool,
        switch("--restart", panel=shared.INPUT, help="Discard the work of an interrupted run."),
    ] = False,
    max_pixels: shared.MaxPixels = None,
    shard: shared.Shard = None,
    join: Annotated[
        bool,
        switch("--join", panel=shared.INPUT,
               help="With --shard: join the segments if this share is the last to finish. Without "
               "it, the same command without --shard joins them."),
    ] = False,
    preview: Annotated[
        bool,
        switch("--preview", panel=_PREVIEW,
               help="Write an image instead of a video: the most detailed part of three frames, "
               "before and after. Default name: IN_preview.png."),
    ] = False,
    at: Annotated[
        str | None,
        option("--at", metavar="TIME,...", panel=_PREVIEW,
               help="Preview the frames at these times, for example 0:05,1:30. For a single time, "
               "the whole upscaled frame is written."),
    ] = None,
    overwrite: shared.Overwrite = None,
    json: shared.Json = None,
    quiet: shared.Quiet = None,
    verbose: shared.Verbose = None,
) -> Action:  # fmt: skip
    """Upscale a video; audio, subtitles, timestamps and metadata are copied.

    Interrupted? Run the same command again to resume. Until a video is finished, its work is kept
    in a hidden folder next to the output.
    """

    def action(session: Session) -> int:
        from upscale.jobs.inputs import reject_image
        from upscale.jobs.video import VideoSettings
        from upscale.video.encoders import VideoEncoding

        options = resolve_options(context, session)
        shared.check_faces(context, options)
        if options.faces.faces_only:
            raise UsageError("--faces-only is for images: leave it out, or use --face")
        settings = VideoSettings(
            VideoEncoding(codec, crf, preset, pixel_format, _pairs(encoder_option or [])),
            start=_seconds("--start", start),
            end=_seconds("--end", end),
            frames=frames,
            deinterlace=deinterlace,
            strict=strict,
            audio=_audio_choice(audio),
            stream=stream,
            restart=restart,
            overwrite=options.output.overwrite,
            max_pixels=options.run.max_pixels,
            keep_colour=options.engine.keep_colour,
            steady=options.video.steady,
            shard=options.run.shard,
            join=join,
        )
        _check_shard(settings)
        if options.run.cluster is not None:
            raise UsageError("--cluster is for images: use --shard for a video on several machines")
        times = tuple(_seconds("--at", time) for time in at.split(",")) if at else ()
        if preview:
            return preview_video(session, source, target, settings, options, times=times)
        if times:
            raise UsageError("--at needs --preview")
        if target is None:
            reject_image(source)
            example = f"{shell_word(source)} {shell_word(f'{source.stem}_x4.mp4')}"
            raise UsageError(f"OUT is missing, as in: upscale video {example}; or use --preview")
        return upscale_video(session, source, target, settings, options)

    return action


def _check_shard(settings: VideoSettings) -> None:
    if settings.join and settings.shard is None:
        raise UsageError("--join needs --shard: without it, all segments are computed and joined")
    if settings.restart and settings.shard is not None:
        raise UsageError(
            "--restart and --shard exclude each other: it would discard the work of other shards; "
            "remove the hidden folder before the first of them starts"
        )


def upscale_video(
    session: Session, source: Path, output: Path, settings: VideoSettings, options: Options
) -> int:
    """Upscale one video and return the exit code."""
    from upscale.cli.batch_view import BatchView
    from upscale.cli.image_batch import face_factory
    from upscale.cli.progress_bars import step_progress
    from upscale.jobs import find_model_info
    from upscale.jobs.video import plan_video, run_video, video_record

    facts = find_model_info(options.engine.model, options.size.needs_model_scale)
    job: VideoJob | None = None

    def print_note(line: str) -> None:
        if not options.report.quiet:
            session.say(f"note: {line}")

    with _recorded_failures(
        session, options, lambda error: video_record(source, output, facts.name, job, error=error)
    ):
        size_of = partial(options.size.resolve, model_scale=facts.scale)
        job = plan_video(source, output, size_of, settings)
        if not options.report.quiet:
            _print_plan(session, job)
        upscalers, identity = _make_upscalers(session, options)
        faces = face_factory(options, BatchView(session, options.report))
        try:
            with step_progress(session, "frames", options.report) as progress:
                report = run_video(job, upscalers, identity, progress, print_note, faces=faces)
        except KeyboardInterrupt:
            session.say(f"{printable(output)}: run the same command again to resume")
            raise
    _print_record(session, options, video_record(source, output, facts.name, job, report))
    if not options.report.quiet:
        _print_summary(session, report)
        if options.report.verbose:
            session.say(f"convolutions: {_joined(each.convolutions for each in upscalers)}")
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
    from upscale.cli.image_batch import face_factory
    from upscale.cli.progress_bars import step_progress
    from upscale.jobs import find_model_info
    from upscale.jobs.video_preview import plan_preview, preview_name, preview_record, run_preview

    facts = find_model_info(options.engine.model, options.size.needs_model_scale)
    target, job = preview_name(source, output), None

    with _recorded_failures(
        session, options, lambda error: preview_record(source, target, facts.name, job, error=error)
    ):
        size_of = partial(options.size.resolve, model_scale=facts.scale)
        job = plan_preview(source, target, size_of, settings, times)
        if not options.report.quiet:
            _print_notes(session, job.notes)
        upscalers, _ = _make_upscalers(session, options)
        faces = face_factory(options, BatchView(session, options.report))
        with step_progress(session, "frames", options.report) as progress:
            report = run_preview(job, upscalers[0], progress, faces)
    _print_record(session, options, preview_record(source, target, facts.name, job, report))
    return int(ExitCode.DONE)


@contextmanager
def _recorded_failures(
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


def _print_record(session: Session, options: Options, record: VideoRecord | PreviewRecord) -> None:
    from upscale.jobs import Status

    if options.report.json:
        session.out_json(record)
    elif not options.report.quiet and record["status"] != Status.SHARE:
        session.out(session.shown_name(record["output"]))


def _pairs(texts: list[str]) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for text in texts:
        key, sign, value = text.partition("=")
        if not key or not sign:
            raise UsageError(f"--encoder-option {text}: is not of the form KEY=VALUE")
        pairs.append((key, value))
    return tuple(pairs)


def _audio_choice(value: str) -> AudioChoice:
    for choice in audio_choices():
        if choice == value:
            return choice
    raise UsageError(f"--audio {value}: choose one of {', '.join(audio_choices())}")


@overload
def _seconds(label: str, value: str) -> Fraction: ...
@overload
def _seconds(label: str, value: None) -> None: ...
def _seconds(label: str, value: str | None) -> Fraction | None:
    """Convert a time such as 5, 0:05, 1:30.25 or 1:02:03 to seconds."""
    if value is None:
        return None
    if not _TIME.fullmatch(value):
        raise UsageError(f"{label} {value}: is not a time; use seconds or [H:]MM:SS")
    parts = [Fraction(part) for part in reversed(value.split(":"))]
    return sum((part * 60**power for power, part in enumerate(parts)), Fraction(0))


def _make_upscalers(
    session: Session, options: Options
) -> tuple[list[Upscaler | FusedUpscaler | AutoUpscaler], dict[str, str]]:
    """Load the network on each device, and list the settings that a resumed run must share."""
    from upscale.cli.batch_view import BatchView
    from upscale.cli.image_batch import make_upscaler
    from upscale.jobs.video_identity import video_identity

    view = BatchView(session, options.report)
    upscalers = [
        make_upscaler(replace(options.engine, device=device), view)
        for device in options.engine.devices
    ]
    return upscalers, video_identity(options, upscalers)


def _joined(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names)))


def _print_plan(session: Session, job: VideoJob) -> None:
    from upscale.video.segments import folder_for

    video, encoder, frames = job.video, job.encoder, job.encoder.frame_format
    session.say(
        f"{printable(video.path)}: {_count(len(job.times), 'frame')}, "
        f"{video.width}x{video.height} -> {frames.width}x{frames.height}, "
        f"{encoder.codec} {encoder.pixel_format}; "
        f"unfinished work is kept in {printable(folder_for(job.output))}"
    )
    _print_notes(session, job.notes)


def _print_notes(session: Session, notes: Iterable[str]) -> None:
    for note in notes:
        session.say(f"note: {note}")


def _state_of_segments(report: VideoReport) -> str:
    if report.unfinished:
        return f"the share is complete; {report.unfinished} of {report.segments} segments are not"
    return (
        f"all {report.segments} segments are complete: to join them, run the same command again "
        "without --shard, or with --join"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _frames_at(times: tuple[float, ...]) -> str:
    """Return the number of frames and the first of their times."""
    listed = ", ".join(f"{time:.3f} s" for time in times[:_MAX_LISTED_TIMES])
    more = " and more" if len(times) > _MAX_LISTED_TIMES else ""
    return f"{_count(len(times), 'frame')} at {listed}{more}"


def _print_summary(session: Session, report: VideoReport) -> None:
    """Print the corrupt frames and the speed."""
    for problem, times in (
        ("could not be decoded", report.lost),
        ("partly corrupt", report.damaged),
        ("with a size or pixel format that differs from the video's", report.resized),
    ):
        if times:
            session.say(f"note: {_frames_at(times)}: {problem}")
    if not report.joined:
        session.say(_state_of_segments(report))
    rate = (report.frames - report.resumed) / max(report.seconds, 1e-9)
    session.say(
        f"{_count(report.frames, 'frame')} in {report.seconds:.1f} s ({rate:.2f} frames/s); "
        f"{report.computed} computed, {report.resumed} resumed from an earlier run; "
        f"the network waited {report.waited_for_reading:.1f} s for reading and "
        f"{report.waited_for_writing:.1f} s for writing"
    )
