from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest


class NearestUpscaler:
    """Stand-in for the engine that repeats pixels, records calls, and fails on request."""

    def __init__(self, fail_on_width: int | None = None, error: BaseException | None = None):
        self.sizes: list[tuple[int, int]] = []
        self.channels: list[int] = []
        self._fail_on_width = fail_on_width
        self._error = error

    def run(self, array, *, scale=None, size=None, progress=None):
        height, width, channels = array.shape
        if self._error is not None and self._fail_on_width in (None, width):
            raise self._error
        self.sizes.append(size)
        self.channels.append(channels)
        for done in (1, 2):
            if progress is not None:
                progress(SimpleNamespace(done=done, total=2))
        rows = np.arange(size[1]) * height // size[1]
        columns = np.arange(size[0]) * width // size[0]
        report = SimpleNamespace(
            model="nearest",
            tile=512,
            device="cpu",
            precision="fp32",
            convolutions="torch",
            resize=None,
        )
        return SimpleNamespace(pixels=array[rows][:, columns], report=report)


@pytest.fixture
def nearest():
    return NearestUpscaler
