from __future__ import annotations

import pytest

from upscale.engine import upscaler
from upscale.engine.loading import Model
from upscale.tiling.schedule import NO_MINIMUM


@pytest.fixture(scope="module", autouse=True)
def small_tiles():
    """Tiles as small as they are asked for, because the images of these tests are small, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upscaler, "minimum_tile_for", lambda device: NO_MINIMUM)
        yield


@pytest.fixture(scope="session")
def random_model(random_network):
    """A `Model` around a small random network."""

    def make(spec, seed: int = 0) -> Model:
        network = random_network(spec, seed)
        return Model("random", network, network.scale, spec.in_channels, True, spec.describe())

    return make
