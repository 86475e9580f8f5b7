"""Videos whose fields become other frames: one for each field, or those before a telecine."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Literal

from upscale.errors import VideoError
from upscale.files.printable import printable
from upscale.video.deinterlace import TELECINE_CYCLE, deinterlaced
from upscale.video.info import VideoInfo
from upscale.video.planes import PlaneReader
from upscale.video.reader import FrameReader

Conversion = Literal["field", "ivtc"]
"""A frame for each field (double rate), or inverse telecine."""


def converted(video: VideoInfo, conversion: Conversion) -> VideoInfo:
    """Return a video with the times of the frames that its fields become.

    Args:
        video: Result of `probe`.
        conversion: Kind of frames to make.

    Raises:
        VideoError: The video is not interlaced, or only partly so; with `ivtc`, it cannot be read.
    """
    name = printable(video.path)
    if not video.interlaced:
        raise VideoError(f"{name}: is not interlaced; leave out --double-rate and --ivtc")
    if conversion == "ivtc":
        return _without_telecine(video)
    if video.progressive:
        raise VideoError(
            f"{name}: some of its frames are progressive, which have one time; use --deinterlace"
        )
    return _with_double_rate(video)


def _with_double_rate(video: VideoInfo) -> VideoInfo:
    """Add a frame half-way between two frames, as FFmpeg's filter does."""
    times = video.frame_times
    halves = [before + after for before, after in pairwise(times)]
    if len(times) > 1:
        halves.append(3 * times[-1] - times[-2])
    doubled = sorted([*(2 * time for time in times), *halves])
    return replace(
        video,
        frame_times=tuple(doubled),
        time_base=video.time_base / 2,
        rate=video.rate * 2,
        lost=tuple(2 * time for time in video.lost),
        interlaced=False,
        origin=video,
        conversion="field",
    )


def _without_telecine(video: VideoInfo) -> VideoInfo:
    """Find the frames before the telecine, which needs all of them."""
    planes = PlaneReader(video.planes, video.width, video.height)
    reader = FrameReader(video, None, None, deinterlace=False)
    results = deinterlaced(video, reader.planar(planes), "ivtc")
    times = sorted({round(time / video.time_base) for time, _ in results})
    if not times:
        raise VideoError(f"{printable(video.path)}: has too few frames for --ivtc")
    return replace(
        video,
        frame_times=tuple(times),
        rate=video.rate * TELECINE_CYCLE,
        interlaced=False,
        progressive=None,
        origin=video,
        conversion="ivtc",
    )
