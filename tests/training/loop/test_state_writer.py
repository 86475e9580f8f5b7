"""States that a thread writes while training continues, on disks that are slow or full."""

from __future__ import annotations

import os
import shutil
import signal
import threading

import pytest
import torch
import upscale_training.loop.stage as stage_module
from upscale_training.loop import Saved, StageStarted, Stepped, state_writer, train
from upscale_training.loop.state import saved_states
from upscale_training.loop.state_writer import to_cpu
from upscale_training.recipe import (
    DegradationRecipe,
    OptimiserSettings,
    SavingSettings,
    SRVGGSettings,
    Stage,
)

from tests.training.loop.runs import check_same, collected, longer, one_stage
from upscale.errors import OutputError, TrainingError

TIMEOUT = 60
"""Seconds after which a disk that waits in vain gives up, so that a failing test ends."""


@pytest.fixture
def disk(monkeypatch):
    """A disk whose files are complete only when `free` is set; `busy` says that it writes."""
    return Disk(monkeypatch)


class Disk:
    def __init__(self, monkeypatch):
        self.free, self.busy = threading.Event(), threading.Event()
        self.writers, self.most_writers = 0, 0
        self._write = state_writer._write_part
        monkeypatch.setattr(state_writer, "_write_part", self.write)

    def write(self, path, content):
        self.writers += 1
        self.most_writers = max(self.most_writers, self.writers)
        path.write_bytes(b"half of a file")
        self.busy.set()
        assert self.free.wait(TIMEOUT)
        self._write(path, content)
        self.writers -= 1


def recipe(images, iterations=6, every=3):
    stage = Stage("psnr", iterations, OptimiserSettings(1e-3), batch=1, ema=0.9)
    network = SRVGGSettings(features=4, convolutions=1)
    saving, degradation = SavingSettings(every=every), DegradationRecipe("classical", pool=0)
    return one_stage(images, stage, network=network, saving=saving, degradation=degradation)


def states(folder):
    return saved_states(folder / "states" / "psnr")


def test_training_continues_while_a_slow_disk_writes_and_states_are_those_of_a_fast_one(
    images, tmp_path, disk
):
    done, saved = [], {}

    def listen(event) -> None:
        if isinstance(event, Stepped):
            done.append(event.step)
            if event.step == 5:
                assert disk.busy.is_set() and not disk.free.is_set()
                disk.free.set()
        elif isinstance(event, Saved):
            saved[event.step] = done[-1]

    train(recipe(images), tmp_path / "slow", device="cpu", events=listen)
    assert saved[3] >= 5, "two iterations were made before the state was complete"
    assert list(saved) == [3, 6]
    train(recipe(images), tmp_path / "fast", device="cpu")
    for slow, fast in zip(states(tmp_path / "slow"), states(tmp_path / "fast"), strict=True):
        check_same(slow.common(), fast.common())
        check_same(slow.own(0), fast.own(0))
        assert slow.weights.read_bytes() == fast.weights.read_bytes()


def test_one_state_is_written_at_a_time(images, tmp_path, disk):
    disk.free.set()
    events = collected(recipe(images, every=1), tmp_path / "run")
    assert [event.step for event in events if isinstance(event, Saved)] == [1, 2, 3, 4, 5, 6]
    assert disk.most_writers == 1


def test_a_run_that_dies_during_a_write_resumes_from_the_state_before(images, tmp_path, disk):
    def listen(event) -> None:
        if isinstance(event, Saved) and event.step == 1:
            disk.free.clear()
            disk.busy.clear()
        if isinstance(event, Stepped) and event.step == 3:
            assert disk.busy.wait(TIMEOUT)
            shutil.copytree(tmp_path / "run", tmp_path / "dead")  # what a kill leaves
            disk.free.set()

    disk.free.set()
    train(recipe(images, 3, every=1), tmp_path / "run", device="cpu", events=listen)
    assert [each.info.step for each in states(tmp_path / "dead")] == [1]
    assert list((tmp_path / "dead" / "states" / "psnr").glob(".*"))
    assert StageStarted("psnr", 1, 3) in collected(recipe(images, 3), tmp_path / "dead")
    assert not list((tmp_path / "dead" / "states" / "psnr").glob(".*"))
    check_same(states(tmp_path / "dead")[-1].common(), states(tmp_path / "run")[-1].common())


@pytest.mark.parametrize("fails_in", ["thread", "folder"])
def test_a_full_disk_ends_the_run_at_the_next_save_and_the_state_before_stays(
    images, tmp_path, monkeypatch, fails_in
):
    train(recipe(images, 1, every=1), tmp_path / "run", device="cpu")
    steps = []

    def full(*_):
        raise OSError(28, os.strerror(28))

    if fails_in == "thread":
        monkeypatch.setattr(state_writer, "_write_part", full)
    else:
        monkeypatch.setattr(state_writer.StateWriter, "_prepare", full)

    def listen(event) -> None:
        if isinstance(event, Stepped):
            steps.append(event.step)

    with pytest.raises(OutputError, match=r"00000002: cannot be saved \(No space left"):
        train(recipe(images, 9, every=1), tmp_path / "run", device="cpu", events=listen)
    assert steps in ([2], [2, 3])
    assert [each.info.step for each in states(tmp_path / "run")] == [1]
    assert not list((tmp_path / "run" / "states" / "psnr").glob(".*"))


def test_an_error_that_is_not_the_disk_s_is_raised_as_it_is(images, tmp_path, monkeypatch):
    def wrong(*_):
        raise ZeroDivisionError("a mistake")

    monkeypatch.setattr(state_writer, "_write_part", wrong)
    with pytest.raises(ZeroDivisionError, match="a mistake"):
        train(recipe(images, 1), tmp_path / "run", device="cpu")
    assert states(tmp_path / "run") == []


def test_an_interrupt_waits_until_its_state_is_complete(images, tmp_path, disk):
    def listen(event) -> None:
        if isinstance(event, Stepped) and event.step == 2:
            signal.raise_signal(signal.SIGINT)
            threading.Timer(0.2, disk.free.set).start()

    # A program in the background of a script ignores SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(recipe(images), tmp_path / "run", device="cpu", events=listen)
    finally:
        signal.signal(signal.SIGINT, before)
    assert [each.info.step for each in states(tmp_path / "run")] == [2]


def test_a_state_that_is_being_written_survives_an_error_of_training(images, tmp_path, disk):
    class CrashError(Exception):
        pass

    def listen(event) -> None:
        if isinstance(event, Stepped) and event.step == 4:
            disk.free.set()
            raise CrashError

    with pytest.raises(CrashError):
        train(recipe(images), tmp_path / "run", device="cpu", events=listen)
    assert [each.info.step for each in states(tmp_path / "run")] == [3]
    assert StageStarted("psnr", 3, 7) in collected(longer(recipe(images), 0, 7), tmp_path / "run")


def test_a_failed_run_waits_for_the_state_to_start_from(images, tmp_path, monkeypatch, disk):
    iterate = stage_module.StageRun._iterate

    def poison(self) -> None:
        iterate(self)
        if self._done == 2:
            next(self._networks.generator.network.parameters()).data[0] = float("nan")
            threading.Timer(0.3, disk.free.set).start()

    monkeypatch.setattr(stage_module.StageRun, "_iterate", poison)
    with pytest.raises(TrainingError, match=r"00000001.ema\.safetensors as start"):
        train(recipe(images, every=1), tmp_path / "run", device="cpu")


def test_a_copy_in_cpu_memory_shares_nothing_and_keeps_layouts():
    weight = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    state = {"a": [weight, {"b": (weight[0], 3)}], "c": None}
    copy = to_cpu(state)
    expected = weight.clone()
    weight.zero_()
    assert torch.equal(copy["a"][0], expected)
    assert torch.equal(copy["a"][1]["b"][0], expected[0])
    assert copy["a"][0].is_contiguous(memory_format=torch.channels_last)
    assert copy["a"][1]["b"][1] == 3 and copy["c"] is None
