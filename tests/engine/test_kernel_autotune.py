"""Kernels of a GPU in networks: the layers of their verdicts, if the groups agree with torch's."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.kernels.standins import card, stand_in_kernels
from upscale.engine import kernel_selection as module
from upscale.engine.kernel_selection import (
    NetworkOnDevice,
    SelectedGroups,
    groups_with_kernels,
    select_groups,
)
from upscale.engine.upscaler import Upscaler
from upscale.kernels import KernelMissingError, triton_conv
from upscale.kernels.tile_configs import ONE_ROW, TWO_ROWS
from upscale.kernels.trial import TORCH_IS_FASTER
from upscale.kernels.verdicts import Verdict
from upscale.models import RRDBSpec, SRVGGSpec
from upscale.models.layers import torch_layer

CPU, CARD, CONFIG = torch.device("cpu"), card(), ONE_ROW[0]
SPECS = [RRDBSpec(blocks=1), RRDBSpec(blocks=1, unshuffle=2), SRVGGSpec(convolutions=5)]


@pytest.fixture(autouse=True)
def triton(monkeypatch):
    """Stand in for an installed Triton."""
    monkeypatch.setattr(triton_conv, "triton_version", lambda: "3")


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


def found(config):
    """Return a function that finds the same tile config, or the same reason, for every shape."""
    verdict = Verdict(None, config) if isinstance(config, str) else Verdict(config)
    return lambda card, shapes: dict.fromkeys(shapes, verdict)


def with_kernels(network, *, fault=lambda x: x, config=CONFIG, known=None):
    """Return the groups with stand-ins for the kernels."""
    return groups_with_kernels(
        network, CARD, stand_in_kernels(fault), found(config), known=known or {}, side=32
    )


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.describe())
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("config", [ONE_ROW[0], TWO_ROWS])
def test_kernels_compute_the_layers_of_their_verdicts(on_device, coarse, spec, dtype, config):
    selected = with_kernels(on_device(spec, dtype), config=config)
    assert (selected.kernels, selected.reason) == ("Triton 3", None)
    assert [group.name for group in selected.groups] == [
        group.name for group in on_device(spec, dtype).groups()
    ]
    kernels = selected.use.kernels
    launched, other = (kernels.one_row, kernels.two_rows)[:: 3 - 2 * config.rows]
    assert launched.launches and not other.launches
    assert selected.use.used == selected.use.shapes


def test_torch_computes_layers_where_it_is_faster(on_device, coarse):
    def find(card, shapes):
        return {
            shape: Verdict(None, TORCH_IS_FASTER) if shape.outputs == 3 else Verdict(CONFIG)
            for shape in shapes
        }

    kernels = stand_in_kernels()
    selected = groups_with_kernels(on_device(), CARD, kernels, find, known={}, side=32)
    assert {each["outputs"] for each in kernels.one_row.launches} == {32, 64}
    count = len(selected.use.shapes)
    assert selected.kernels == "Triton 3"
    assert selected.reason == f"torch computes 1 of {count} layer shapes: torch is faster"


@pytest.mark.parametrize("reason", [TORCH_IS_FASTER, "Failed to find C compiler"])
def test_kernels_that_never_ran_are_not_named(on_device, coarse, reason):
    selected = with_kernels(on_device(), config=reason)
    count = len(selected.use.shapes)
    assert selected.kernels == "torch"
    assert selected.reason == f"torch computes {count} of {count} layer shapes: {reason}"


def test_kernels_that_fail_here_although_they_ran_in_the_trial_are_not_named(on_device, coarse):
    def fails(_):
        raise RuntimeError("no such file: libcuda.so")

    selected = with_kernels(on_device(), fault=fails)
    assert selected.kernels == "torch"
    assert "layer shapes: no such file: libcuda.so" in selected.reason


FAULTS = {
    "shifted": lambda x: x.roll(1, 3),
    "channels": lambda x: x.roll(1, 1),
    "not a number": lambda x: x * torch.nan,
    "louder": lambda x: x * 1.2,
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("channels", "groups"),
    [((3, 0), "first"), ((64, 0), "block 0"), ((64, 96), "block 0"), ((64, 128), "block 0")],
)
def test_one_wrong_layer_rejects_all(on_device, coarse, fault, channels, groups):
    def find(card, shapes):
        assert any(shape.channels == channels for shape in shapes)
        return {
            shape: Verdict(CONFIG) if shape.channels == channels else Verdict(None, "faster")
            for shape in shapes
        }

    kernels = stand_in_kernels(FAULTS[fault])
    with pytest.raises(KernelMissingError, match=f"differ from torch in group {groups}"):
        groups_with_kernels(on_device(), CARD, kernels, find, known={}, side=32)


def test_a_trial_that_fails_leaves_torch(on_device, coarse):
    def find(card, shapes):
        raise RuntimeError("no such instruction")

    with pytest.raises(KernelMissingError, match="the kernels failed: no such instruction"):
        groups_with_kernels(on_device(), CARD, stand_in_kernels(), find, known={}, side=32)


def test_out_of_memory_is_left_to_the_engine(on_device, coarse):
    """It frees memory and selects again; a verdict for torch would last."""

    def fails(_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        with_kernels(on_device(), fault=fails)


def test_verdicts_of_an_earlier_run_are_kept(on_device, coarse):
    first = with_kernels(on_device(), config=TWO_ROWS)
    record = json.loads(json.dumps(first.record))
    again = with_kernels(on_device(), config=TORCH_IS_FASTER, known=record)
    assert again.kernels == "Triton 3" and again.record == record
    assert again.use.kernels.two_rows.launches
    elsewhere = groups_with_kernels(
        on_device(), card(8, 6), stand_in_kernels(), found(CONFIG), known=record, side=32
    )
    assert elsewhere.use.kernels.one_row.launches and not elsewhere.use.kernels.two_rows.launches
    assert len(elsewhere.record) == 2 and elsewhere.record.items() >= record.items()


def test_available_kernels_do_not_depend_on_times(monkeypatch):
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    facts = SimpleNamespace(name="A card", shared_memory_per_block_optin=1 << 17)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: facts)
    assert module.available_kernels(device, torch.float16) == "Triton 3"
    assert module.available_kernels(device, torch.float32) == "torch"
    assert module.available_kernels(torch.device("mps"), torch.float16) == "torch"


@pytest.fixture
def on_a_gpu(monkeypatch, coarse):
    """Select for a CPU as for a GPU, with stand-ins and the verdicts of `choose`."""
    choose = {"config": TWO_ROWS}

    def for_cpu(network, known):
        return with_kernels(network, config=choose["config"], known=known)

    real = module.select_groups

    def select(network, *, kernels, known):
        if network.dtype == torch.float32:
            return SelectedGroups(network.groups())
        monkeypatch.setattr(module, "_for_cpu", lambda network: for_cpu(network, known))
        return real(network, kernels=kernels, known=known)

    monkeypatch.setattr("upscale.engine.tile_runner.select_groups", select)
    return choose


def test_an_upscaler_uses_and_names_the_kernels(random_model, on_a_gpu):
    model = random_model(SPECS[0])
    image = np.random.default_rng(0).integers(60, 190, (40, 30, 3), np.uint8)
    fast = Upscaler(model, device="cpu", precision="fp16", tile=16)
    plain = Upscaler(model, device="cpu", precision="fp16", tile=16, kernels=False)
    assert (fast.kernels_name, plain.kernels_name) == ("Triton 3", "torch")
    result = fast.run(image)
    levels = np.abs(result.pixels.astype(int) - plain.upscale(image))
    assert levels.max() <= 1
    assert result.report.convolutions == "Triton 3"


def test_the_report_gives_the_reason_for_torch(random_model, on_a_gpu):
    on_a_gpu["config"] = "Failed to find C compiler"
    upscaler = Upscaler(random_model(SPECS[0]), device="cpu", precision="fp16")
    report = upscaler.run(np.zeros((8, 8, 3), np.uint8)).report
    assert report.convolutions.startswith("torch (torch computes ")
    assert report.convolutions.endswith(" layer shapes: Failed to find C compiler)")


def test_a_resumed_run_gets_the_kernels_that_it_began_with(random_model, on_a_gpu):
    model, image = random_model(SPECS[0]), torch.rand(1, 3, 20, 30)
    first = Upscaler(model, device="cpu", precision="fp16", tile=0)
    record = json.loads(json.dumps(first.resolve_kernels()))
    began = first.run_tensor(image)
    on_a_gpu["config"] = TORCH_IS_FASTER  # the times of the second run
    plain = Upscaler(model, device="cpu", precision="fp16", tile=0)
    assert not torch.equal(plain.run_tensor(image), began)
    again = Upscaler(model, device="cpu", precision="fp16", tile=0)
    assert again.resolve_kernels(record) == record
    assert torch.equal(again.run_tensor(image), began)
    assert again.available_kernels == first.available_kernels == plain.available_kernels


def test_torch_is_the_fallback_and_the_reason_is_reported(on_device, monkeypatch):
    def none(_):
        raise KernelMissingError("too old")

    monkeypatch.setattr(module, "_for_cpu", none)
    selected = select_groups(on_device(), kernels=True, known={})
    assert (selected.kernels, selected.reason) == ("torch", "too old")
    assert select_groups(on_device(), kernels=False, known={}).reason is None
