"""Output of `upscale eval flicker`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from upscale.cli.session import Session
from upscale.errors import ExitCode, UpscaleError
from upscale.jobs.flicker import measure_flicker


def run_flicker(
    session: Session, videos: Sequence[Path], source: Path | None, frames: int, *, as_json: bool
) -> int:
    """Measure videos, print a line for each, and return the exit code.

    Args:
        session: Streams.
        videos: Videos and folders of frames.
        source: Video or folder from which the motion is taken, or None.
        frames: Largest number of frames of each video.
        as_json: Print JSON lines.
    """
    failures = 0
    for video in videos:
        value, error = None, None
        try:
            value = measure_flicker(video, source, frames)
        except UpscaleError as failure:
            error = str(failure)
            failures += 1
            session.error(error)
        if as_json:
            record = {"input": str(video), "flicker": value, "error": error}
            session.out_json({"kind": "flicker"} | record)
        elif value is not None:
            session.out(f"{value:.3f}  {session.shown_name(str(video))}")
    if failures == len(videos):
        return ExitCode.FAILED
    return ExitCode.SOME_FAILED if failures else ExitCode.DONE
