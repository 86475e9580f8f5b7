"""Run `upscale video` with pipes: `-` as the input or the output."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING

from upscale.cli.session import Session
from upscale.cli.video_messages import print_notes
from upscale.cli.video_run import make_upscalers
from upscale.errors import ExitCode, OutputError, UsageError
from upscale.files.error_mapping import one_line
from upscale.options import Options

if TYPE_CHECKING:
    from upscale.jobs.video import VideoSettings
    from upscale.jobs.video_pipe import PipeJob
    from upscale.video.raw_frames import RawFormat

STANDARD_STREAM = "-"
RAW, Y4M = "raw", "y4m"
"""Formats of frames in a pipe."""

_COPY_BYTES = 1 << 20


@contextmanager
def stored_input(
    session: Session, raw: RawFormat | None = None, max_pixels: int | None = None
) -> Generator[Path]:
    """Store standard input in a temporary file, because a video is read more than once.

    Args:
        session: Streams.
        raw: Format of its frames, if these have no headers.
        max_pixels: Largest accepted width * height of such a frame; None for the default.

    Raises:
        VideoError: Its frames do not have that format.
        OutputError: There is no room for it.
        UsageError: Standard input is a terminal.
    """
    _check_stdin(session)
    with TemporaryDirectory(prefix="upscale-stdin-") as folder:
        path = Path(folder) / "stdin"
        if raw is not None:
            _store_raw(session, path, raw, max_pixels)
            yield path
            return
        try:
            with path.open("wb") as file:
                shutil.copyfileobj(session.stdin, file, _COPY_BYTES)
        except OSError as error:
            raise OutputError(
                f"{gettempdir()}: standard input cannot be stored there ({one_line(error)}); set"
                " TMPDIR to a larger disk"
            ) from error
        yield path


def _store_raw(session: Session, path: Path, raw: RawFormat, max_pixels: int | None) -> None:
    from upscale.video.info import DEFAULT_MAX_PIXELS
    from upscale.video.raw_frames import store_raw

    store_raw(session.stdin, path, raw, max_pixels or DEFAULT_MAX_PIXELS)


def pipe_video(
    session: Session,
    source: str,
    settings: VideoSettings,
    options: Options,
    *,
    format: str | None = None,
    hint: str | None = None,
    raw: RawFormat | None = None,
) -> int:
    """Write upscaled frames to standard output, and return the exit code.

    Args:
        session: Streams.
        source: Input video, or `-` for Y4M from standard input.
        settings: Settings of the video.
        options: Options of the command line.
        format: Format of the frames: `y4m`, or `raw` without headers; None for the former.
        hint: Remark on the choice of the network; None for none.
        raw: Format of frames without headers from standard input; None for Y4M.
    """
    from upscale.cli.batch_view import BatchView
    from upscale.cli.progress_bars import step_progress
    from upscale.jobs.loading import face_factory
    from upscale.jobs.video_pipe import run_pipe

    _check_stdout(session, options)
    if format not in (None, RAW, Y4M):
        raise UsageError(f"--format {format}: standard output takes {Y4M} or {RAW}")
    if len(options.engine.devices) > 1:
        raise UsageError("--device lists several devices, but a pipe is computed on one")
    if raw is not None and format == RAW and settings.encoding.pixel_format is None:
        encoding = replace(settings.encoding, pixel_format=raw.pixel_format)
        settings = replace(settings, encoding=encoding)
    job = _plan(session, source, settings, options, raw, is_raw=format == RAW)
    if not options.report.quiet:
        target = job.target
        session.say(
            f"{job.video.path}: {job.video.width}x{job.video.height} ->"
            f" {target.width}x{target.height}, {format or Y4M}"
            f" {job.settings.encoding.pixel_format or target.planes.name}"
        )
        print_notes(session, (*job.notes, *([hint] if hint else [])))
    upscalers, _ = make_upscalers(session, options)
    faces = face_factory(options, BatchView(session, options.report))

    def warn(line: str) -> None:
        if not options.report.quiet:
            print_notes(session, [line])

    # The number of frames in a pipe is unknown.
    bars = step_progress(session, "frames", options.report) if job.count else nullcontext()
    with bars as progress:
        count = run_pipe(
            job,
            upscalers[0],
            session.stdout.buffer,
            progress or (lambda done, total: None),
            warn,
            faces=faces,
        )
    if not options.report.quiet:
        session.say(f"{count} frame{'s' * (count != 1)} written")
    return int(ExitCode.DONE)


def _plan(
    session: Session,
    source: str,
    settings: VideoSettings,
    options: Options,
    raw: RawFormat | None,
    *,
    is_raw: bool,
) -> PipeJob:
    from upscale.jobs import find_model_info
    from upscale.jobs.video_pipe import plan_file, plan_stream
    from upscale.video.duplicates import RepeatFinder
    from upscale.video.info import DEFAULT_MAX_PIXELS
    from upscale.video.raw_frames import read_raw
    from upscale.video.y4m import mark_repeats, read_y4m

    facts = find_model_info(options.engine.model, options.size.needs_model_scale)
    size_of = partial(options.size.resolve, model_scale=facts.scale)
    if source != STANDARD_STREAM:
        return plan_file(Path(source), size_of, settings, is_raw=is_raw)
    _check_stdin(session)
    limit = settings.max_pixels or DEFAULT_MAX_PIXELS
    if raw is None:
        video, frames = read_y4m(session.stdin, limit)
    else:
        video, frames = read_raw(session.stdin, raw, limit)
    repeats = RepeatFinder(video.planes, settings.duplicates)
    marked = mark_repeats(frames, repeats)
    return plan_stream(video, marked, size_of, settings, is_raw=is_raw)


def _check_stdin(session: Session) -> None:
    if session.stdin.isatty():
        raise UsageError("-: standard input is a terminal: pipe a video into it")


def _check_stdout(session: Session, options: Options) -> None:
    if options.report.json:
        raise UsageError("--json cannot be combined with a video on standard output: use a file")
    if not session.has_stdout:
        raise OutputError("-: standard output is closed; redirect it, or use a file")
    if session.stdout.isatty():
        raise UsageError("standard output is a terminal: redirect it, or use a file")
