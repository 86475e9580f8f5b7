from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import cases
from upscale.engine import memory
from upscale.engine.feature_maps import FeatureMaps
from upscale.engine.loading import Model
from upscale.engine.report import Report
from upscale.engine.upscaler import OVERLAP, Upscaler, output_size
from upscale.errors import CheckpointError, DeviceError, MemoryExhaustedError, UsageError
from upscale.models import RCANSpec, RRDBSpec, SRVGGSpec
from upscale.tiling.exact import ExactRun
from upscale.tiling.schedule import plan

X4 = RRDBSpec(blocks=2, features=8, growth=4)
X2 = RRDBSpec(blocks=1, features=8, growth=4, unshuffle=2)
X1 = RRDBSpec(blocks=1, features=8, growth=4, unshuffle=4)
SRVGG = SRVGGSpec(3, features=8, convolutions=5)
RCAN = RCANSpec(3, features=8, groups=1, blocks=2, reduction=4)


def random_image(height, width, channels=3, dtype=np.uint8, seed=0):
    values = np.random.default_rng(seed).random((height, width, channels), np.float32)
    highest = {np.uint8: 255, np.uint16: 65535, np.float32: 1}[dtype]
    return (values * highest).astype(dtype)


def whole_image(model, image):
    """Return the whole-image output without the engine: (H, W, C), float64 in 0..1."""
    highest = {"uint8": 255, "uint16": 65535, "float32": 1}[str(image.dtype)]
    tensor = torch.from_numpy(image.astype(np.float32) / highest).permute(2, 0, 1)[None]
    _, _, height, width = tensor.shape
    side = model.unshuffle
    tensor = F.pad(tensor, (0, -width % side, 0, -height % side), "reflect")
    with torch.inference_mode():
        result = model.network(tensor)[0, :, : height * model.scale, : width * model.scale]
    return result.clamp(0, 1).permute(1, 2, 0).double().numpy()


@pytest.mark.parametrize("dtype, highest", [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
@pytest.mark.parametrize("spec", [X4, X2, X1, SRVGG, RCAN], ids=str)
def test_every_depth_keeps_its_precision(random_model, spec, dtype, highest):
    model = random_model(spec)
    image = random_image(37, 51, dtype=dtype)
    result = Upscaler(model, device="cpu", tile=16).upscale(image)
    expected = whole_image(model, image)
    assert result.dtype == dtype
    assert result.shape == expected.shape
    error = np.abs(result / highest - expected).max()
    assert error < 1e-4 + 0.5001 / highest * (dtype != np.float32)


@settings(max_examples=cases(30))
@given(
    spec=st.sampled_from([X4, X2, X1, SRVGGSpec(2, features=8, convolutions=6), RCAN]),
    height=st.integers(5, 60),
    width=st.integers(5, 60),
    tile=st.integers(16, 80),
    seed=st.integers(0, 99),
)
def test_tiles_of_any_size_stay_within_one_level(random_model, spec, height, width, tile, seed):
    model, image = random_model(spec, seed), random_image(height, width, seed=seed)
    whole = Upscaler(model, device="cpu", tile=0).upscale(image)
    tiled = Upscaler(model, device="cpu", tile=tile).upscale(image)
    assert np.abs(tiled.astype(int) - whole).max() <= 1


@pytest.mark.parametrize("spec", [X4, X2, X1], ids=str)
@pytest.mark.parametrize("height, width", [(1, 1), (1, 5), (3, 2)])
def test_tiny_images_are_upscaled(random_model, spec, height, width):
    result = Upscaler(random_model(spec), device="cpu").upscale(random_image(height, width))
    assert result.shape == (height * spec.scale, width * spec.scale, 3)


def test_grey_output_is_the_average_of_the_rgb_output(random_model):
    model = random_model(X4)
    grey = random_image(20, 30, 1)
    upscaler = Upscaler(model, device="cpu")
    result = upscaler.upscale(grey)
    assert result.shape == (80, 120, 1)
    expected = whole_image(model, np.repeat(grey, 3, axis=2))
    assert upscaler.upscale(grey[:, :, 0]).shape == (80, 120)
    unclamped_means_agree = np.abs(result[:, :, 0] / 255 - expected.mean(2)) < 0.004
    inside = ((expected > 0) & (expected < 1)).all(2)
    assert unclamped_means_agree[inside].all()


@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_read_only_arrays_cause_no_warning(random_model, tile, dtype):
    image = random_image(24, 24, dtype=dtype)
    image.setflags(write=False)
    torch.set_warn_always(True)  # otherwise once in a process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Upscaler(random_model(X4), device="cpu", tile=tile).upscale(image)
    finally:
        torch.set_warn_always(False)


def test_views_with_negative_strides_are_read_right(random_model):
    upscaler = Upscaler(random_model(X4), device="cpu", tile=16)
    image = random_image(20, 33)
    assert np.array_equal(
        upscaler.upscale(image[::-1, ::-1]), upscaler.upscale(image[::-1, ::-1].copy())
    )


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((4, 4, 3), np.float64),
        np.full((4, 4, 3), np.nan, np.float32),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_that_are_not_images_raise_usage_error(random_model, array):
    with pytest.raises(UsageError):
        Upscaler(random_model(X4), device="cpu").upscale(array)


@pytest.mark.parametrize(
    "options",
    [{"tile": 8}, {"tile": -1}, {"device": "tpu"}, {"device": "cpu:1"}, {"precision": "fp8"}],
)
def test_invalid_options_raise_usage_error(random_model, options):
    with pytest.raises(UsageError):
        Upscaler(random_model(X4), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_a_missing_gpu_raises_device_error(random_model):
    with pytest.raises(DeviceError, match="--device cpu"):
        Upscaler(random_model(X4), device="cuda")


def test_scale_and_size_set_the_output_size(random_model):
    upscaler = Upscaler(random_model(X4), device="cpu")
    image = random_image(20, 31)
    assert upscaler.upscale(image, scale=2.5).shape == (50, 78, 3)
    assert upscaler.upscale(image, scale=6).shape == (120, 186, 3)
    assert upscaler.upscale(image, size=(7, 300)).shape == (300, 7, 3)
    assert upscaler.run(image, scale=4).report.resize is None
    assert "Lanczos" in upscaler.run(image, scale=2).report.resize
    for impossible in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError):
            output_size(10, 10, impossible)
    with pytest.raises(UsageError):
        upscaler.upscale(image, size=(0, 4))


def test_tta_is_the_mean_of_eight_transformed_results(random_model):
    model = random_model(X4)
    image = random_image(13, 22, dtype=np.float32)
    expected = np.zeros((52, 88, 3))
    for turns in range(4):
        for flip in (False, True):
            turned = np.rot90(image, turns)
            turned = turned[:, ::-1] if flip else turned
            tensor = torch.from_numpy(turned.copy()).permute(2, 0, 1)[None]
            with torch.inference_mode():
                result = model.network(tensor)[0].permute(1, 2, 0).numpy()
            result = result[:, ::-1] if flip else result
            expected += np.rot90(result, -turns) / 8
    result = Upscaler(model, device="cpu", tile=16, tta=True).upscale(image)
    assert np.abs(result - expected.clip(0, 1)).max() < 1e-4


def test_progress_reaches_its_total_and_never_falls(random_model):
    for tta in (False, True):
        seen = []
        upscaler = Upscaler(random_model(X4), device="cpu", tile=16, tta=tta)
        report = upscaler.run(random_image(40, 40), progress=seen.append).report
        assert [p.done for p in seen] == list(range(1, len(seen) + 1))
        assert seen[-1].done == seen[-1].total == report.tiles


def test_the_report_describes_the_run(random_model):
    report = Upscaler(random_model(X4), device="cpu", tile=16).run(random_image(40, 40)).report
    assert (report.tile, report.tiling, report.device) == (16, "exact", "cpu")
    assert (report.precision, report.placement, report.model_scale) == ("fp32", "host", 4)
    assert Upscaler(random_model(X4), device="cpu", tile=0).run(random_image(9, 9)).report.tile == 0


def test_deprecated_names_of_the_report_warn_and_still_work(random_model):
    report = Upscaler(random_model(X4), device="cpu").run(random_image(4, 4)).report
    assert isinstance(report, Report)
    with pytest.warns(DeprecationWarning, match="use Report.fp32_fallbacks"):
        assert report.fp32_tiles == 0
    with pytest.warns(DeprecationWarning, match="use Report.placement"):
        assert report.planes == "host"


@pytest.mark.parametrize("spec", [X4, RCAN], ids=str)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_is_close_to_fp32(random_model, spec, precision):
    model, image = random_model(spec), random_image(30, 30, dtype=np.float32)
    whole = Upscaler(model, device="cpu").upscale(image)
    half = Upscaler(model, device="cpu", precision=precision).run(image)
    assert half.report.precision == precision
    assert 0 < np.abs(half.pixels - whole).max() < 0.05


class BreaksInHalf(torch.nn.Conv2d):
    """A layer whose half-precision result contains NaN, as on some graphics cards."""

    def forward(self, x):
        result = super().forward(x)
        if result.dtype != torch.float32:
            result[:, :, 0, 0] = torch.nan
        return result


def test_tiles_that_overflow_half_precision_are_recomputed_in_fp32_and_counted(random_model):
    model, image = random_model(X4), random_image(30, 30)
    whole = Upscaler(model, device="cpu").upscale(image)
    model.network.conv_last.__class__ = BreaksInHalf
    result = Upscaler(model, device="cpu", precision="fp16").run(image)
    assert result.report.fp32_fallbacks == 1
    assert np.abs(result.pixels.astype(int) - whole).max() < 12


def test_tiles_are_not_checked_before_an_image_has_overflowed(random_model, monkeypatch):
    """Checking each tile of each group makes a GPU wait."""
    checked = []
    real = ExactRun.__init__

    def watched(self, *arguments, **options):
        checked.append(options["fp32_groups"] is not None)
        real(self, *arguments, **options)

    monkeypatch.setattr(ExactRun, "__init__", watched)
    model, image = random_model(X4), random_image(30, 30)
    sound = Upscaler(model, device="cpu", precision="bf16", kernels=False)
    for _ in range(2):
        assert sound.run(image).report.fp32_fallbacks == 0
    assert checked == [False, False]
    checked.clear()
    model.network.conv_last.__class__ = BreaksInHalf
    broken = Upscaler(model, device="cpu", precision="bf16", kernels=False)
    for _ in range(2):
        assert broken.run(image).report.fp32_fallbacks == 1
    assert checked == [False, True, True]
    tensor = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]
    assert broken.run_tensor(tensor).isfinite().all()


@pytest.mark.parametrize("layer", ["conv_first", "body.0.rdb2.conv3", "conv_hr"])
@pytest.mark.parametrize("tta", [False, True])
def test_an_overflow_in_any_layer_is_detected(random_model, layer, tta):
    model, image = random_model(X4), random_image(20, 20)
    network = model.network
    network.get_submodule(layer).weight.data[0] *= 1e7
    whole = Upscaler(model, device="cpu", tta=tta).upscale(image)
    result = Upscaler(model, device="cpu", precision="fp16", tta=tta).run(image)
    assert result.report.precision == "fp32" or result.report.fp32_fallbacks
    assert np.abs(result.pixels.astype(int) - whole).max() <= 12


def test_values_beyond_half_precision_switch_the_image_to_fp32(random_model):
    model, image = random_model(X4), random_image(30, 30)
    model.network.conv_first.weight.data *= 1e7
    model.network.conv_last.weight.data *= 1e-7
    whole = Upscaler(model, device="cpu").upscale(image)
    result = Upscaler(model, device="cpu", precision="fp16").run(image)
    assert result.report.precision == "fp32"
    assert np.abs(result.pixels.astype(int) - whole).max() <= 1


def test_a_network_with_nan_weights_raises_checkpoint_error(random_model):
    model = random_model(X4)
    model.network.conv_last.bias.data[1] = torch.nan
    with pytest.raises(CheckpointError, match="finite"):
        Upscaler(model, device="cpu").upscale(random_image(8, 8))


def test_out_of_memory_halves_tiles_then_offloads_feature_maps(random_model, monkeypatch):
    """Allocation fails above a size until feature maps are offloaded to a file."""
    model, image = random_model(X4), random_image(100, 60)
    whole = Upscaler(model, device="cpu").upscale(image)
    allocate = FeatureMaps.allocate

    def scarce(self, rows, width, channels):
        if rows > 30 and self.placement == "host":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return allocate(self, rows, width, channels)

    monkeypatch.setattr(FeatureMaps, "allocate", scarce)
    result = Upscaler(model, device="cpu", tile=64).run(image)
    assert result.report.halvings == 2
    assert (result.report.tile, result.report.placement) == (16, "file")
    assert np.abs(result.pixels.astype(int) - whole).max() <= 1


def test_memory_exhausted_error_gives_advice(random_model, monkeypatch):
    def full(self, rows, width, channels):
        raise MemoryError

    monkeypatch.setattr(FeatureMaps, "allocate", full)
    with pytest.raises(MemoryExhaustedError, match="use"):
        Upscaler(random_model(X4), device="cpu").upscale(random_image(40, 40))


@pytest.mark.parametrize("spec", [X4, RCAN], ids=str)
def test_feature_maps_beyond_memory_start_in_a_file(random_model, monkeypatch, spec):
    model, image = random_model(spec), random_image(50, 40)
    whole = Upscaler(model, device="cpu").upscale(image)
    monkeypatch.setattr(memory, "available_memory", lambda device: 1000)
    result = Upscaler(model, device="cpu", tile=16).run(image)
    assert result.report.placement == "file"
    assert np.abs(result.pixels.astype(int) - whole).max() <= 1


@pytest.mark.parametrize(("missing", "placement"), [(0, "host"), (1, "file")])
def test_feature_maps_may_take_all_available_memory_and_no_more(
    random_model, monkeypatch, missing, placement
):
    model = random_model(X4)
    groups = model.network.layer_groups(fine=True)
    planned = plan(groups, 50, 40, 16).feature_maps * 4
    monkeypatch.setattr(memory, "available_memory", lambda device: planned - missing)
    result = Upscaler(model, device="cpu", tile=16).run(random_image(50, 40))
    assert result.report.placement == placement


def test_an_automatic_tile_is_limited_by_available_memory(random_model, monkeypatch):
    upscaler = Upscaler(random_model(X4), device="cpu")
    assert upscaler.run(random_image(40, 300)).report.tile == 256
    monkeypatch.setattr(memory, "available_memory", lambda device: 1 << 20)
    assert upscaler.run(random_image(40, 300)).report.tile == 32


def test_models_without_layer_groups_are_blended_and_reported_so():
    class Nearest(torch.nn.Module):
        def forward(self, x):
            return F.interpolate(x, scale_factor=2)

    model = Model("nearest", Nearest(), 2, 3, False, "nearest")
    image = random_image(150, 170)
    result = Upscaler(model, device="cpu", tile=80).run(image)
    assert np.array_equal(result.pixels, image.repeat(2, 0).repeat(2, 1))
    assert result.report.tiling == f"blended, overlap {OVERLAP} px"
    assert result.report.tile == 80


def test_a_grey_model_only_takes_grey_images(random_model):
    model = random_model(RRDBSpec(1, 1, features=8, growth=4, blocks=1))
    upscaler = Upscaler(model, device="cpu")
    assert upscaler.upscale(random_image(9, 9, 1)).shape == (36, 36, 1)
    with pytest.raises(UsageError, match="grey"):
        upscaler.upscale(random_image(9, 9, 3))


def as_tensor(image):
    return torch.from_numpy(image).permute(2, 0, 1)[None].contiguous()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("tile", [0, 16])
@pytest.mark.parametrize("spec", [X4, X2, X1, SRVGG, RCAN], ids=str)
def test_a_tensor_gives_bit_for_bit_what_an_array_gives(random_model, spec, tile, channels):
    upscaler = Upscaler(random_model(spec), device="cpu", tile=tile)
    image = random_image(37, 51, channels, np.float32)
    result = upscaler.run_tensor(as_tensor(image))
    assert torch.equal(result, as_tensor(upscaler.upscale(image)))


@pytest.mark.parametrize("spec", [X4, RCAN], ids=str)
def test_a_tensor_is_resized_and_averaged_like_an_array(random_model, spec):
    image = random_image(20, 31, dtype=np.float32)
    for tta, size in ((False, (55, 49)), (True, None), (True, (31, 80))):
        upscaler = Upscaler(random_model(spec), device="cpu", tta=tta)
        result = upscaler.run_tensor(as_tensor(image), size=size)
        expected = as_tensor(upscaler.upscale(image, size=size)).clamp(0, 1)
        assert (result - expected).abs().max() < 2e-6


def test_a_tensor_falls_back_to_fp32_like_an_array(random_model):
    model, image = random_model(X4), random_image(30, 30, dtype=np.float32)
    model.network.conv_last.__class__ = BreaksInHalf
    upscaler = Upscaler(model, device="cpu", precision="fp16")
    assert torch.equal(upscaler.run_tensor(as_tensor(image)), as_tensor(upscaler.upscale(image)))
    model.network.conv_first.weight.data *= 1e7
    upscaler = Upscaler(model, device="cpu", precision="fp16")
    assert torch.equal(upscaler.run_tensor(as_tensor(image)), as_tensor(upscaler.upscale(image)))


def test_out_of_memory_halves_the_tiles_of_a_tensor(random_model, monkeypatch):
    model, image = random_model(X4), as_tensor(random_image(100, 60, dtype=np.float32))
    whole = Upscaler(model, device="cpu").run_tensor(image)
    allocate, failures = FeatureMaps.allocate, []

    def scarce(self, rows, width, channels):
        if rows > 30 and self.placement == "host":
            failures.append(rows)
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return allocate(self, rows, width, channels)

    monkeypatch.setattr(FeatureMaps, "allocate", scarce)
    result = Upscaler(model, device="cpu", tile=64).run_tensor(image)
    assert failures and (result - whole).abs().max() < 1e-4


def test_a_tensor_is_upscaled_by_a_model_without_layer_groups():
    class Nearest(torch.nn.Module):
        def forward(self, x):
            return F.interpolate(x, scale_factor=2)

    upscaler = Upscaler(Model("nearest", Nearest(), 2, 3, False, "nearest"), device="cpu", tile=80)
    image = as_tensor(random_image(150, 170, dtype=np.float32))
    expected = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert (upscaler.run_tensor(image) - expected).abs().max() < 1e-6


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 3, 4, 4), (1, 4, 4, 4), (1, 2, 4, 4)])
def test_tensors_that_are_not_images_raise_usage_error(random_model, shape):
    with pytest.raises(UsageError):
        Upscaler(random_model(X4), device="cpu").run_tensor(torch.zeros(shape))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_tensor_result_stays_on_the_device_of_the_input(random_model):
    upscaler = Upscaler(random_model(X4), device="cuda", precision="fp32")
    image = as_tensor(random_image(37, 51, dtype=np.float32))
    here, there = upscaler.run_tensor(image), upscaler.run_tensor(image.cuda())
    assert not here.is_cuda and there.is_cuda
    assert torch.equal(here, there.cpu())


def test_a_pinned_tile_does_not_depend_on_memory(monkeypatch):
    upscaler = Upscaler("realesr-animevideov3", device="cpu")
    tile = upscaler.resolve_tile(300, 200)
    assert tile >= 32
    monkeypatch.setattr(memory, "available_memory", lambda device: 1 << 20)
    assert upscaler.resolve_tile(300, 200) == tile
    assert upscaler.run(np.zeros((40, 48, 3), np.uint8)).report.tile == tile


@pytest.mark.parametrize(("tile", "resolved"), [("auto", 96), (64, 64), (0, 0)])
def test_only_an_automatic_tile_is_pinned(tile, resolved):
    upscaler = Upscaler("realesr-animevideov3", device="cpu", tile=tile)
    assert upscaler.resolve_tile(300, 200, 96) == resolved
