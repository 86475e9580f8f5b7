"""Photographs with faces, and their landmarks, marked by hand at 300 %."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from upscale.faces.mtcnn import Mtcnn
from upscale.images import read_image

MARKS = {
    "baby": [
        [(88.2, 232.2), (124.2, 208.7), (113.2, 238.0), (116.8, 265.2), (138.9, 252.0)],
        [(98.0, 37.5), (163.5, 41.0), (132.5, 76.0), (95.0, 87.5), (154.5, 91.0)],
    ],
    "girl": [[(93.3, 138.5), (168.6, 130.4), (131.5, 175.6), (104.3, 208.3), (180.0, 200.6)]],
}
"""Left eye, right eye, nose, corners of the mouth of each face; the man is cut off at the top."""


@dataclass(frozen=True)
class Photo:
    pixels: np.ndarray
    landmarks: list[np.ndarray]


@pytest.fixture(scope="session")
def photos(data) -> dict[str, Photo]:
    return {
        name: Photo(read_image(data / f"photos/faces/{name}.webp").pixels, [*map(np.array, faces)])
        for name, faces in MARKS.items()
    }


@pytest.fixture(scope="session")
def detector() -> Mtcnn:
    return Mtcnn()


@pytest.fixture(scope="session")
def faceless(data) -> list[np.ndarray]:
    """Photographs and drawings without a face."""
    scenes = data / "photos/scenes"
    names = [*scenes.glob("*.webp"), *(data / "photos/graphics").glob("*.webp")]
    return [read_image(path).pixels for path in sorted([*names, data / "photos/kitten.webp"])]
