from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.loop.runs import make_pictures


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """A folder of small pictures."""
    return make_pictures(tmp_path_factory.mktemp("pictures"))
