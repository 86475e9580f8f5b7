"""Tracking: the faces of a video frame by frame, so that none flickers in and out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from upscale.faces.face import Face

_LONGEST_GAP = 6
"""Most frames in a row in which a face may be missed."""

_SHORTEST = 3
"""Fewest frames in which a face must be found; videos of fewer frames need it in each."""

_LEAST_OVERLAP = 0.3
"""Least overlap of the boxes of one face in two frames, as a part of their union."""

_WEIGHTS = (1, 2, 3, 2, 1)
"""Weights of neighbouring frames in the positions of a face."""


@dataclass(slots=True)
class _Track:
    """One face in several frames, by their numbers."""

    faces: dict[int, Face] = field(default_factory=dict[int, Face])

    @property
    def last(self) -> int:
        """Number of the last frame with the face."""
        return max(self.faces)


def track(frames: Sequence[Sequence[Face]]) -> list[list[Face]]:
    """Return the faces of consecutive frames after tracking.

    A face that is missed in a few frames is added there, one that is found only for an instant is
    left out, and positions are averaged over neighbouring frames, because they tremble.

    Args:
        frames: Faces that were found in each frame.

    Returns:
        Faces of each frame.
    """
    tracks: list[_Track] = []
    for number, faces in enumerate(frames):
        _extend(tracks, number, faces)
    least = min(_SHORTEST, len(frames))
    result: list[list[Face]] = [[] for _ in frames]
    for each in tracks:
        if len(each.faces) >= least:
            for number, face in _smoothed(each):
                result[number].append(face)
    for faces in result:
        faces.sort(key=lambda face: -face.score)
    return result


def _extend(tracks: list[_Track], number: int, faces: Sequence[Face]) -> None:
    """Add the faces of a frame to the tracks that they overlap most, or begin new tracks."""
    recent = [each for each in tracks if number - each.last <= _LONGEST_GAP + 1]
    pairs = [
        (_overlap(face, each.faces[each.last]), position, each)
        for position, face in enumerate(faces)
        for each in recent
    ]
    pairs.sort(key=lambda pair: -pair[0])
    taken: set[int] = set()
    for overlap, position, each in pairs:
        if overlap >= _LEAST_OVERLAP and position not in taken and number not in each.faces:
            each.faces[number] = faces[position]
            taken.add(position)
    tracks += [_Track({number: face}) for n, face in enumerate(faces) if n not in taken]


def _smoothed(each: _Track) -> list[tuple[int, Face]]:
    """Return the face in every frame of its track, interpolated and averaged."""
    found = sorted(each.faces)
    numbers = np.arange(found[0], found[-1] + 1)
    values = np.stack([_values(each.faces[number]) for number in found])
    filled = np.stack([np.interp(numbers, found, column) for column in values.T], 1)
    reach = len(_WEIGHTS) // 2
    padded = np.pad(filled, ((reach, reach), (0, 0)), mode="reflect", reflect_type="odd")
    total = np.zeros_like(filled)
    for shift, weight in enumerate(_WEIGHTS):
        total += weight * padded[shift : shift + len(numbers)]
    smooth = total / sum(_WEIGHTS)
    return [(int(number), _face(row)) for number, row in zip(numbers, smooth, strict=True)]


def _values(face: Face) -> NDArray[np.float64]:
    return np.concatenate([face.box, face.landmarks.ravel(), [face.score]])


def _face(row: NDArray[np.float64]) -> Face:
    left, top, right, bottom = row[:4].tolist()
    return Face((left, top, right, bottom), row[4:14].reshape(5, 2), float(row[14].clip(0, 1)))


def _overlap(one: Face, other: Face) -> float:
    """Return the common area of two boxes as a part of their union."""
    low = np.maximum(one.box[:2], other.box[:2])
    high = np.minimum(one.box[2:], other.box[2:])
    common = float(np.prod((high - low).clip(0)))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one.box, other.box)]
    return common / max(sum(areas) - common, 1e-9)
