"""A film: segments of frames through the network, each kept when it is whole, then joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from time import perf_counter
from typing import TypedDict

from upscale.errors import OutputError, VideoError
from upscale.jobs.events import Status
from upscale.jobs.frames import FrameUpscaler
from upscale.jobs.segments import Segments
from upscale.pictures.names import shown
from upscale.pictures.publish import refuse_existing
from upscale.video.encoding import Encoder, Encoding, encoder_for
from upscale.video.film import DEFAULT_MAX_PIXELS, Film
from upscale.video.join import join
from upscale.video.output import whole
from upscale.video.probe import probe
from upscale.video.segments import Work, identity_of_encoder, identity_of_source
from upscale.video.streams import plan_streams
from upscale.video.target import Span

_PQ, _HLG = 16, 18
_DIGITS = 3

FrameProgress = Callable[[int, int], None]
"""Called with (frames done, frames in all); from several threads, one at a time."""


@dataclass(frozen=True, slots=True)
class FilmSettings:
    """What a user asked for of a film.

    Attributes:
        encoding: How it is encoded.
        start: Seconds from the film's own zero before which frames are left out.
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
class FilmJob:
    """A film that can be done; `times` are those of its frames, `span` is None for all of it."""

    film: Film
    output: Path
    encoder: Encoder
    times: tuple[int, ...]
    span: Span | None
    settings: FilmSettings
    notes: tuple[str, ...]


@dataclass(slots=True)
class FilmReport:
    """What came of a film.

    Attributes:
        frames: In the output.
        resumed: Of those, done by an earlier run.
        computed: Sent through the network in this run; the others repeat the one before.
        lost: Times in seconds of frames that could not be decoded.
        damaged: Times in seconds of frames that the decoder could only guess in part.
        resized: Times in seconds of frames that had another size or pixel format than the film.
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


class FilmRecord(TypedDict):
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


def film_record(
    source: Path,
    output: Path,
    model: str,
    job: FilmJob | None,
    report: FilmReport | None = None,
    *,
    error: str | None = None,
) -> FilmRecord:
    """What is printed of a film that was done, or has failed.

    Args:
        source: The film.
        output: The film that was or should have been written.
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
        "size_in": [job.film.width, job.film.height] if job else None,
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


def plan_film(
    source: Path,
    output: Path,
    size_of: Callable[[tuple[int, int]], tuple[int, int]],
    settings: FilmSettings,
) -> FilmJob:
    """Look through a film, and settle everything that can be settled before any frame.

    Args:
        source: The film.
        output: The file to be.
        size_of: Gives (width, height) of the output for those of the source.
        settings: What was asked for.

    Raises:
        VideoError: The source is no film that can be read, or nothing of it is wanted.
        OutputError: The output exists, or cannot hold what is wanted.
        UsageError: An option of the encoder is wrong.
    """
    refuse_target(source, output, overwrite=settings.overwrite)
    film = probe(source, max_pixels=settings.max_pixels or DEFAULT_MAX_PIXELS)
    times = wanted_times(film, settings)
    size = fitting_size(film, size_of((film.width, film.height)))
    encoder = encoder_for(film, settings.encoding, output, size)
    span = _span(film, times)
    notes = (*notes_on(film, settings), *encoder.notes)
    if film.timecode is not None and times[0] != film.plan[0]:
        film = replace(film, timecode=None)
        notes = (*notes, "the timecode is left out, since it is that of the film's first frame")
    return FilmJob(film, output, encoder, times, span, settings, notes)


def run_film(
    job: FilmJob,
    upscalers: Sequence[FrameUpscaler],
    identity: Mapping[str, str],
    progress: FrameProgress,
    tell: Callable[[str], None],
) -> FilmReport:
    """Do a film, or what an earlier run has left of it.

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
    report = FilmReport(notes=job.notes)
    whole = {**identity_of_source(job.film.path), **identity_of_encoder(job.encoder), **identity}
    whole["deinterlaced"] = str(job.settings.deinterlace)
    with Work(job.output, job.times, whole, restart=job.settings.restart) as work:
        streams = plan_streams(
            job.film, job.encoder, job.output, work.folder, strict=job.settings.strict
        )
        for line in streams.lost:
            tell(line)
        report.notes += streams.lost
        _settle_tile(job.film, work, upscalers)
        _enlarge(job, work, upscalers, report, progress)
        joined = join(
            job.output,
            job.film,
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


def _settle_tile(film: Film, work: Work, upscalers: Sequence[FrameUpscaler]) -> None:
    """Have all frames computed with one tile, in this run and in those that go on from it."""
    first, *others = upscalers
    tile = work.settle("tile", lambda tile: first.settle_tile(film.width, film.height, tile))
    for other in others:
        other.settle_tile(film.width, film.height, tile)


def _enlarge(
    job: FilmJob,
    work: Work,
    upscalers: Sequence[FrameUpscaler],
    report: FilmReport,
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
    segments = Segments(job.film, job.encoder, work, deinterlace=deinterlace, advance=advance)
    effort = segments.run(upscalers)
    report.computed = effort.computed
    report.waited_for_reading = effort.waiting.for_input
    report.waited_for_writing = effort.waiting.for_output


def _note_flaws(job: FilmJob, work: Work, report: FilmReport) -> None:
    """Say what is wrong with frames, by all runs together."""

    def seconds(times: Iterable[int]) -> tuple[float, ...]:
        return tuple(float(time * job.film.time_base) for time in sorted(times))

    ends = job.times[0], job.times[-1]
    never_there = job.film.lost
    if job.span is not None:
        never_there = (time for time in job.film.lost if ends[0] <= time <= ends[1])
    report.lost = seconds((*work.lost, *never_there))
    report.damaged, report.resized = seconds(work.flaws.damaged), seconds(work.flaws.resized)


def refuse_target(source: Path, output: Path, *, overwrite: bool) -> None:
    """Refuse an output that is the source, or must not be written.

    Raises:
        OutputError: It is one of these.
    """
    if output.exists() and source.exists() and output.samefile(source):
        raise OutputError(f"{shown(output)}: is the input itself; give another output")
    refuse_existing(output, overwrite=overwrite)


def wanted_times(film: Film, settings: FilmSettings) -> tuple[int, ...]:
    """Times of the frames that are asked for.

    Raises:
        VideoError: There is none.
    """
    times = tuple(_wanted(film, settings))
    if not times:
        raise VideoError(f"{shown(film.path)}: has no frame between --start and --end")
    return times


def _wanted(film: Film, settings: FilmSettings) -> Iterator[int]:
    count = 0
    for time in film.plan:
        seconds = time * film.time_base
        if settings.start is not None and seconds < settings.start:
            continue
        if settings.end is not None and seconds >= settings.end:
            return
        if settings.frames is not None and count >= settings.frames:
            return
        count += 1
        yield time


def _span(film: Film, times: tuple[int, ...]) -> Span | None:
    """The part of the film that the frames make; None for all of it."""
    if times == film.plan:
        return None
    after = film.plan.index(times[-1]) + 1
    end = film.plan[after] * film.time_base if after < len(film.plan) else None
    if times[0] == film.plan[0]:
        return Span(whole(film).start, end)
    return Span(times[0] * film.time_base, end)


def fitting_size(film: Film, size: tuple[int, int]) -> tuple[int, int]:
    """A size whose halves are whole where chroma is stored in halves."""
    steps = 1 << film.planes.chroma_across, 1 << film.planes.chroma_down
    width, height = (
        max(1, round(side / step)) * step for side, step in zip(size, steps, strict=True)
    )
    return width, height


def notes_on(film: Film, settings: FilmSettings) -> Iterator[str]:
    """What is to be known of a film before work on it, a line each."""
    yield from film.doubts
    if film.open_end:
        yield "its container does not tell whether it is whole; a missing end would not be seen"
    if film.colour.guessed and film.planes.kind == "yuv":
        yield f"its colours are not tagged; taken for {film.colour.matrix}"
    if film.colour.transfer in (_PQ, _HLG):
        name = "PQ" if film.colour.transfer == _PQ else "HLG"
        yield f"it is {name}: the network sees it as it is coded, and was not trained on that"
    if film.interlaced and not settings.deinterlace:
        yield "it is interlaced; --deinterlace makes whole frames first"
