"""Frames of a video as images, to look at before and after its upscaling."""

from __future__ import annotations

from pathlib import Path

from upscale.images import Image
from upscale.jobs.video_frames import FrameUpscaler
from upscale.jobs.video_samples import Unchanged, frame_at, rgb_format, rgb_pixels
from upscale.video.probe import probe


def video_stills(path: Path, count: int) -> list[tuple[float, Image]]:
    """Return frames in equal distances, for example the middle one.

    Args:
        path: The video.
        count: Largest number of frames, at least 1; those that cannot be decoded are left out.

    Returns:
        Times in seconds, and the frames as they are stored.

    Raises:
        VideoError: The video cannot be read.
    """
    video = probe(path)
    size = video.width, video.height
    unchanged = FrameUpscaler(video.frame_format, rgb_format(video, size), Unchanged())
    times, stills = video.frame_times, list[tuple[float, Image]]()
    count = min(count, len(times))
    for part in range(count):
        time = times[len(times) * (2 * part + 1) // (2 * count)]
        frame = frame_at(video, time)
        if frame is not None:
            seconds = float(time * video.time_base)
            stills.append((seconds, Image(rgb_pixels(unchanged, frame))))
    return stills
