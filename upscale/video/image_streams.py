"""What a sequence of images does not hold of a video."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from upscale.errors import OutputError
from upscale.files.printable import printable
from upscale.video import embedded
from upscale.video.container import open_video
from upscale.video.info import VideoInfo
from upscale.video.mux import StreamPlan
from upscale.video.streams import explain_loss


def plan_images(video: VideoInfo, output: Path, *, strict: bool = False) -> StreamPlan:
    """List what is lost, before any frame is computed.

    Args:
        video: Source video.
        output: Names of the images.
        strict: Raise an error if anything is lost.

    Raises:
        OutputError: If strict, something is lost.
        VideoError: The source cannot be read.
    """
    losses = tuple(_losses(video, output))
    if strict and losses:
        raise OutputError(
            f"{printable(output)}: {'; '.join(losses)}; write a video, or leave out --strict"
        )
    note = f"images hold no times; as a video, they have {video.rate} frames per second"
    return StreamPlan((), losses, notes=() if video.images else (note,))


def _losses(video: VideoInfo, output: Path) -> Iterator[str]:
    with open_video(video.source, video.max_pixels) as source:
        for stream in source.streams:
            if stream.index != video.stream:
                yield explain_loss(stream, output)
        if source.chapters():
            yield "images do not hold chapters"
    yield from embedded.losses((*video.embedded, *video.registered))
    steps = [after - before for before, after in pairwise(video.frame_times)]
    if steps and max(steps) - min(steps) > max(1, round(0.001 / float(video.time_base))):
        yield "images do not hold the times of frames, which are uneven"
    if video.sample_aspect not in (None, 1):
        yield "images do not hold the shape of pixels; --square-pixels makes square ones"
