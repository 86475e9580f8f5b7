from __future__ import annotations

import pytest

from upscale.engine import tile_runner
from upscale.engine.loading import Model
from upscale.tiling.schedule import NO_MINIMUM


@pytest.fixture(scope="module", autouse=True)
def small_tiles():
    """Remove the minimum tile, because the images of these tests are small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tile_runner, "minimum_tile_for", lambda device: NO_MINIMUM)
        yield


@pytest.fixture(scope="session")
def random_model(random_network):
    """Make a `Model` of a small random network."""

    def make(spec, seed: int = 0) -> Model:
        return Model.from_network("random", random_network(spec, seed))

    return make
