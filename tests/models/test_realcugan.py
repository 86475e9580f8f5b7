"""Real-CUGAN compared with an implementation that pads nothing, as its authors' does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import cases
from tests.tiling.test_exact import CountingStore, run_exact, wrapped
from upscale import Upscaler
from upscale.engine.loading import Model
from upscale.models import RealCUGANSpec, UnknownArchitectureError, build, detect
from upscale.tiling.schedule import plan

X2, X4 = RealCUGANSpec(2, features=8), RealCUGANSpec(4, features=16)
SPECS = [X2, X4, replace(X2, pro=True), replace(X4, pro=True)]
CUT = {2: 18, 4: 19}
"""Image pixels that the convolutions cut off on each side."""


def reflected(image, before, after):
    """Continue a (1, C, H, W) image by reflection, also by more than its size."""
    sides = [(0, 0), (0, 0), (before, after[0]), (before, after[1])]
    return torch.from_numpy(np.pad(image.numpy(), sides, mode="reflect"))


class Reference:
    """The two U-Nets of a state dict, layer by layer, without padding."""

    def __init__(self, state, scale):
        self.state, self.scale = state, scale

    def layer(self, name, x, function=F.conv2d, slope=0.1, **options):
        weight, bias = (self.state[f"{name}.{kind}"] for kind in ("weight", "bias"))
        return F.leaky_relu(function(x, weight, bias, **options), slope)

    def pair(self, name, x):
        x = self.layer(f"{name}.conv.2", self.layer(f"{name}.conv.0", x))
        if f"{name}.seblock.conv1.weight" not in self.state:
            return x
        squeezed = self.layer(f"{name}.seblock.conv1", x.mean((2, 3), keepdim=True), slope=0)
        return x * torch.sigmoid(self.layer(f"{name}.seblock.conv2", squeezed, slope=1))

    def down(self, name, x):
        return self.layer(name, x, stride=2)

    def up(self, name, x):
        return self.layer(name, x, F.conv_transpose2d, stride=2)

    def small(self, x):
        wide = self.pair("unet1.conv1", x)
        deep = self.pair("unet1.conv2", self.down("unet1.conv1_down", wide))
        x = F.pad(wide, [-4] * 4) + self.up("unet1.conv2_up", deep)
        x = self.layer("unet1.conv3", x)
        return self.layer("unet1.conv_bottom", x, F.conv_transpose2d, 1, stride=2, padding=3)

    def large(self, x):
        wide = self.pair("unet2.conv1", x)
        middle = self.pair("unet2.conv2", self.down("unet2.conv1_down", wide))
        deep = self.pair("unet2.conv3", self.down("unet2.conv2_down", middle))
        x = F.pad(middle, [-4] * 4) + self.up("unet2.conv3_up", deep)
        x = F.pad(wide, [-16] * 4) + self.up("unet2.conv4_up", self.pair("unet2.conv4", x))
        return self.layer("unet2.conv_bottom", self.layer("unet2.conv5", x), slope=1)

    def __call__(self, image):
        pro = "pro" in self.state
        image = image * 0.7 + 0.15 if pro else image
        height, width = image.shape[2:]
        cut = CUT[self.scale]
        doubled = self.small(reflected(image, cut, [cut + side % 2 for side in (height, width)]))
        result = F.pad(doubled, [-20] * 4) + self.large(doubled)
        if self.scale == 4:
            result = F.pixel_shuffle(self.layer("conv_final", result, slope=1), 2)
            result = F.pad(result, [-2] * 4) if result.shape[2] > 4 * height + 3 else result
        result = result[:, :, : self.scale * height, : self.scale * width]
        if self.scale == 4:
            result = result + image.repeat_interleave(4, 2).repeat_interleave(4, 3)
        return (result - 0.15) / 0.7 if pro else result


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.describe())
@pytest.mark.parametrize("size", [(1, 1), (1, 4), (5, 3), (24, 31), (26, 20)])
def test_a_checkpoint_gives_the_output_of_unpadded_layers(random_network, spec, size):
    network = random_network(spec)
    detected = detect(network.state_dict())
    assert detected.spec == spec
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        expected = Reference(network.state_dict(), spec.scale)(image)
        output = build(detected.spec, detected.state)(image)
    assert output.shape == expected.shape == (1, 3, spec.scale * size[0], spec.scale * size[1])
    assert (output - expected).abs().max() < 1e-5 * max(1, expected.abs().max())


@settings(max_examples=cases(20))
@given(
    spec=st.sampled_from(SPECS),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    tile=st.integers(4, 40),
    batch=st.sampled_from([1, 3]),
    seed=st.integers(0, 1000),
)
def test_tiled_output_equals_untiled_output(random_network, spec, height, width, tile, batch, seed):
    network = random_network(spec, seed)
    image = torch.rand(1, 3, height, width)
    margin = 2 * network.margin
    extended = reflected(image, margin, [margin + side % 2 for side in (height, width)])
    canvas, run = run_exact(network, extended, tile, batch=batch, smallest=4)
    start, whole = margin * spec.scale, network(image)
    result = canvas.result[:, :, start:, start:][:, :, : whole.shape[2], : whole.shape[3]]
    assert (result - whole).abs().max() < 1e-4 * max(1, whole.abs().max())
    assert run.stats.done == run.stats.total


@pytest.mark.parametrize("spec", [X2, X4], ids=str)
def test_the_mean_does_not_depend_on_the_tiles(random_network, spec):
    network, seen = random_network(spec), {}

    def noting(index, group, inputs):
        for number, mean in enumerate(inputs[len(group.sources) :]):
            assert (mean - seen.setdefault((index, number), mean)).abs().max() < 1e-5
        return group.run(inputs)

    image = torch.rand(1, 3, 48, 42)
    for tile in (8, 40):
        run_exact(network, image, tile, smallest=4, groups=wrapped(network, noting))
    assert {mean.shape[1] // spec.features for mean in seen.values()} == {1, 2, 4, 8}


@pytest.mark.parametrize("spec", [X2, X4], ids=str)
@pytest.mark.parametrize("size", [(23, 31), (2, 1)])
def test_an_image_is_computed_through_the_engine(random_network, spec, size):
    network = random_network(spec)
    image = np.random.default_rng(0).random((*size, 3), np.float32)
    upscaler = Upscaler(Model.from_network("small", network), device="cpu", keep_colour=False)
    result = upscaler.run(image)
    assert result.report.tiling == "exact"
    with torch.inference_mode():
        expected = network(torch.from_numpy(image.transpose(2, 0, 1)[None]))[0].clamp(0, 1)
    assert np.abs(result.pixels - expected.permute(1, 2, 0).numpy()).max() < 1e-5


@pytest.mark.parametrize("seamless", ["xy", "y"])
def test_an_image_that_repeats_stays_seamless(random_network, seamless):
    """The result is that of the image with the same content around it."""
    network = random_network(X2)
    image = np.random.default_rng(1).random((26, 22, 3), np.float32)
    model = Model.from_network("small", network)
    upscaler = Upscaler(model, device="cpu", keep_colour=False)
    result = upscaler.run(image, seamless=seamless).pixels
    rows, columns = ("wrap" if axis in seamless else "reflect" for axis in "yx")
    extended = np.pad(image, [(18, 18), (0, 0), (0, 0)], rows)
    extended = np.pad(extended, [(0, 0), (18, 18), (0, 0)], columns)
    canvas, _ = run_exact(network, torch.from_numpy(extended.transpose(2, 0, 1)[None].copy()), 99)
    expected = canvas.result[0, :, 36:-36, 36:-36].clamp(0, 1).permute(1, 2, 0).numpy()
    assert np.abs(result - expected).max() < 1e-5


def test_no_more_values_are_held_than_planned(random_network):
    network, store = random_network(X2), CountingStore()
    run_exact(network, torch.rand(1, 3, 320, 40), 12, store, smallest=4)
    planned = plan(network.layer_groups(), 160, 20 + 2, 12).feature_maps
    assert 0.7 * planned < store.most <= planned
    assert planned < 1.3 * 160 * 20 * 15 * 8, "15 values per feature pixel and feature"


def test_other_members_of_the_family_are_left_to_others(random_network):
    state = random_network(X2).state_dict()
    kernel = torch.zeros(8, 3, 5, 5)
    with pytest.raises(UnknownArchitectureError, match="not those of"):
        detect({**state, "unet1.conv_bottom.weight": kernel})  # x3
    fast = torch.zeros(4, 12, 3, 3)
    with pytest.raises(UnknownArchitectureError, match="not those of"):
        detect({**random_network(X4).state_dict(), "unet1.conv1.conv.0.weight": fast})


@pytest.mark.parametrize(
    "options", [{"scale": 3}, {"features": 12}, {"in_channels": 1, "out_channels": 3}]
)
def test_impossible_hyper_parameters_are_refused(options):
    with pytest.raises(ValueError):
        RealCUGANSpec(**options)


def test_the_published_network_has_the_published_size():
    with torch.device("meta"):
        networks = [build(RealCUGANSpec(scale)) for scale in (2, 4)]
    counts = [sum(tensor.numel() for tensor in network.parameters()) for network in networks]
    assert counts == [1_284_598, 1_406_812]
