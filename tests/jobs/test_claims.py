"""Several processes on one folder with `--skip-existing`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from upscale.files.claims import claim_output
from upscale.jobs import ModelInfo, Status, make_plan, run_batch
from upscale.options import Options, OutputOptions

ROOT = Path(__file__).parents[2]
IMAGES = 40

PROCESSES = """
import json, os, sys, time
import upscale.engine.upscaler  # once, not in each process
from tests.jobs.conftest import NearestUpscaler
from upscale.jobs import ModelInfo, make_plan, run_batch
from upscale.options import Options, OutputOptions

class Slow(NearestUpscaler):
    def run(self, array, **options):
        time.sleep(0.01)
        return super().run(array, **options)

options = Options(output=OutputOptions(output=sys.argv[2] + "/", skip_existing=True))
plan = make_plan([sys.argv[1]], options, ModelInfo("net", 2), lambda: b"")
begin, start = os.pipe()
children = []
for _ in range(int(sys.argv[3])):
    child = os.fork()
    if child == 0:
        os.read(begin, 1)
        results = run_batch(plan, options, {"cpu": Slow}, lambda event: None)
        records = [(each.input, str(each.status), each.error) for each in results]
        os.write(1, json.dumps(records).encode() + bytes([10]))
        os._exit(0)
    children.append(child)
os.write(start, bytes(len(children)))
codes = [os.waitpid(child, 0)[1] for child in children]
sys.exit(any(codes))
"""


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(IMAGES):
        pixels = np.full((8, 8, 3), number, np.uint8)
        PILImage.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked")
@pytest.mark.parametrize("count", [2, 8])
def test_processes_on_one_folder_compute_each_image_once(count, images, tmp_path):
    """All of them have planned the whole folder before the first starts to work."""
    command = [sys.executable, "-c", PROCESSES, images, tmp_path / "out", str(count)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    results = [result for line in run.stdout.splitlines() for result in json.loads(line)]
    assert len(results) == count * IMAGES
    assert {status for _, status, _ in results} == {"done", "skipped"}
    done = Counter(name for name, status, _ in results if status == "done")
    assert done == dict.fromkeys(map(str, sorted(images.iterdir())), 1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        path.name for path in images.iterdir()
    )


def test_an_image_of_another_process_is_skipped_and_reported(images, tmp_path, nearest):
    options = Options(output=OutputOptions(output=f"{tmp_path / 'out'}/", skip_existing=True))
    plan = make_plan([str(images)], options, ModelInfo("net", 2), bytes)
    claim = claim_output(tmp_path / "out" / "03.png")
    results = run_batch(plan, options, {"cpu": nearest}, lambda event: None)
    claim.release()
    assert [each.status for each in results].count(Status.DONE) == IMAGES - 1
    assert results[3].status is Status.SKIPPED
    assert results[3].notes == ("another process is working on it",)
    assert not (tmp_path / "out" / "03.png").exists()


def test_an_image_that_was_written_since_the_plan_is_skipped(images, tmp_path, nearest):
    options = Options(output=OutputOptions(output=f"{tmp_path / 'out'}/", skip_existing=True))
    plan = make_plan([str(images)], options, ModelInfo("net", 2), bytes)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "05.png").write_bytes(b"of another process")
    results = run_batch(plan, options, {"cpu": nearest}, lambda event: None)
    assert (results[5].status, results[5].notes) == (Status.SKIPPED, ())
    assert (tmp_path / "out" / "05.png").read_bytes() == b"of another process"


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()])
def test_a_failure_releases_its_claim(error, images, tmp_path, nearest):
    options = Options(output=OutputOptions(output=f"{tmp_path / 'out'}/", skip_existing=True))
    plan = make_plan([str(images)], options, ModelInfo("net", 2), bytes)
    with suppress(KeyboardInterrupt):
        run_batch(plan, options, {"cpu": lambda: nearest(8, error)}, lambda event: None)
    assert not (tmp_path / "out").exists()
