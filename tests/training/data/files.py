"""Images of the tests' own making."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def write(path: Path, pixels: np.ndarray) -> None:
    """Write RGB levels by another writer than ours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels[..., ::-1].astype(np.uint8))
