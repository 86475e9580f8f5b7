from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

_OFFICIAL = Path(__file__).with_name("official.py")


@pytest.fixture(scope="session")
def official():
    """Basicsr's metrics."""
    spec = importlib.util.spec_from_file_location("official_metrics", _OFFICIAL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load_official()


@pytest.fixture(scope="session")
def photos(data) -> dict[str, np.ndarray]:
    """Real photographs, (576, 576, 3) RGB uint8, by name."""
    names = ("baby", "city", "grass", "night")
    found = {name: cv2.imread(str(data / f"eval/photos/{name}-lossless.png")) for name in names}
    return {name: np.ascontiguousarray(pixels[..., ::-1]) for name, pixels in found.items()}


@pytest.fixture(scope="session")
def photo(photos) -> np.ndarray:
    return photos["city"]
