"""Flicker of videos and of folders of frames."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from upscale.errors import ImageError
from upscale.files.printable import printable
from upscale.images import read_image
from upscale.jobs.eval_items import find_eval_items
from upscale.metrics import MetricError, flicker
from upscale.metrics.samples import to_grey
from upscale.video import PlaneFormat, VideoFrame, probe, read_frames

_GREY = np.array([0.299, 0.587, 0.114])


def measure_flicker(video: Path, source: Path | None, count: int) -> float:
    """Return the flicker of the first frames of a video.

    Args:
        video: Video, or folder of frames, which are sorted by name.
        source: Video or folder before upscaling, from which the motion is taken; None takes it from
            the video itself.
        count: Largest number of frames.

    Raises:
        VideoError: A video cannot be read.
        ImageError: A frame cannot be read, or flicker cannot be computed.
    """
    guides = None if source is None else _brightness(source, count)
    try:
        return flicker(_brightness(video, count), guides)
    except MetricError as error:
        raise MetricError(f"{printable(video)}: {error}") from error


def _brightness(path: Path, count: int) -> Iterator[NDArray[np.float64]]:
    """Yield the brightness of frames, (H, W), 0..255."""
    return islice(_of_folder(path) if path.is_dir() else _of_video(path), count)


def _of_folder(folder: Path) -> Iterator[NDArray[np.float64]]:
    found = find_eval_items([str(folder)], None, recursive=False)
    if not found.items:
        raise ImageError(f"{printable(folder)}: contains no images; name a folder of frames")
    for item in found.items:
        yield to_grey(read_image(item.path).pixels)[..., 0]


def _of_video(path: Path) -> Iterator[NDArray[np.float64]]:
    video = probe(path)
    return (_of_frame(frame, video.planes) for frame in read_frames(video))


def _of_frame(frame: VideoFrame, planes: PlaneFormat) -> NDArray[np.float64]:
    if planes.kind == "rgb":
        levels = np.dstack(frame.planes[:3]) @ _GREY
    else:
        levels = frame.planes[0].astype(np.float64)
    return levels * (255 / (2**planes.depth - 1))
