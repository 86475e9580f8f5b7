"""What tests of all rooms share: real data, and networks small enough to run often."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Processes that run tests beside each other (`pytest -n`) and the programs that they start share
# the cores; torch reads this when it is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# `HYPOTHESIS_PROFILE=ci` tries four times as many random cases as a plain run. Neither profile has
# a deadline, because the time of a single case depends on the load of the machine.
settings.register_profile("default", max_examples=25, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

DATA = Path(__file__).resolve().parent / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder `tests/data`, whose SOURCES.md says where each file comes from."""
    return DATA


@pytest.fixture(scope="session")
def wide(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three larger images, wider than high: photographs side by side."""
    import cv2
    import numpy as np

    folder = tmp_path_factory.mktemp("wide")
    scenes = [cv2.imread(str(path)) for path in sorted((data / "photos/scenes").glob("*.webp"))]
    scenes = [scene[:256, :256] for scene in scenes]
    for number, (width, height) in enumerate([(700, 503), (620, 576), (719, 481)]):
        rows = [np.hstack(np.roll(scenes, number + 3 * row, axis=0)[:3]) for row in range(3)]
        assert cv2.imwrite(str(folder / f"{number}.png"), np.vstack(rows)[:height, :width])
    return folder


@pytest.fixture(scope="session")
def random_network() -> Callable:
    """Makes a network of given hyper-parameters with random weights that keep values in range."""
    import torch

    from upscale.models import build

    def make(spec, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        network = build(spec).eval().requires_grad_(False)
        for parameter in network.parameters():
            spread = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
        return network

    return make
