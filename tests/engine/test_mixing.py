from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from upscale.engine import mixing
from upscale.engine import temporary as temporary_files
from upscale.engine.loading import Model
from upscale.engine.mixing import MixedUpscaler
from upscale.engine.upscaler import Upscaler
from upscale.errors import UsageError
from upscale.models import RRDBSpec, SRVGGSpec

A = RRDBSpec(blocks=2, features=8, growth=4)
B = SRVGGSpec(4, features=8, convolutions=5)
HIGHEST = {np.uint8: 255, np.uint16: 65535, np.float32: 1}


class Constant(nn.Module):
    """A x2 network whose output has one value everywhere."""

    def __init__(self, value):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, x):
        return torch.ones_like(x).repeat(1, 1, 2, 2) * self.value


def constant(value, name="constant"):
    return Upscaler(Model(name, Constant(value), 2, 3, False, name), device="cpu")


def image(dtype=np.uint8, height=37, width=51, channels=3):
    values = np.random.default_rng(0).random((height, width, channels), np.float32)
    return (values * HIGHEST[dtype]).astype(dtype)


@pytest.fixture
def parts(random_model):
    def make(**options):
        return [
            (Upscaler(random_model(A, 1), device="cpu", **options), 0.3),
            (Upscaler(random_model(B, 2), device="cpu", **options), 0.7),
        ]

    return make


@pytest.mark.parametrize(("dtype", "expected"), [(np.uint8, 159), (np.uint16, 40959)])
def test_constants_give_their_weighted_mean(dtype, expected):
    mixed = MixedUpscaler([(constant(0.25), 0.25), (constant(0.75), 0.75)])
    result = mixed.run(image(dtype)).pixels
    assert result.dtype == dtype
    assert result.shape == (74, 102, 3)
    assert (result == expected).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("seamless", ["", "xy"])
@pytest.mark.parametrize("tta", [False, True])
def test_the_result_is_the_weighted_mean(parts, dtype, channels, seamless, tta):
    source = image(dtype, 19, 24, channels)
    both = parts(tta=tta)
    expected = sum(
        weight * upscaler.upscale(source, seamless=seamless).astype(np.float64)
        for upscaler, weight in both
    )
    result = MixedUpscaler(both).run(source, seamless=seamless).pixels
    assert result.dtype == dtype
    assert np.abs(result - expected).max() <= (1 if dtype != np.float32 else 1e-6)


def test_the_mean_is_rounded_once(parts):
    source = image()
    floats = MixedUpscaler(parts()).run(source.astype(np.float32) / 255).pixels
    result = MixedUpscaler(parts()).run(source).pixels
    assert np.array_equal(result, np.rint(floats * 255).astype(np.uint8))


@pytest.mark.parametrize("tile", [16, 32])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_tiles_do_not_change_the_result(parts, dtype, tile):
    source = image(dtype)
    whole = MixedUpscaler(parts(tile=0)).run(source, scale=2.5).pixels
    tiled = MixedUpscaler(parts(tile=tile)).run(source, scale=2.5).pixels
    assert np.abs(tiled.astype(np.float64) - whole).max() <= (1 if dtype != np.float32 else 1e-5)


def test_a_grey_image_without_a_channel_axis_keeps_its_shape(parts):
    result = MixedUpscaler(parts()).run(image()[..., 0], size=(60, 50))
    assert result.pixels.shape == (50, 60)
    assert result.report.resize == "x4 to 60x50, Lanczos"


def test_one_count_of_tiles_and_one_report(parts):
    steps = []
    mixed = MixedUpscaler(parts(tile=16))
    report = mixed.run(image(), progress=steps.append).report
    single = [upscaler.run(image()).report for upscaler, _ in parts(tile=16)]
    assert report.model == mixed.model_name == "random + random"
    assert report.tiles == sum(one.tiles for one in single) == len(steps)
    assert [step.done for step in steps] == list(range(1, len(steps) + 1))
    assert steps[-1].total == report.tiles
    assert (report.tile, report.tiling, report.precision) == (16, "exact", "fp32")
    assert (report.device, report.resize, report.model_scale) == ("cpu", None, 4)


def test_one_network_falls_back_to_fp32():
    overflowing = Model("large", Scaled(1e6), 2, 3, False, "large")
    mixed = MixedUpscaler(
        [(Upscaler(overflowing, device="cpu", precision="fp16"), 0.5), (constant(0.5), 0.5)]
    )
    result = mixed.run(np.full((8, 8, 3), 255, np.uint8))
    assert (result.pixels == 191).all()
    assert result.report.fp32_fallbacks > 0


class Scaled(nn.Module):
    """A x2 network that overflows fp16 on the way to an output of 1 for white."""

    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return ((x * self.factor) / self.factor).repeat(1, 1, 2, 2)


def test_a_tensor_gets_the_values_of_an_array(parts):
    source = image(np.float32)
    tensor = torch.from_numpy(source).permute(2, 0, 1)[None]
    for size in (None, (90, 70)):
        expected = MixedUpscaler(parts()).run(source, size=size).pixels.clip(0, 1)
        result = MixedUpscaler(parts()).run_tensor(tensor, size=size)[0].permute(1, 2, 0).numpy()
        assert result.shape == expected.shape
        assert np.abs(result - expected).max() < 1e-5


def test_all_networks_are_pinned_to_one_tile(parts):
    both = parts()
    tile = MixedUpscaler(both).resolve_tile(640, 480)
    assert [upscaler.resolve_tile(64, 48) for upscaler, _ in both] == [tile, tile]
    both = parts()
    assert MixedUpscaler(both).resolve_tile(640, 480, 48) == 48
    assert [upscaler.resolve_tile(640, 480) for upscaler, _ in both] == [48, 48]


def test_large_images_are_mixed_in_temporary_files(parts, monkeypatch):
    source = image()
    expected = MixedUpscaler(parts()).run(source, scale=2).pixels
    made = []

    def mapped(shape, dtype):
        made.append(shape)
        return temporary_files.mapped_array(shape, dtype)

    monkeypatch.setattr(mixing, "image_array", mapped)
    assert np.array_equal(MixedUpscaler(parts()).run(source, scale=2).pixels, expected)
    assert made == [(37, 51, 3), (74, 102, 3)]


def test_networks_of_other_scales_and_wrong_weights_are_rejected(parts):
    with pytest.raises(ValueError, match="scales"):
        MixedUpscaler([*parts(), (constant(0.5), 0.0)])
    with pytest.raises(ValueError, match="weights"):
        MixedUpscaler(parts()[:1])
    with pytest.raises(UsageError, match="positive"):
        MixedUpscaler(parts()).run(image(), scale=-1)
