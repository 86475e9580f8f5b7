from __future__ import annotations

import pytest

from upscale.engine.loading import Model


@pytest.fixture(scope="session")
def random_model(random_network):
    """A `Model` around a small random network."""

    def make(spec, seed: int = 0) -> Model:
        network = random_network(spec, seed)
        return Model("random", network, network.scale, spec.in_channels, True, spec.describe())

    return make
