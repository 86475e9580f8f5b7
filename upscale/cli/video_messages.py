"""What `upscale video` prints about a video before and after the work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from upscale.cli.session import Session
from upscale.files.printable import printable

if TYPE_CHECKING:
    from upscale.jobs.video import VideoJob, VideoReport

_MAX_LISTED_TIMES = 5


def print_plan(session: Session, job: VideoJob, *, verbose: bool = False) -> None:
    """Print what will be done, and what is special about the source.

    Args:
        session: Streams.
        job: Planned video.
        verbose: Whether to print also what matters little.
    """
    from upscale.video.segments import folder_for

    video, encoder, frames = job.video, job.encoder, job.encoder.frame_format
    session.say(
        f"{printable(video.path)}: {count(len(job.times), 'frame')}, "
        f"{video.width}x{video.height} -> {frames.width}x{frames.height}, "
        f"{encoder.codec} {encoder.pixel_format}; "
        f"unfinished work is kept in {printable(folder_for(job.work_name))}"
    )
    print_notes(session, (note for note in job.notes if verbose or note not in job.details))


def print_notes(session: Session, notes: Iterable[str]) -> None:
    """Print notes, one a line."""
    for note in notes:
        session.say(f"note: {note}")


def _state_of_segments(report: VideoReport) -> str:
    if report.unfinished:
        return f"the share is complete; {report.unfinished} of {report.segments} segments are not"
    return (
        f"all {report.segments} segments are complete: to join them, run the same command again "
        "without --shard, or with --join"
    )


def count(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}{'s' * (number != 1)}"


def _frames_at(times: tuple[float, ...]) -> str:
    """Return the number of frames and the first of their times."""
    listed = ", ".join(f"{time:.3f} s" for time in times[:_MAX_LISTED_TIMES])
    more = " and more" if len(times) > _MAX_LISTED_TIMES else ""
    return f"{count(len(times), 'frame')} at {listed}{more}"


def print_summary(session: Session, report: VideoReport) -> None:
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
        f"{count(report.frames, 'frame')} in {report.seconds:.1f} s ({rate:.2f} frames/s); "
        f"{report.computed} computed, {report.resumed} resumed from an earlier run; "
        f"the network waited {report.waited_for_reading:.1f} s for reading and "
        f"{report.waited_for_writing:.1f} s for writing"
    )
