from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
from PIL import Image as PILImage

from tests.jobs.conftest import NearestUpscaler
from upscale.jobs import ImageJob, ModelInfo, make_plan
from upscale.jobs.cluster_worker import ImageWorker, version_of
from upscale.options import Options, OutputOptions


def test_another_file_of_the_same_name_and_size_is_not_taken_for_the_input(tmp_path):
    path = tmp_path / "a.bmp"
    path.write_bytes(b"of the driver")
    version = version_of(path)
    path.write_bytes(b"of the worker")
    os.utime(path, (1, 1))
    job = SimpleNamespace(source=path)
    assert ImageWorker(Options()).run(job, version).result is None


def test_two_images_at_once_take_turns_on_the_device(tmp_path):
    running, most = [], []

    class Slow(NearestUpscaler):
        def run(self, array, **options):
            running.append(array)
            most.append(len(running))
            time.sleep(0.02)
            running.pop()
            return super().run(array, **options)

    for number in range(6):
        PILImage.fromarray(np.full((4, 6, 3), number, np.uint8)).save(tmp_path / f"{number}.png")
    options = Options(output=OutputOptions(output=f"{tmp_path / 'out'}/"))
    plan = make_plan([str(tmp_path)], options, ModelInfo("net", 2), bytes)
    jobs = [item for item in plan.items if isinstance(item, ImageJob)]
    worker = ImageWorker(options, lambda engine: Slow())
    worker.prepare()
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda job: worker.run(job, version_of(job.source)), jobs))
    assert [each.result.error for each in done] == [None] * 6 and all(each.content for each in done)
    assert most == [1] * 6
