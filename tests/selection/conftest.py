from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image as PILImage

PHOTOS = ["baby", "city", "dog", "girl", "house", "nyc"]


@pytest.fixture
def scene(data):
    """Reads a photo without artefacts, shrunk by a factor so that it is sharp."""

    def read(name, factor=2):
        pixels = cv2.imread(str(data / f"photos/scenes/{name}.webp"))[..., ::-1]
        size = pixels.shape[1] // factor, pixels.shape[0] // factor
        return np.ascontiguousarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))

    return read


@pytest.fixture(params=PHOTOS)
def photo(request, scene):
    return scene(request.param)


@pytest.fixture
def jpeg():
    """Compresses and decodes an image."""

    def compress(pixels, quality):
        target = io.BytesIO()
        PILImage.fromarray(pixels).save(target, "JPEG", quality=quality)
        return np.asarray(PILImage.open(target))

    return compress


@pytest.fixture
def noisy():
    """Adds white noise."""

    def add(pixels, sigma, grey=False):
        shape = (*pixels.shape[:2], 1) if grey else pixels.shape
        noise = np.random.default_rng(1).normal(0, sigma, shape)
        return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)

    return add


@pytest.fixture
def cartoon():
    """Filled shapes with outlines and text, drawn at four times the size."""
    canvas = np.full((1024, 1024, 3), (240, 230, 200), np.uint8)
    own = np.random.default_rng(3)
    for _ in range(24):
        centre = tuple(int(value) for value in own.integers(0, 1024, 2))
        colour = tuple(int(value) for value in own.integers(0, 256, 3))
        radius = int(own.integers(60, 200))
        cv2.circle(canvas, centre, radius, colour, -1)
        cv2.circle(canvas, centre, radius, (20, 20, 30), 12)
        cv2.putText(canvas, "Text", centre, cv2.FONT_HERSHEY_SIMPLEX, 4, (0, 0, 0), 16)
    return cv2.resize(canvas, (256, 256), interpolation=cv2.INTER_AREA)
