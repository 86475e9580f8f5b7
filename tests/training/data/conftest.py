from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.training.data.files import write


@pytest.fixture
def numbered(tmp_path) -> Callable[..., Path]:
    """Makes a folder of images that say where they are: red is which, green the row, blue the
    column."""

    def numbered(name: str, count: int, height: int = 40, width: int = 56) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for number in range(count):
            rows, columns = np.mgrid[:height, :width]
            pixels = np.dstack([np.full((height, width), number), rows, columns])
            write(folder / f"{number:03}.png", pixels)
        return folder

    return numbered


@pytest.fixture
def pairs(tmp_path) -> tuple[Path, Path]:
    """A folder of good images and one of bad ones, four times smaller, of random pixels.

    Every pixel of a bad image is a square of equal pixels in the good one, so that places can be
    compared whichever way they are turned.
    """
    random = np.random.default_rng(1)
    for number in range(6):
        height, width = random.integers(5, 30, 2)
        low = random.integers(0, 256, (height, width, 3))
        write(tmp_path / "low" / f"{number}.png", low)
        write(tmp_path / "high" / f"{number}.png", low.repeat(4, axis=0).repeat(4, axis=1))
    return tmp_path / "high", tmp_path / "low"
