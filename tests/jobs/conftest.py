from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
STORE_BYTES = 100 << 20


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


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """Two nodes of one CPU, each with a small object store; the second one may be removed."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from ray.cluster_utils import Cluster

    folder = tmp_path_factory.mktemp("cluster")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "training")]))
        patch.setenv("CLUSTER_TEST_FOLDER", str(folder))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        node = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        nodes = Cluster(initialize_head=True, head_node_args=node)
        try:
            yield nodes
        finally:
            nodes.shutdown()


@pytest.fixture
def second_node(cluster):
    node = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
    yield node
    if node in cluster.list_all_nodes():
        cluster.remove_node(node)
