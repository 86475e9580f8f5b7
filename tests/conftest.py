"""What tests of all rooms share: real data, and networks small enough to run often."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real photographs; not part of a user's checkout."""
    if not DATA.is_dir():
        pytest.skip("the folder ../shared/data is not here")
    return DATA


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
