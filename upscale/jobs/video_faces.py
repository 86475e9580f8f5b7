"""Faces of a video: found and tracked in a pass of their own, before any frame is upscaled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import TypeAdapter, ValidationError

from upscale.faces.face import Face
from upscale.faces.tracking import track
from upscale.jobs.video_frames import FrameUpscaler
from upscale.jobs.video_samples import Unchanged, rgb_format, rgb_pixels
from upscale.video.reader import read_frames

if TYPE_CHECKING:
    from upscale.faces.enhancer import FaceEnhancer
    from upscale.jobs.video_plan import VideoJob

FaceRecord = dict[str, list[list[float]]]
"""Faces by the time of their frame: score, box and landmarks of each, 15 numbers."""

_Rows = TypeAdapter(FaceRecord)


@dataclass(frozen=True, slots=True, eq=False)
class VideoFaces:
    """How the faces of a video are restored.

    Attributes:
        make: Factory of what restores faces, by the name of a device.
        tracked: Faces by the time of their frame; None to find them in each frame.
    """

    make: Callable[[str], FaceEnhancer]
    tracked: Mapping[int, Sequence[Face]] | None = None


def find_tracked(job: VideoJob, enhancer: FaceEnhancer) -> FaceRecord:
    """Find and track the faces in the selected frames of a video.

    Equal frames in a row share the faces of the first one: they are upscaled only once, unless a
    run is resumed between them.

    Args:
        job: Planned video.
        enhancer: Detector and network for faces; only the detector is used.

    Raises:
        VideoError: The source cannot be read.
    """
    video, times = job.video, set(job.times)
    size = video.width, video.height
    unchanged = FrameUpscaler(video.frame_format, rgb_format(video, size), Unchanged())
    found: dict[int, list[Face]] = {}
    groups: list[int] = []
    group, last = 0, list[Face]()
    reader = read_frames(video, start_pts=job.times[0], deinterlace=job.settings.deinterlace)
    for frame in reader:
        if frame.pts > job.times[-1]:
            break
        if not frame.repeats or not found:
            group += 1
            last = enhancer.find(rgb_pixels(unchanged, frame))
        if frame.pts in times:
            found[frame.pts] = last
            groups.append(group)
    shared: dict[int, list[list[float]]] = {}
    for group, faces in zip(groups, track(list(found.values())), strict=True):
        shared.setdefault(group, [_row(face) for face in faces])
    return {str(time): shared[group] for time, group in zip(found, groups, strict=True)}


def recorded_faces(record: object) -> dict[int, list[Face]] | None:
    """Return the faces of a record; None if no run of upscale made it."""
    try:
        rows = _Rows.validate_python(record, strict=True)
        return {int(time): [_face(row) for row in faces] for time, faces in rows.items()}
    except (ValidationError, ValueError):
        return None


def _row(face: Face) -> list[float]:
    values = [face.score, *face.box, *face.landmarks.ravel().tolist()]
    return [round(float(value), 3) for value in values]


def _face(row: list[float]) -> Face:
    if len(row) != 15 or not np.isfinite(row).all():
        raise ValueError("a face has 15 numbers")
    left, top, right, bottom = row[1:5]
    return Face((left, top, right, bottom), np.array(row[5:]).reshape(5, 2), row[0])
