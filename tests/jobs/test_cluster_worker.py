from __future__ import annotations

import os
from types import SimpleNamespace

from upscale.jobs.cluster_worker import ImageWorker, version_of
from upscale.options import Options


def test_another_file_of_the_same_name_and_size_is_not_taken_for_the_input(tmp_path):
    path = tmp_path / "a.bmp"
    path.write_bytes(b"of the driver")
    version = version_of(path)
    path.write_bytes(b"of the worker")
    os.utime(path, (1, 1))
    job = SimpleNamespace(source=path)
    assert ImageWorker(Options()).run(job, version).result is None
