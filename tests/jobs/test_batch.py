from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from upscale.errors import CheckpointError, DeviceError, MemoryExhaustedError, UsageError
from upscale.files.atomic import temporary_file
from upscale.jobs import (
    Advanced,
    BatchSettings,
    Finished,
    ModelFacts,
    Planned,
    Started,
    Status,
    WriteSettings,
    batch,
    make_plan,
    run_batch,
)
from upscale.options import Options, OutputOptions

MODEL = ModelFacts("net", 2)
IMAGES = ["4.png", "5.png", "6.png", "7.png", "8.png"]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for width in (4, 5, 6, 7, 8):
        pixels = np.random.default_rng(width).integers(0, 256, (3, width, 3)).astype(np.uint8)
        cv2.imwrite(str(folder / f"{width}.png"), pixels)
    return folder


def run(folder, factory, *, jobs=2, listener=None, stdout=None, overwrite=False, **output):
    output = {"output": str(folder.parent / "out")} | output
    options = Options(output=OutputOptions(overwrite=overwrite, **output))
    plan = make_plan([str(folder)], options, MODEL, lambda: b"")
    settings = BatchSettings(jobs=jobs, write=WriteSettings(overwrite=overwrite))
    devices = factory if isinstance(factory, dict) else {"cpu": factory}
    return run_batch(plan, settings, devices, listener or (lambda event: None), stdout)


@pytest.mark.parametrize("jobs", [1, 2, 3, 8])
def test_every_image_is_upscaled_and_results_keep_their_order(jobs, images, nearest):
    results = run(images, nearest, jobs=jobs)
    assert [Path(result.input).name for result in results] == [f"{n}.png" for n in range(4, 9)]
    for result in results:
        assert result.status is Status.DONE
        small, large = cv2.imread(result.input), cv2.imread(result.output)
        np.testing.assert_array_equal(large, small.repeat(2, 0).repeat(2, 1))


def test_a_result_is_complete(images, nearest):
    record = run(images, nearest)[0].record()
    assert record | {"seconds": 0} == {
        "input": str(images / "4.png"),
        "output": str(images.parent / "out" / "4.png"),
        "status": "done",
        "model": "nearest",
        "scale": 2.0,
        "size_in": [4, 3],
        "size_out": [8, 6],
        "frames": 1,
        "tile": 512,
        "device": "cpu",
        "precision": "fp32",
        "seconds": 0,
        "notes": [],
        "error": None,
    }
    assert record["seconds"] >= 0


def test_events_come_in_order_from_the_calling_thread(images, nearest):
    events, threads = [], set()

    def listen(event):
        events.append(event)
        threads.add(threading.current_thread())

    run(images, nearest, listener=listen, jobs=1)
    assert threads == {threading.current_thread()}
    assert [type(event) for event in events] == [
        Planned,
        *[Started, Advanced, Advanced, Finished] * 5,
    ]


def test_an_output_is_reported_while_the_next_image_is_computed(images, nearest):
    finished = []

    class Patient(nearest):
        def run(self, array, *, scale=None, size=None, progress=None):
            while array.shape[1] == 5 and not finished:  # ends only if the first is reported
                time.sleep(0.001)
                progress(SimpleNamespace(done=0, total=2))
            return super().run(array, size=size, progress=progress)

    def listen(event):
        if isinstance(event, Finished):
            finished.append(event.result)

    assert len(run(images, Patient, listener=listen)) == len(finished) == 5


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryExhaustedError("6.png: too large"), "6.png: too large"),
        (MemoryError(), "not enough memory"),
        (ZeroDivisionError("oops"), "internal error: ZeroDivisionError: oops; run again with -v"),
    ],
)
def test_one_failure_does_not_stop_the_others(error, text, images, nearest):
    results = run(images, lambda: nearest(6, error))
    failed = [result for result in results if result.status is Status.FAILED]
    assert [Path(result.input).name for result in failed] == ["6.png"]
    assert text in failed[0].error
    assert type(error).__name__ in failed[0].trace
    assert not (images.parent / "out" / "6.png").exists()
    assert sum(result.status is Status.DONE for result in results) == 4


def test_a_model_that_cannot_be_used_fails_all_and_is_tried_once(images):
    tries = []

    def factory():
        tries.append(1)
        raise CheckpointError("net: damaged")

    results = run(images, factory)
    assert [result.error for result in results] == ["net: damaged"] * 5
    assert len(tries) == 1


def test_wrong_usage_that_the_model_finds_ends_the_batch(images):
    def factory():
        raise UsageError("no denoise here")

    with pytest.raises(UsageError):
        run(images, factory)


def test_without_work_no_model_is_loaded(images, nearest):
    run(images, nearest)
    results = run(images, lambda: pytest.fail("not needed"), skip_existing=True)
    assert {result.status for result in results} == {Status.SKIPPED}


def test_a_image_cut_off_after_its_header_fails_alone(images, nearest):
    whole = (images / "5.png").read_bytes()
    (images / "5.png").write_bytes(whole[:60])
    results = run(images, nearest)
    assert [result.status for result in results].count(Status.FAILED) == 1
    assert "5.png" in results[1].error


def test_an_output_that_appears_meanwhile_is_not_replaced(images, nearest):
    target = images.parent / "out" / "4.png"

    def factory():
        target.parent.mkdir()
        target.write_bytes(b"mine")
        return nearest()

    results = run(images, factory)
    assert results[0].status is Status.FAILED
    assert target.read_bytes() == b"mine"


def test_an_unwritable_folder_fails_without_leaving_anything(images, nearest, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(os, "link", refuse)
    results = run(images, nearest)
    assert {result.status for result in results} == {Status.FAILED}
    assert list((images.parent / "out").rglob("*")) == []


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_an_interrupt_leaves_finished_outputs_whole_and_reported(jobs, images, nearest):
    finished = []

    def listen(event):
        if isinstance(event, Finished):
            finished.append(event.result)

    with pytest.raises(KeyboardInterrupt):
        run(images, lambda: nearest(7, KeyboardInterrupt()), listener=listen, jobs=jobs)
    assert [Path(result.output).name for result in finished] == ["4.png", "5.png", "6.png"]
    written = sorted((images.parent / "out").iterdir())
    assert [path.name for path in written] == ["4.png", "5.png", "6.png"]
    assert all(cv2.imread(str(path)) is not None for path in written)


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_few_images_are_in_flight_at_a_time(jobs, images, nearest, monkeypatch):
    alive, most = 0, 0
    lock = threading.Lock()
    read, write = batch.load, batch.store

    def counted_read(*args):
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        return read(*args)

    def counted_write(*args):
        nonlocal alive
        notes = write(*args)
        with lock:
            alive -= 1
        return notes

    monkeypatch.setattr(batch, "load", counted_read)
    monkeypatch.setattr(batch, "store", counted_write)
    run(images, nearest, jobs=jobs)
    assert alive == 0
    assert most <= jobs + 1


def test_the_image_goes_to_standard_output_and_a_closed_one_is_a_failure(images, nearest):
    source = images / "4.png"
    plan = make_plan([str(source)], Options(output=OutputOptions(output="-")), MODEL, lambda: b"")
    stdout = io.BytesIO()
    (result,) = run_batch(plan, BatchSettings(), {"cpu": nearest}, lambda event: None, stdout)
    assert result.output == "-"
    decoded = cv2.imdecode(np.frombuffer(stdout.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (6, 8, 3)

    class Closed(io.BytesIO):
        def write(self, data):
            raise BrokenPipeError(32, "Broken pipe")

    (result,) = run_batch(plan, BatchSettings(), {"cpu": nearest}, lambda event: None, Closed())
    assert result.status is Status.FAILED
    assert "standard output" in result.error


def shared_by(**upscalers):
    """Devices by name, each with the upscaler that it has already made."""
    return {device: (lambda made=made: made) for device, made in upscalers.items()}


@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_devices_share_the_images_and_results_keep_the_plans_order(jobs, images, nearest):
    others_are_done = threading.Event()

    class Slow(nearest):
        def run(self, array, **options):
            others_are_done.wait()
            return super().run(array, **options)

    class Fast(nearest):
        def run(self, array, **options):
            result = super().run(array, **options)
            if len(self.sizes) == 4:
                others_are_done.set()
            return result

    slow, fast = Slow(), Fast()
    order = []

    def listen(event):
        if isinstance(event, Finished):
            order.append(Path(event.result.input).name)

    results = run(images, shared_by(slow=slow, fast=fast), jobs=jobs, listener=listen)
    assert (len(slow.sizes), len(fast.sizes)) == (1, 4)
    assert order == [Path(result.input).name for result in results] == IMAGES
    for result in results:
        small, large = cv2.imread(result.input), cv2.imread(result.output)
        np.testing.assert_array_equal(large, small.repeat(2, 0).repeat(2, 1))


def test_events_name_the_device_and_come_in_order_on_each(images, nearest):
    events = []
    run(images, shared_by(one=nearest(), two=nearest()), listener=events.append)
    assert events[0] == Planned(5, 0, ("one", "two"))
    started = {}
    for device in ("one", "two"):
        mine = [event for event in events if getattr(event, "device", None) == device]
        started[device] = mine[::3]
        assert [type(event) for event in mine] == [Started, Advanced, Advanced] * (len(mine) // 3)
    assert len(started["one"]) + len(started["two"]) == 5


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors"),
        DeviceError("cuda:1 has stopped working"),
    ],
)
def test_a_device_that_stops_working_costs_its_image_and_no_other(error, images, nearest):
    dead, alive = nearest(None, error), nearest()
    results = run(images, {"cuda:1": lambda: dead, "cpu": lambda: alive})
    assert [result.status for result in results].count(Status.DONE) == 4
    assert len(alive.sizes) == 4
    (failed,) = [result for result in results if result.status is Status.FAILED]
    assert "cuda:1 has stopped working" in failed.error
    assert "internal" not in failed.error


def test_when_the_last_device_stops_working_the_rest_fails_at_once(images, nearest):
    asked = []

    class Dying(nearest):
        def run(self, array, **options):
            asked.append(array.shape[1])
            if array.shape[1] == 6:
                raise RuntimeError("CUDA error: unspecified launch failure")
            return super().run(array, **options)

    results = run(images, Dying)
    assert asked == [4, 5, 6]
    assert [result.status.value for result in results] == ["done"] * 2 + ["failed"] * 3
    assert len({result.error for result in results[2:]}) == 1
    assert "--skip-existing" in results[4].error


def test_an_unusable_device_fails_all_before_the_others_start(images, nearest):
    def factory():
        raise DeviceError("there is no cuda:7: the last of 1 is cuda:0")

    good = nearest()
    results = run(images, {"cuda:0": lambda: good, "cuda:7": factory})
    assert {result.error for result in results} == {"there is no cuda:7: the last of 1 is cuda:0"}
    assert good.sizes == []


def test_no_more_devices_are_made_ready_than_there_are_images(images, nearest):
    for name in IMAGES[1:]:
        (images / name).unlink()
    unneeded = {"cuda:1": lambda: pytest.fail("not needed")}
    (result,) = run(images, {"cuda:0": nearest} | unneeded)
    assert result.status is Status.DONE


@pytest.mark.parametrize("devices", [1, 2])
def test_an_interrupt_breaks_off_what_is_being_computed(devices, images, nearest):
    class Endless(nearest):
        def run(self, array, *, scale=None, size=None, progress=None):
            if array.shape[1] == 4:
                return super().run(array, size=size, progress=progress)
            while True:
                progress(SimpleNamespace(done=0, total=2))

    finished = []

    def listen(event):
        if isinstance(event, Finished):
            finished.append(Path(event.result.output).name)
        if finished and isinstance(event, Advanced) and event.done == 0:
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run(images, {f"cuda:{n}": Endless for n in range(devices)}, listener=listen)
    assert finished == ["4.png"]
    assert [path.name for path in (images.parent / "out").iterdir()] == ["4.png"]
    assert threading.active_count() == before


def test_what_a_killed_run_left_is_removed_and_what_a_live_one_writes_is_not(images, nearest):
    out = images.parent / "out"
    out.mkdir()
    (out / ".upscale-0123456789abcdef.part").write_bytes(b"dead")
    with temporary_file(out) as (alive, _):
        run(images, nearest)
        assert {path.name for path in out.iterdir()} == {alive.name, *IMAGES}
