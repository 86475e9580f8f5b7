"""Batches on a real Ray cluster of two nodes on this machine; slow."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from tests.jobs import cluster_fakes as fakes
from upscale.errors import DeviceError
from upscale.jobs import Finished, ModelInfo, Started, Status, make_plan, run_batch
from upscale.jobs.batch import run_jobs
from upscale.jobs.cluster import RayExecutor
from upscale.options import Options, OutputOptions

pytestmark = pytest.mark.slow
pytest.importorskip("ray", reason="the extra ray is not installed")


def images(folder, widths):
    folder.mkdir()
    for number, width in enumerate(widths):
        pixels = np.random.default_rng(number).integers(0, 256, (3, width, 3), np.uint8)
        PILImage.fromarray(pixels).save(folder / f"{number:03}.png")
    return folder


def run(cluster, folder, *, make=fakes.fragile, listener=None, workers=None, out="out"):
    options = Options(output=OutputOptions(output=f"{folder.parent / out}/"))
    plan = make_plan([str(folder)], options, ModelInfo("net", 2), bytes)
    executor = RayExecutor(cluster.address, workers, options, make=make)
    return run_jobs(plan, executor, listener or (lambda event: None))


def locally(folder, nearest):
    options = Options(output=OutputOptions(output=f"{folder.parent / 'local'}/"))
    plan = make_plan([str(folder)], options, ModelInfo("net", 2), bytes)
    return run_batch(plan, options, {"cpu": nearest}, lambda event: None)


def lines(results):
    records = [each.record() | {"seconds": None} for each in results]
    return [json.dumps(each).replace("/local/", "/out/") for each in records]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_cluster_does_what_one_machine_does(cluster, second_node, tmp_path, nearest):
    """200 images, of which one kills each worker and one a single worker."""
    widths = [4 + number % 5 for number in range(200)]
    widths[50], widths[100] = fakes.POISON, fakes.FATAL_ONCE
    folder, events = images(tmp_path / "in", widths), []
    results = run(cluster, folder, listener=events.append)
    expected = locally(folder, nearest)
    (failed,) = (each for each in results if each.status is Status.FAILED)
    assert failed.input.endswith("050.png")
    assert "050.png: 3 workers died while they had it" in failed.error
    others = [number for number in range(200) if number != 50]
    assert [lines(results)[each] for each in others] == [lines(expected)[each] for each in others]
    (tmp_path / "local" / "050.png").unlink()
    assert contents(tmp_path / "out") == contents(tmp_path / "local")
    assert [each.result for each in events if isinstance(each, Finished)] == results
    assert len({each.device for each in events if isinstance(each, Started)}) == 2


def test_images_of_a_node_that_dies_are_computed_by_others(cluster, second_node, tmp_path, nearest):
    folder = images(tmp_path / "in", [fakes.SLOW] * 12)
    killed = []

    def kill(event):
        if isinstance(event, Finished) and not killed:
            killed.append(second_node)
            cluster.remove_node(second_node, allow_graceful=False)

    results = run(cluster, folder, listener=kill)
    assert {each.status for each in results} == {Status.DONE}
    locally(folder, nearest)
    assert killed and contents(tmp_path / "out") == contents(tmp_path / "local")


def test_a_network_that_cannot_be_loaded_fails_all_images_with_its_error(cluster, tmp_path):
    results = run(cluster, images(tmp_path / "in", [4, 5]), make=fakes.broken)
    assert {each.error for each in results} == {"net.pth: is damaged; download it again"}
    assert not (tmp_path / "out").exists()


def test_inputs_that_workers_cannot_see_are_sent(cluster, tmp_path, nearest, monkeypatch):
    """A relative path into a folder that only this process has, by way of its descriptor."""
    folder = images(tmp_path / "in", [4, 5, 6])
    descriptor = os.open(folder, os.O_RDONLY)
    hidden = Path(f"/proc/self/fd/{descriptor}")
    options = Options(output=OutputOptions(output=f"{tmp_path / 'out'}/"))
    plan = make_plan([f"{hidden}/"], options, ModelInfo("net", 2), bytes)
    executor = RayExecutor(cluster.address, None, options, make=fakes.fragile)
    results = run_jobs(plan, executor, lambda event: None)
    os.close(descriptor)
    assert [each.status for each in results] == [Status.DONE] * 3
    locally(folder, nearest)
    assert contents(tmp_path / "out") == contents(tmp_path / "local")


def test_an_interrupt_keeps_complete_outputs_and_nothing_else(cluster, tmp_path):
    folder, finished = images(tmp_path / "in", [fakes.SLOW] * 6), []

    def interrupt(event):
        if isinstance(event, Finished):
            finished.append(Path(event.result.output))
            if len(finished) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cluster, folder, listener=interrupt)
    assert sorted(finished) == sorted((tmp_path / "out").iterdir())
    assert 2 <= len(finished) < 6


def test_a_missing_cluster_is_one_line():
    with pytest.raises(DeviceError, match="no Ray cluster answers"):
        RayExecutor("127.0.0.1:9", None, Options())
