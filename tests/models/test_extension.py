"""An architecture added from outside the package: one module that calls `register`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import upscale
from upscale.checkpoints import write_safetensors
from upscale.engine.upscaler import OVERLAP
from upscale.errors import CheckpointError
from upscale.models import (
    IMAGE,
    Architecture,
    Detected,
    LayerGroup,
    Network,
    UnfitStateError,
    architecture_of,
    architectures,
    detect,
    register,
    unregister,
)


@dataclass(frozen=True)
class ToySpec:
    features: int = 6
    scale: int = 2
    in_channels: int = 3
    out_channels: int = 3

    def describe(self) -> str:
        return f"Toy x{self.scale}, {self.features} features"


class ToyNet(Network[ToySpec]):
    """Two convolutions and a pixel-shuffle."""

    def __init__(self, spec):
        super().__init__(spec)
        self.enter = nn.Conv2d(spec.in_channels, spec.features, 3, padding=1)
        self.leave = nn.Conv2d(spec.features, spec.out_channels * spec.scale**2, 3, padding=1)

    def forward(self, x):
        return F.pixel_shuffle(self.leave(F.relu(self.enter(x))), self.scale)


class GroupedToyNet(ToyNet):
    def layer_groups(self, *, fine=False, make=None):
        spec = self.spec
        workspace = 3 + 2 * spec.features + 24
        return (
            LayerGroup("enter", (IMAGE,), 1, 1, spec.features, workspace,
                       lambda sources: F.relu(self.enter(sources[0]))),
            LayerGroup("leave", (0,), 1, spec.scale, 3, workspace,
                       lambda sources: F.pixel_shuffle(self.leave(sources[0]), spec.scale)),
        )  # fmt: skip


def recognise(state):
    if "enter.weight" not in state:
        return None
    return Detected(ToySpec(state["enter.weight"].shape[0]), dict(state))


@pytest.fixture(params=[GroupedToyNet, ToyNet], ids=["exact", "blended"])
def toy(request):
    """A registered toy architecture, with and without layer groups."""
    register(Architecture("toy", "ToyNet", ToySpec, request.param, recognise))
    yield request.param
    unregister("toy")


@pytest.fixture
def checkpoint(toy, tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "toy.safetensors"
    write_safetensors(toy(ToySpec()).state_dict(), path, {})
    return path


def test_a_checkpoint_of_an_external_architecture_is_upscaled_in_tiles(toy, checkpoint):
    image = np.random.default_rng(0).random((75, 83, 3), np.float32)
    model = upscale.load_model(checkpoint)
    assert (model.description, model.scale, model.channels) == ("Toy x2, 6 features", 2, 3)
    assert isinstance(model.network, toy)
    tiled = upscale.Upscaler(checkpoint, device="cpu", tile=16).run(image)
    whole = upscale.Upscaler(model, device="cpu", tile=0).upscale(image)
    assert tiled.pixels.shape == (150, 166, 3) and tiled.report.tiles > 1
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(image).permute(2, 0, 1)[None]).clamp(0, 1)
    assert np.abs(whole - expected[0].permute(1, 2, 0).numpy()).max() < 1e-5
    if toy is GroupedToyNet:
        assert tiled.report.tiling == "exact" and model.supports_exact_tiling
        assert np.abs(tiled.pixels - whole).max() < 1e-5
    else:
        assert tiled.report.tiling == f"blended, overlap {OVERLAP} px"


def test_the_registry_lists_it_until_it_is_unregistered(toy):
    assert [each.name for each in architectures()] == [
        "rcan",
        "realcugan",
        "realplksr",
        "rrdbnet",
        "span",
        "srvgg",
        "toy",
    ]
    assert architecture_of(ToySpec()).title == "ToyNet"
    with pytest.raises(ValueError, match="already registered"):
        register(architecture_of(ToySpec()))
    unregister("toy")
    with pytest.raises(KeyError, match="ToySpec"):
        architecture_of(ToySpec())
    register(Architecture("toy", "ToyNet", ToySpec, toy, recognise))


def test_names_and_shapes_of_its_tensors_are_checked(toy):
    state = toy(ToySpec()).state_dict()
    with pytest.raises(UnfitStateError, match=r"leave\.bias is missing \(Toy x2"):
        detect({key: value for key, value in state.items() if key != "leave.bias"})
    with pytest.raises(UnfitStateError, match=r"leave\.weight has shape"):
        detect(state | {"leave.weight": torch.zeros(12, 7, 3, 3)})


def test_an_architecture_that_fits_wins_over_an_earlier_one_that_does_not(toy):
    """Its tensors include all that SRVGGNetCompact is recognised by."""
    prelu = {"body.0.weight": torch.zeros(8, 3, 3, 3), "body.1.weight": torch.zeros(8)}
    last = {"body.2.weight": torch.zeros(12, 8, 3, 3), "body.2.bias": torch.zeros(12)}
    state = toy(ToySpec()).state_dict() | prelu | {"body.0.bias": torch.zeros(8)} | last

    class Both(ToyNet):
        def __init__(self, spec):
            super().__init__(spec)
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.Conv2d(8, 12, 3))

    unregister("toy")
    with pytest.raises(CheckpointError, match="does not belong to SRVGGNetCompact"):
        detect(state)
    register(Architecture("toy", "ToyNet", ToySpec, Both, recognise))
    assert detect(state).spec == ToySpec()


def test_recipes_know_built_in_architectures_by_their_registered_names():
    from upscale_training.recipe.settings import NETWORKS

    own = {name: settings for name, settings in NETWORKS.items() if name != "spandrel"}
    assert {name: architecture_of(settings().spec).name for name, settings in own.items()} == {
        name: name for name in (architecture.name for architecture in architectures())
    }
