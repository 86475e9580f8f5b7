from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

_OFFICIAL = Path(__file__).with_name("official.py")


@pytest.fixture(scope="session")
def official():
    """BasicSR's metrics."""
    spec = importlib.util.spec_from_file_location("official_metrics", _OFFICIAL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load_official()


@pytest.fixture(scope="session")
def eval_photo(data):
    """Read a real photograph, (256, 256, 3) or `city`, (264, 320, 3), RGB uint8."""

    def eval_photo(name: str) -> np.ndarray:
        pixels = cv2.imread(str(data / f"photos/scenes/{name}.webp"))
        return np.ascontiguousarray(pixels[..., ::-1])

    return eval_photo


@pytest.fixture(scope="session")
def photos(eval_photo) -> dict[str, np.ndarray]:
    return {name: eval_photo(name) for name in ("nyc", "night")}


@pytest.fixture(scope="session")
def photo(eval_photo) -> np.ndarray:
    return eval_photo("city")


@pytest.fixture(scope="session")
def damages():
    """Degradations of 8-bit images, each with strengths 1 to 4."""
    return {"noise": _noisy, "blur": _blurred, "jpeg": _jpeg}


def _noisy(pixels, step):
    noise = np.random.default_rng(0).normal(0, 6 * step, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def _blurred(pixels, step):
    return cv2.GaussianBlur(pixels, (0, 0), 0.7 * step)


def _jpeg(pixels, step):
    quality = (80, 50, 25, 8)[step - 1]
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 1)
