"""Autotuning of layers: they are used if they are correct and faster than torch's."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from upscale import Upscaler
from upscale.engine import kernel_selection as module
from upscale.engine.kernel_selection import (
    NetworkOnDevice,
    SelectedGroups,
    autotune_groups,
    select_groups,
)
from upscale.kernels import KernelMissingError
from upscale.models import RRDBSpec, SRVGGSpec
from upscale.models.layers import torch_layer

CPU = torch.device("cpu")
SPECS = [RRDBSpec(blocks=1), RRDBSpec(blocks=1, unshuffle=2), SRVGGSpec(convolutions=5)]


@pytest.fixture
def on_device(random_model):
    def place(spec=SPECS[0], dtype=torch.float16):
        model = random_model(spec)
        channels = model.channels * model.unshuffle**2
        return NetworkOnDevice(model.network_on(CPU, dtype), channels, CPU, dtype)

    return place


@pytest.fixture
def coarse(monkeypatch):
    """Use coarse groups on a CPU, as on a GPU."""
    monkeypatch.setattr(
        NetworkOnDevice,
        "groups",
        lambda self, make=torch_layer: self.network.layer_groups(make=make),
    )


def stopwatch(*times):
    left = iter(times)

    def seconds(work):
        work()
        return next(left)

    return seconds


def rounded_once(layer):
    """Compute the layer in single precision: correct, but not bit for bit torch's result."""
    slope = layer.slope.float() if isinstance(layer.slope, torch.Tensor) else layer.slope
    convolution = copy.deepcopy(layer.convolution).float()
    run = torch_layer(replace(layer, convolution=convolution, slope=slope))

    def rounded(maps, residuals=(), target=None):
        result = run([x.float() for x in maps], [x.float() for x in residuals])
        result = result.to(maps[0].dtype)
        return result if target is None else target.copy_(result)

    return rounded


def faulty(fault, number):
    """Make correct layers except for one, whose result `fault` changes."""
    made = []

    def make(layer):
        run = torch_layer(layer)
        made.append(layer)
        if len(made) != number:
            return run

        def wrong(maps, residuals=(), target=None):
            result = fault(run(maps, residuals))
            return result if target is None else target.copy_(result)

        return wrong

    return make


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.describe())
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_correct_and_faster_layers_are_used(on_device, coarse, spec, dtype):
    selected = autotune_groups(
        on_device(spec, dtype), rounded_once, "fast", stopwatch(2.0, 1.0), side=32
    )
    assert (selected.kernels, selected.reason) == ("fast", None)
    assert [group.name for group in selected.groups] == [
        group.name for group in on_device(spec, dtype).groups()
    ]


@pytest.mark.parametrize("times", [(1.0, 1.0), (1.0, 2.0), (1.0, float("nan"))])
def test_layers_that_are_not_faster_are_rejected(on_device, coarse, times):
    with pytest.raises(KernelMissingError, match=r"not faster here: .* ms, torch 1000.0 ms"):
        autotune_groups(on_device(), rounded_once, "fast", stopwatch(*times), side=32)


FAULTS = {
    "shifted": lambda x: x.roll(1, 3),
    "channels": lambda x: x.roll(1, 1),
    "not a number": lambda x: x * torch.nan,
    "louder": lambda x: x * 1.2,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(1, 13))
def test_one_wrong_layer_rejects_all(on_device, coarse, fault, number):
    """13 layers: the first, a block of an RRDB, and so on; the last blocks are like the first."""
    with pytest.raises(KernelMissingError, match=r"differs from torch in group (first|block 0)"):
        autotune_groups(
            on_device(), faulty(FAULTS[fault], number), "fast", stopwatch(2.0, 1.0), side=32
        )


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(17, 23))
def test_one_wrong_layer_of_the_tail_rejects_all(on_device, coarse, fault, number):
    with pytest.raises(KernelMissingError, match="differs from torch in group tail"):
        autotune_groups(
            on_device(), faulty(FAULTS[fault], number), "fast", stopwatch(2.0, 1.0), side=32
        )


def test_layers_that_fail_are_rejected(on_device, coarse):
    def make(layer):
        raise RuntimeError("no such instruction")

    with pytest.raises(KernelMissingError, match="fast failed: no such instruction"):
        autotune_groups(on_device(), make, "fast", stopwatch(2.0, 1.0), side=32)


def test_torch_is_the_fallback_and_the_reason_is_reported(on_device, monkeypatch):
    def none(_):
        raise KernelMissingError("too old")

    monkeypatch.setattr(module, "_for_cpu", none)
    selected = select_groups(on_device(), kernels=True)
    assert (selected.kernels, selected.reason) == ("torch", "too old")
    assert select_groups(on_device(), kernels=False).reason is None


def test_an_upscaler_uses_and_names_the_fastest_kernels(random_model, monkeypatch, coarse):
    def find(network, *, kernels):
        if not kernels or network.dtype == torch.float32:
            return SelectedGroups(network.groups())
        return autotune_groups(network, rounded_once, "fast", stopwatch(2.0, 1.0), side=32)

    monkeypatch.setattr("upscale.engine.tile_runner.select_groups", find)
    model = random_model(SPECS[0])
    image = np.random.default_rng(0).integers(60, 190, (40, 30, 3), np.uint8)
    fast = Upscaler(model, device="cpu", precision="fp16", tile=16)
    plain = Upscaler(model, device="cpu", precision="fp16", tile=16, kernels=False)
    assert (fast.kernels_name, plain.kernels_name) == ("fast", "torch")
    levels = np.abs(fast.upscale(image).astype(int) - plain.upscale(image))
    assert levels.max() <= 1
