from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from benchmarks.peers import PeerMissingError, load_basicsr


@pytest.fixture(scope="session")
def basicsr():
    """basicsr's own functions, the oracles."""
    try:
        degradations, diffjpeg, process, model, matlab = load_basicsr(
            "data.degradations",
            "utils.diffjpeg",
            "utils.img_process_util",
            "models.realesrgan_model",
            "utils.matlab_functions",
        )
    except (PeerMissingError, ModuleNotFoundError) as error:
        pytest.skip(f"{error} (the README's test command installs it)")
    return SimpleNamespace(
        degradations=degradations,
        DiffJPEG=diffjpeg.DiffJPEG,
        USMSharp=process.USMSharp,
        filter2D=process.filter2D,
        model=model,
        imresize=matlab.imresize,
    )


@pytest.fixture
def smooth():
    """Makes smooth images (N, 3, H, W) in [0, 1], 8-bit levels, from a seed."""

    def make(count, height, width, seed=0):
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(count, 3, -(-height // 6) + 1, -(-width // 6) + 1, generator=generator)
        found = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
        return (found * 255).round() / 255

    return make
