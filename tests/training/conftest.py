from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def photographs(data):
    """Crops of real photographs, (4, 3, 96, 128) in [0, 1], 8-bit levels."""
    files = sorted((data / "photos/scenes").glob("*.webp"))[:4]
    crops = [cv2.imread(str(file))[100:196, 100:228, ::-1] for file in files]
    return torch.from_numpy(np.stack(crops).transpose(0, 3, 1, 2).copy()).float() / 255
