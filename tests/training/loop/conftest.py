from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.loop.runs import make_images


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    """A folder of small images."""
    return make_images(tmp_path_factory.mktemp("pictures"))
