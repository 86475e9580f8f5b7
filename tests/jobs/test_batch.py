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
from PIL import Image as PILImage

from upscale.errors import CheckpointError, DeviceError, MemoryExhaustedError, UsageError
from upscale.files.atomic import temporary_file
from upscale.jobs import (
    Advanced,
    Finished,
    ModelInfo,
    Planned,
    Started,
    Status,
    image_steps,
    local,
    make_plan,
    run_batch,
)
from upscale.options import Options, OutputOptions, RunOptions

MODEL = ModelInfo("net", 2)
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
    options = Options(
        output=OutputOptions(overwrite=overwrite, **output), run=RunOptions(jobs=jobs)
    )
    plan = make_plan([str(folder)], options, MODEL, lambda: b"")
    devices = factory if isinstance(factory, dict) else {"cpu": factory}
    return run_batch(plan, options, devices, listener or (lambda event: None), stdout)


@pytest.mark.parametrize("jobs", [1, 2, 3, 8])
def test_results_keep_the_order_of_the_plan(jobs, images, nearest):
    results = run(images, nearest, jobs=jobs)
    assert [Path(result.input).name for result in results] == [f"{n}.png" for n in range(4, 9)]
    for result in results:
        assert result.status is Status.DONE
        small, large = cv2.imread(result.input), cv2.imread(result.output)
        np.testing.assert_array_equal(large, small.repeat(2, 0).repeat(2, 1))


def test_result_has_all_fields(images, nearest):
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
        "damaged": [],
        "choice": None,
        "colour_kept": False,
        "faces": None,
    }
    assert record["seconds"] >= 0


def test_events_arrive_in_order_in_the_calling_thread(images, nearest):
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


def test_output_is_reported_during_the_next_computation(images, nearest):
    finished = []

    class Waiting(nearest):
        def run(self, array, *, scale=None, size=None, progress=None):
            while array.shape[1] == 5 and not finished:  # ends only if the first is reported
                time.sleep(0.001)
                progress(SimpleNamespace(done=0, total=2))
            return super().run(array, size=size, progress=progress)

    def listen(event):
        if isinstance(event, Finished):
            finished.append(event.result)

    assert len(run(images, Waiting, listener=listen)) == len(finished) == 5


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (MemoryExhaustedError("6.png: too large"), "6.png: too large"),
        (MemoryError(), "not enough memory"),
        (ZeroDivisionError("oops"), "internal error: ZeroDivisionError: oops; run again with -v"),
    ],
)
def test_failed_image_does_not_stop_the_others(error, text, images, nearest):
    results = run(images, lambda: nearest(6, error))
    failed = [result for result in results if result.status is Status.FAILED]
    assert [Path(result.input).name for result in failed] == ["6.png"]
    assert text in failed[0].error
    assert type(error).__name__ in failed[0].trace
    assert not (images.parent / "out" / "6.png").exists()
    assert sum(result.status is Status.DONE for result in results) == 4


def test_unusable_model_is_loaded_once_and_fails_all_images(images):
    tries = []

    def factory():
        tries.append(1)
        raise CheckpointError("net: damaged")

    results = run(images, factory)
    assert [result.error for result in results] == ["net: damaged"] * 5
    assert len(tries) == 1


def test_usage_error_of_the_model_ends_the_batch(images):
    def factory():
        raise UsageError("no denoise here")

    with pytest.raises(UsageError):
        run(images, factory)


def test_model_is_not_loaded_without_work(images, nearest):
    run(images, nearest)
    results = run(images, lambda: pytest.fail("not needed"), skip_existing=True)
    assert {result.status for result in results} == {Status.SKIPPED}


def test_truncated_image_fails_alone(images, nearest):
    whole = (images / "5.png").read_bytes()
    (images / "5.png").write_bytes(whole[:60])
    results = run(images, nearest)
    assert [result.status for result in results].count(Status.FAILED) == 1
    assert "5.png" in results[1].error


def test_output_that_appears_during_the_run_is_not_replaced(images, nearest):
    target = images.parent / "out" / "4.png"

    def factory():
        target.parent.mkdir()
        target.write_bytes(b"mine")
        return nearest()

    results = run(images, factory)
    assert results[0].status is Status.FAILED
    assert target.read_bytes() == b"mine"


def test_empty_output_of_a_killed_run_is_written_again(images, nearest):
    (images.parent / "out").mkdir()
    (images.parent / "out" / "4.png").touch()
    results = run(images, nearest, skip_existing=True)
    assert {result.status for result in results} == {Status.DONE}
    assert cv2.imread(results[0].output).shape == (6, 8, 3)


@pytest.mark.parametrize("is_animation", [True, False])
def test_image_that_changes_after_planning_fails_alone(images, nearest, is_animation):
    suffix = "gif" if is_animation else "png"
    options = Options(output=OutputOptions(output=str(images.parent / "out")))

    def save(height: int) -> None:
        frames = [PILImage.new("RGB", (9, height), colour) for colour in ("red", "blue")]
        extra = {"save_all": True, "append_images": frames[1:]} if is_animation else {}
        frames[0].save(images / f"9.{suffix}", **extra)

    save(9)
    plan = make_plan([str(images)], options, MODEL, lambda: b"")
    save(3)
    results = run_batch(plan, options, {"cpu": nearest}, lambda event: None)
    failed = [result for result in results if result.status is Status.FAILED]
    assert [Path(result.input).name for result in failed] == [f"9.{suffix}"]
    assert f"9.{suffix}: was 9x9 and is now 9x3; run again when" in failed[0].error
    assert len(list((images.parent / "out").iterdir())) == 5


@pytest.mark.parametrize("is_animation", [True, False])
def test_image_that_changes_while_it_is_read_fails(images, nearest, monkeypatch, is_animation):
    path = images / "4.png"
    if is_animation:
        frames = [PILImage.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
        frames[0].save(path, save_all=True, append_images=frames[1:])
    real = image_steps.read_file

    def read_and_change(source, **options):
        content = real(source, **options)
        os.utime(source, (1, 1))
        return content

    monkeypatch.setattr(image_steps, "read_file", read_and_change)
    results = run(images, nearest)
    assert "4.png: changed while it was read; run again when" in results[0].error


def test_failed_write_leaves_no_file(images, nearest, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(os, "link", refuse)
    results = run(images, nearest)
    assert {result.status for result in results} == {Status.FAILED}
    assert list((images.parent / "out").rglob("*")) == []


@pytest.mark.parametrize("jobs", [1, 2, 4])
def test_interrupt_keeps_and_reports_complete_outputs(jobs, images, nearest):
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
def test_number_of_images_in_memory_is_limited(jobs, images, nearest, monkeypatch):
    alive, most = 0, 0
    lock = threading.Lock()
    read, write = local.load, local.store

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

    monkeypatch.setattr(local, "load", counted_read)
    monkeypatch.setattr(local, "store", counted_write)
    run(images, nearest, jobs=jobs)
    assert alive == 0
    assert most <= jobs + 1


def test_closed_standard_output_fails_the_image(images, nearest):
    source = images / "4.png"
    options = Options(output=OutputOptions(output="-"))
    plan = make_plan([str(source)], options, MODEL, lambda: b"")
    stdout = io.BytesIO()
    (result,) = run_batch(plan, options, {"cpu": nearest}, lambda event: None, stdout)
    assert result.output == "-"
    decoded = cv2.imdecode(np.frombuffer(stdout.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (6, 8, 3)

    class Closed(io.BytesIO):
        def write(self, data):
            raise BrokenPipeError(32, "Broken pipe")

    (result,) = run_batch(plan, options, {"cpu": nearest}, lambda event: None, Closed())
    assert result.status is Status.FAILED
    assert "standard output" in result.error


def factories(**upscalers):
    """Return factories by device, each for an upscaler that already exists."""
    return {device: (lambda upscaler=upscaler: upscaler) for device, upscaler in upscalers.items()}


@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_devices_share_the_images(jobs, images, nearest):
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

    results = run(images, factories(slow=slow, fast=fast), jobs=jobs, listener=listen)
    assert (len(slow.sizes), len(fast.sizes)) == (1, 4)
    assert order == [Path(result.input).name for result in results] == IMAGES
    for result in results:
        small, large = cv2.imread(result.input), cv2.imread(result.output)
        np.testing.assert_array_equal(large, small.repeat(2, 0).repeat(2, 1))


def test_events_name_their_device(images, nearest):
    events = []
    run(images, factories(one=nearest(), two=nearest()), listener=events.append)
    assert events[0] == Planned(5, 0, ("one", "two"), 5)
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
def test_failed_device_fails_only_its_image(error, images, nearest):
    dead, alive = nearest(None, error), nearest()
    results = run(images, {"cuda:1": lambda: dead, "cpu": lambda: alive})
    assert [result.status for result in results].count(Status.DONE) == 4
    assert len(alive.sizes) == 4
    (failed,) = [result for result in results if result.status is Status.FAILED]
    assert "cuda:1 has stopped working" in failed.error
    assert "internal" not in failed.error


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory\nCUDA kernel errors might be reported later",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_lack_of_memory_fails_the_image_and_keeps_the_device(message, images, nearest):
    only = nearest(6, RuntimeError(message))
    results = run(images, {"cuda:0": lambda: only})
    assert [result.status.value for result in results] == ["done"] * 2 + ["failed"] + ["done"] * 2
    assert "cuda:0: not enough memory for this image: close other programs" in results[2].error


@pytest.mark.parametrize("message", ["mat1 and mat2 shapes cannot be multiplied", "out of range"])
def test_other_runtime_errors_fail_the_image_and_keep_the_device(message, images, nearest):
    only = nearest(6, RuntimeError(message))
    results = run(images, {"cuda:0": lambda: only})
    assert [result.status.value for result in results] == ["done"] * 2 + ["failed"] + ["done"] * 2
    assert f"RuntimeError: {message}" in results[2].error
    assert len(only.sizes) == 4


def test_failure_of_the_last_device_fails_the_remaining_images(images, nearest):
    widths = []

    class Dying(nearest):
        def run(self, array, **options):
            widths.append(array.shape[1])
            if array.shape[1] == 6:
                raise RuntimeError("CUDA error: unspecified launch failure")
            return super().run(array, **options)

    results = run(images, Dying)
    assert widths == [4, 5, 6]
    assert [result.status.value for result in results] == ["done"] * 2 + ["failed"] * 3
    assert len({result.error for result in results[2:]}) == 1
    assert "--skip-existing" in results[4].error


def test_unusable_device_fails_all_images_before_the_start(images, nearest):
    def factory():
        raise DeviceError("there is no cuda:7: the last of 1 is cuda:0")

    good = nearest()
    results = run(images, {"cuda:0": lambda: good, "cuda:7": factory})
    assert {result.error for result in results} == {"there is no cuda:7: the last of 1 is cuda:0"}
    assert good.sizes == []


def test_no_more_devices_are_loaded_than_there_are_images(images, nearest):
    for name in IMAGES[1:]:
        (images / name).unlink()
    unneeded = {"cuda:1": lambda: pytest.fail("not needed")}
    (result,) = run(images, {"cuda:0": nearest} | unneeded)
    assert result.status is Status.DONE


@pytest.mark.parametrize("devices", [1, 2])
def test_interrupt_stops_computations(devices, images, nearest):
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


def test_stale_temporary_files_are_removed(images, nearest):
    out = images.parent / "out"
    out.mkdir()
    (out / ".upscale-0123456789abcdef.part").write_bytes(b"dead")
    with temporary_file(out) as (alive, _):
        run(images, nearest)
        assert {path.name for path in out.iterdir()} == {alive.name, *IMAGES}
