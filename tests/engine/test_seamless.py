"""Images that repeat: `Upscaler.run(seamless=...)`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import cases
from tests.engine.test_upscaler import X1, X2, X4, random_image, whole_image
from upscale.engine.feature_maps import FeatureMaps
from upscale.engine.loading import Model
from upscale.engine.upscaler import Upscaler
from upscale.models import SRVGGSpec

SRVGG = SRVGGSpec(3, features=8, convolutions=6)


def middle(image, copies=3, seamless="xy"):
    """Return a function that cuts the middle copy out of the result for a repeated image."""
    down, across = (copies if axis in seamless else 1 for axis in "yx")
    large = np.tile(image, (down, across, 1))

    def cut(result):
        height, width = result.shape[0] // down, result.shape[1] // across
        top, left = down // 2 * height, across // 2 * width
        return result[top : top + height, left : left + width]

    return large, cut


@settings(max_examples=cases(30))
@given(
    spec=st.sampled_from([X4, X2, X1, SRVGG]),
    height=st.integers(6, 12),
    width=st.integers(6, 12),
    seamless=st.sampled_from(["x", "y", "xy"]),
    tile=st.sampled_from([0, 16, 23, 40]),
    kernels=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_result_is_the_middle_of_a_repeated_image(
    random_model, spec, height, width, seamless, tile, kernels, seed
):
    model, side = random_model(spec, seed), 4
    image = random_image(height * side, width * side, dtype=np.float32, seed=seed)
    large, cut = middle(image, 5, seamless)
    expected = cut(whole_image(model, large))
    upscaler = Upscaler(model, device="cpu", tile=tile, kernels=kernels)
    result = upscaler.upscale(image, seamless=seamless)
    assert np.abs(result - expected).max() < 1e-4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_depth_and_grey(random_model, dtype, channels):
    upscaler = Upscaler(random_model(X4), device="cpu", tile=16)
    image = random_image(24, 31, channels, dtype=dtype)
    large, cut = middle(image)
    result = upscaler.upscale(image, seamless="xy")
    assert result.dtype == dtype
    highest = np.iinfo(dtype).max
    assert np.abs(result.astype(int) - cut(upscaler.upscale(large))).max() <= 1 + highest // 20000


@pytest.mark.parametrize("size", [(70, 50), (17, 23), (130, 111)])
def test_the_final_resize_repeats_too(random_model, size):
    upscaler = Upscaler(random_model(X4), device="cpu")
    image = random_image(24, 31, dtype=np.float32)
    large, cut = middle(image)
    expected = cut(upscaler.upscale(large, size=(3 * size[0], 3 * size[1])))
    result = upscaler.upscale(image, size=size, seamless="xy")
    assert result.shape == (size[1], size[0], 3)
    assert np.abs(result - expected).max() < 1e-4


@pytest.mark.parametrize("seamless", ["x", "y", "xy"])
@pytest.mark.parametrize("spec", [X4, X2], ids=str)
def test_test_time_augmentation_repeats_too(random_model, spec, seamless):
    upscaler = Upscaler(random_model(spec), device="cpu", tta=True)
    image = random_image(24, 32, dtype=np.float32)
    large, cut = middle(image, 5, seamless)
    result = upscaler.upscale(image, seamless=seamless)
    assert np.abs(result - cut(upscaler.upscale(large))).max() < 1e-4


@pytest.mark.parametrize("spec, copies", [(X2, 2), (X1, 4)], ids=["x2", "x1"])
def test_odd_sides_are_averaged_over_all_positions_in_the_grid(random_model, spec, copies):
    """A length that is no multiple of the unshuffle factor repeats only after several copies."""
    model, image = random_model(spec), random_image(27, 33, dtype=np.float32)
    large = torch.from_numpy(np.tile(image, (3 * copies, 3 * copies, 1))).permute(2, 0, 1)
    with torch.inference_mode():
        whole = model.network(large[None])[0].permute(1, 2, 0).numpy()
    height, width = 27 * spec.scale, 33 * spec.scale
    parts = whole.reshape(3 * copies, height, 3 * copies, width, 3)[copies:-copies]
    expected = parts[:, :, copies:-copies].mean((0, 2)).clip(0, 1)
    result = Upscaler(model, device="cpu", tile=16).upscale(image, seamless="xy")
    assert np.abs(result - expected).max() < 1e-4


def test_feature_maps_in_files_give_the_same(random_model, monkeypatch):
    model, image = random_model(X4), random_image(64, 40)
    whole = Upscaler(model, device="cpu").upscale(image, seamless="xy")
    allocate = FeatureMaps.allocate

    def scarce(self, rows, width, channels):
        if rows > 30 and self.placement == "host":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return allocate(self, rows, width, channels)

    monkeypatch.setattr(FeatureMaps, "allocate", scarce)
    result = Upscaler(model, device="cpu", tile=64)
    assert result.run(image, seamless="xy").report.placement == "file"
    assert np.abs(result.upscale(image, seamless="xy").astype(int) - whole).max() <= 1


@pytest.mark.parametrize("tile", [0, 80])
def test_networks_without_layer_groups_see_the_opposite_border(tile):
    class Blur(torch.nn.Module):
        def forward(self, x):
            x = F.avg_pool2d(F.pad(x, (9, 9, 9, 9)), 19, 1)
            return F.interpolate(x, scale_factor=2)

    model = Model("blur", Blur(), 2, 3, False, "blur")
    image = random_image(60, 50, dtype=np.float32)
    large, cut = middle(image)
    upscaler = Upscaler(model, device="cpu", tile=tile)
    expected = cut(Upscaler(model, device="cpu", tile=0).upscale(large))
    error = np.abs(upscaler.upscale(image, seamless="xy") - expected)
    assert error.max() < (1e-5 if tile == 0 else 0.1)
    assert np.abs(upscaler.upscale(image) - expected).max() > 0.2
