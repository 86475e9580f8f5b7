"""Two networks, mixed by the median luma."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.engine.test_mixing import constant
from upscale.checkpoints.fusion import Fusion
from upscale.engine import fusion as module
from upscale.engine.fusion import RAMP, FusedUpscaler, median_luma
from upscale.engine.upscaler import Upscaler
from upscale.errors import UsageError
from upscale.models import SRVGGSpec

R, S, GAMMA = 0.8, 0.2, 100


def fused(alpha=0.5, **options):
    fusion = Fusion("r", "s", alpha, GAMMA)
    return FusedUpscaler(constant(R, "r"), constant(S, "s"), fusion, "fusion.json", **options)


def grey(level, dtype=np.uint8, channels=3):
    highest = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    return np.full((7, 9, channels), level / 255 * highest, dtype)


def as_tensor(image):
    return torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None].contiguous()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_dark_images_are_mixed_and_bright_ones_are_not(dtype, channels):
    highest = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    for level, expected in ((10, 0.5 * R + 0.5 * S), (200, R)):
        result = fused().run(grey(level, dtype, channels))
        assert result.pixels.dtype == dtype
        assert np.abs(result.pixels / highest - expected).max() <= 0.5 / highest + 1e-6
        assert result.report.model == ("r + s" if level == 10 else "r")


def test_the_condition_is_a_step_for_images():
    """Y_med < gamma: the level of gamma itself is bright."""
    assert fused(0.25).upscaler_for(grey(99)).model_name == "r + s"
    assert fused(0.25).upscaler_for(grey(100)).model_name == "r"
    dark = fused(0.25).run(grey(99, np.float32)).pixels
    assert np.allclose(dark, 0.25 * R + 0.75 * S)


def test_only_the_median_counts():
    image = grey(50)
    image[:3] = 255  # less than half of the rows
    assert fused().upscaler_for(image).model_name == "r + s"
    image[:4] = 255
    assert fused().upscaler_for(image).model_name == "r"


def test_the_median_luma_is_that_of_bt601():
    image = np.random.default_rng(0).integers(0, 256, (31, 20, 3), np.uint8)
    red, green, blue = (image[..., channel].astype(float) for channel in range(3))
    expected = np.median(0.299 * red + 0.587 * green + 0.114 * blue)
    assert median_luma(image) == pytest.approx(expected, abs=1e-4)
    assert median_luma(image.astype(np.uint16) * 257) == pytest.approx(expected, abs=1e-4)
    tensor = module._median_luma_of_tensor(as_tensor(image))
    assert tensor == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_frames_do_not_flicker_around_gamma(alpha):
    """A level more in the median changes the result by a small part of the difference."""
    frames = fused(alpha)
    levels = np.arange(GAMMA - 15, GAMMA + 16)
    for results in (
        [frames.run_tensor(as_tensor(grey(level))).mean().item() for level in levels],
        [frames.for_frames().run(grey(level, np.float32)).pixels.mean() for level in levels],
    ):
        assert results[0] == pytest.approx(alpha * R + (1 - alpha) * S)
        assert results[-1] == pytest.approx(R)
        assert results[15] == pytest.approx((results[0] + R) / 2), "half way at gamma"
        steps = np.diff(results)
        assert (steps >= -1e-6).all()
        assert steps.max() <= (1 - alpha) * (R - S) / (2 * RAMP) + 1e-6


def test_the_second_network_is_not_run_for_bright_images(random_model, monkeypatch):
    spec = SRVGGSpec(2, features=8, convolutions=1)
    r, s = (Upscaler(random_model(spec, seed), device="cpu") for seed in (1, 2))
    upscaler = FusedUpscaler(r, s, Fusion("r", "s"), "f")
    monkeypatch.setattr(s, "run", None)
    monkeypatch.setattr(s, "run_tensor", None)
    assert np.array_equal(upscaler.run(grey(220)).pixels, r.run(grey(220)).pixels)
    upscaler.run_tensor(as_tensor(grey(220)))
    with pytest.raises(TypeError):
        upscaler.run(grey(5))


def test_one_tile_and_all_kernels_are_pinned(random_model):
    spec = SRVGGSpec(2, features=8, convolutions=1)
    r, s = (Upscaler(random_model(spec, seed), device="cpu") for seed in (1, 2))
    upscaler = FusedUpscaler(r, s, Fusion("r", "s"), "f")
    tile = upscaler.resolve_tile(50, 40)
    assert r.resolve_tile(5000, 4000) == s.resolve_tile(5000, 4000) == tile
    assert upscaler.resolve_kernels() == {}
    assert (upscaler.model_scale, upscaler.model_name) == (2, "f")


def test_wrong_uses_are_refused(random_model):
    specs = (SRVGGSpec(scale, features=8, convolutions=1) for scale in (2, 4))
    with pytest.raises(ValueError, match="different scales"):
        FusedUpscaler(
            *(Upscaler(random_model(spec), device="cpu") for spec in specs), Fusion("r", "s"), "f"
        )
    with pytest.raises(UsageError):
        fused().run(np.zeros((3, 3, 2), np.uint8))
