"""The Triton convolution, as Triton's interpreter computes it on a CPU."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.budget import cases
from tests.kernels.layers import in_double, random_layer, within_nan
from tests.kernels.standins import stand_in_kernels, use_of
from upscale.kernels import KernelMissingError, triton_conv
from upscale.kernels.autotune import agree
from upscale.kernels.tile_configs import CONFIGS, ONE_ROW, WARPS, TileConfig
from upscale.kernels.triton_conv import triton_layer
from upscale.models import RRDBSpec, SRVGGSpec
from upscale.models.layers import torch_layer

MODULES = ["upscale.kernels.triton_kernel", "upscale.kernels.triton_two_rows"]
NARROW, WIDE = TileConfig(16, 16, 1), TileConfig(64, 32, 1)
NARROW_PAIRS, WIDE_PAIRS = TileConfig(16, 16, 1, 2, 3), TileConfig(32, 32, 1, 2, 2)


@pytest.fixture(scope="module")
def kernels():
    pytest.importorskip("triton", reason="no Triton, which comes with torch's builds for CUDA")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        for name in MODULES:
            sys.modules.pop(name, None)
        yield triton_conv.load_kernels()
    for name in MODULES:
        sys.modules.pop(name, None)


def in_half(layer):
    slope = layer.slope.half() if isinstance(layer.slope, torch.Tensor) else layer.slope
    return replace(layer, convolution=layer.convolution.half(), slope=slope)


def check(kernels, config, layer, maps, added):
    """Check a layer's half-precision result, written into surroundings of NaN."""
    use = use_of(kernels, config)
    run = triton_layer(use, layer)
    expected = in_double(layer)([x.double() for x in maps], [x.double() for x in added])
    target, place = within_nan(torch.zeros(expected.shape))
    target = target.half()
    place = target.as_strided(place.shape, place.stride(), place.storage_offset())
    before = target.clone()
    run(maps, added, place)
    torch.testing.assert_close(place.double(), expected, rtol=6e-4, atol=1e-4)
    assert use.used == use.shapes and not use.failures
    place.copy_(torch.zeros(expected.shape))
    assert torch.equal(target.nan_to_num(7), before.nan_to_num(7))


@settings(max_examples=cases(40), phases=[Phase.generate])  # shrinking takes minutes
@given(
    channels=st.one_of(
        st.sampled_from([(3,), (12,), (48,), (64,), (64, 32), (64, 64), (64, 128), (32, 16, 16)]),
        st.tuples(st.integers(1, 40), st.integers(1, 40)),
    ),
    outputs=st.sampled_from([1, 3, 16, 32, 48, 64, 70, 130]),
    height=st.integers(1, 9),
    width=st.integers(1, 40),
    padding=st.integers(0, 1),
    upsample=st.integers(1, 2),
    slope=st.sampled_from(["none", "one", "each"]),
    residuals=st.integers(0, 2),
    config=st.sampled_from([NARROW, WIDE, NARROW_PAIRS, WIDE_PAIRS]),
    seed=st.integers(0, 1000),
)
def test_any_layer_agrees_with_torch_and_writes_nothing_else(
    kernels, channels, outputs, height, width, padding, upsample, slope, residuals, config, seed
):
    generator = torch.Generator().manual_seed(seed)
    height, width = (max(side, 3) if padding == 0 else side for side in (height, width))
    layer = in_half(
        random_layer(
            generator, sum(channels), outputs, slope, padding=padding, upsample=upsample, scale=0.25
        )
    )
    maps = [torch.randn(1, c, height, width, generator=generator) for c in channels]
    edge = 2 * padding - 2
    extent = (1, outputs, height * upsample + edge, width * upsample + edge)
    added = [torch.randn(extent, generator=generator) for _ in range(residuals)]
    maps, added = (
        [within_nan(x)[0].half()[3 : 3 + x.shape[2], 3 : 3 + x.shape[3], : x.shape[1]]
         .permute(2, 0, 1)[None] for x in each]
        for each in (maps, added)
    )  # fmt: skip
    check(kernels, config, layer, maps, added)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("channels", [(64,), (64, 96)])
def test_every_tile_config_is_correct(kernels, config, channels):
    generator = torch.Generator().manual_seed(0)
    layer = in_half(random_layer(generator, sum(channels), 32, "one", padding=1))
    maps = [torch.randn(1, c, 17, 23, generator=generator).half() for c in channels]
    check(kernels, config, layer, maps, [])


def test_a_batch_of_tiles_is_one_call(kernels):
    generator = torch.Generator().manual_seed(0)
    layer = in_half(random_layer(generator, 64, 32, "each", padding=1, scale=0.2))
    maps = [torch.randn(3, c, 5, 7, generator=generator).half() for c in (32, 32)]
    residual = torch.randn(3, 32, 5, 7, generator=generator).half()
    run = triton_layer(use_of(kernels, WIDE), layer)
    together = run(maps, [residual])
    for i in range(3):
        alone = run([x[i : i + 1] for x in maps], [residual[i : i + 1]])
        assert torch.equal(together[i : i + 1], alone)
    assert agree(together, torch_layer(layer)(maps, [residual]))


def test_a_layer_writes_beside_what_it_reads(kernels):
    """As in a dense block: later channels of the tensor whose first ones are read."""
    generator = torch.Generator().manual_seed(0)
    layer = in_half(random_layer(generator, 96, 32, "one", padding=1))
    x = torch.randn(1, 64, 9, 11, generator=generator).half()
    grown = torch.randn(1, 9, 11, 128, generator=generator).half().permute(0, 3, 1, 2)
    expected = torch_layer(layer)([x, grown[:, :32]])
    rest = grown.clone()
    triton_layer(use_of(kernels, WIDE), layer)([x, grown[:, :32]], target=grown[:, 32:64])
    assert agree(grown[:, 32:64], expected)
    assert torch.equal(grown[:, :32], rest[:, :32]) and torch.equal(grown[:, 64:], rest[:, 64:])


def test_values_beyond_half_precision_stay_visible(kernels):
    generator = torch.Generator().manual_seed(0)
    layer = in_half(random_layer(generator, 32, 32, "one", padding=1))
    x = torch.randn(1, 32, 6, 6, generator=generator).half()
    x[0, 3, 2, 2] = 6e4
    large = replace(layer, convolution=layer.convolution.float())
    large.convolution.weight.data *= 100
    assert not triton_layer(use_of(kernels, WIDE), in_half(large))([x]).isfinite().all()
    x[0, 3, 2, 2] = math.nan
    result = triton_layer(use_of(kernels, WIDE), layer)([x])
    assert result.isnan()[0, :, 1:4, 1:4].all() and result.isnan().sum() == 32 * 9


@pytest.mark.parametrize("config", [WIDE, WIDE_PAIRS], ids=str)
@pytest.mark.parametrize(
    "spec",
    [RRDBSpec(blocks=1), RRDBSpec(blocks=1, unshuffle=2, features=32, growth=16),
     SRVGGSpec(convolutions=3, features=48)],
    ids=lambda spec: spec.describe(),
)  # fmt: skip
def test_networks_groups_agree_with_torch(kernels, random_network, spec, config):
    network = random_network(spec).half()
    use = use_of(kernels, config)
    plain = network.layer_groups()
    fast = network.layer_groups(make=lambda layer: triton_layer(use, layer))
    generator = torch.Generator().manual_seed(0)
    for group, other in zip(plain, fast, strict=True):
        channels = [plain[i].channels if i >= 0 else 3 * spec_side(spec) ** 2
                    for i in group.sources]  # fmt: skip
        planes = [torch.rand(1, c, 7, 9, generator=generator).half() - 0.5 for c in channels]
        planes = [x.contiguous(memory_format=torch.channels_last) for x in planes]
        assert agree(other.run(planes), group.run(planes)), group.name
    assert use.used == use.shapes and not use.failures


def spec_side(spec):
    return getattr(spec, "unshuffle", 1)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("channels", [(3,), (64,), (70, 20)])
def test_stand_ins_read_weights_as_the_kernels_do(config, channels):
    generator = torch.Generator().manual_seed(0)
    layer = in_half(random_layer(generator, sum(channels), 70, "each", padding=1, scale=0.2))
    maps = [torch.randn(2, c, 6, 7, generator=generator).half() for c in channels]
    residual = torch.randn(2, 70, 6, 7, generator=generator).half()
    use = use_of(stand_in_kernels(), config)
    result = triton_layer(use, layer)(maps, [residual])
    assert agree(result, torch_layer(layer)(maps, [residual])) and use.used


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_kernels_are_launched_with_the_pipeline_stages_and_warps_of_their_config(config):
    """Triton rejects unknown options, which would silently disable the kernel."""
    layer = in_half(random_layer(torch.Generator().manual_seed(0), 32, 32, padding=1))
    kernels = stand_in_kernels()
    triton_layer(use_of(kernels, config), layer)([torch.zeros(1, 32, 6, 6).half()])
    (options,) = (kernels.one_row if config.rows == 1 else kernels.two_rows).launches
    special = {name: options[name] for name in options if name.startswith("num_")}
    if config.rows == 1:
        assert special == {"num_warps": WARPS, "num_stages": config.stages}
    else:
        assert special == {"num_warps": WARPS}
        assert (options["stages"], options["blocks"]) == (config.stages, config.blocks)


@pytest.mark.parametrize("channels", [1, 3, 12, 20, 64])
def test_kernels_read_pixels_that_are_aligned(channels):
    layer = in_half(random_layer(torch.Generator().manual_seed(0), channels, 32, padding=1))
    kernels, x = stand_in_kernels(), torch.rand(2, channels, 6, 7).half()
    use = use_of(kernels, ONE_ROW[0])
    assert agree(triton_layer(use, layer)([x]), torch_layer(layer)([x]))
    assert [each["first_channels"] % 16 for each in kernels.one_row.launches] == [0]
    assert [shape.channels for shape in use.shapes] == [(channels, 0)]


def raising(*_):
    raise RuntimeError("device kernel image is invalid")


def test_a_kernel_that_fails_later_is_not_used_again(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    layer = in_half(random_layer(generator, 32, 32, padding=1))
    use = use_of(stand_in_kernels(), WIDE)
    run = triton_layer(use, layer)
    x = torch.randn(1, 32, 6, 6, generator=generator).half()
    run([x])
    calls = []
    monkeypatch.setattr(run, "launch", lambda *_: calls.append(1) or raising())
    for _ in range(3):
        assert torch.equal(run([x]), torch_layer(layer)([x]))
    assert len(calls) == 1
    assert list(use.failures.values()) == ["device kernel image is invalid"]


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), MemoryError(),
     RuntimeError("Triton Error [CUDA]: out of memory")],
    ids=repr,
)  # fmt: skip
def test_out_of_memory_is_raised_to_the_tile_engine(monkeypatch, error):
    layer = in_half(random_layer(torch.Generator().manual_seed(0), 32, 32, padding=1))
    use = use_of(stand_in_kernels(), WIDE)
    run = triton_layer(use, layer)

    def launch(*_):
        raise error

    x = torch.zeros(1, 32, 6, 6).half()
    run([x])
    monkeypatch.setattr(run, "launch", launch)
    with pytest.raises(type(error)):
        run([x])
    assert not use.failures


def test_torch_computes_what_the_kernel_does_not_support():
    generator = torch.Generator().manual_seed(0)
    layer = in_half(random_layer(generator, 32, 32, "one", padding=1))
    use = use_of(stand_in_kernels(), WIDE)
    run, plain = triton_layer(use, layer), torch_layer(layer)
    x = torch.randn(2, 32, 6, 7, generator=generator).half()
    residual = torch.randn(1, 32, 6, 7, generator=generator).half()
    for residuals in ([residual], [x] * 3):
        assert torch.equal(run([x], residuals), plain([x], residuals))
    target = torch.empty(2, 32, 6, 7).half()
    # In half precision, torch may round differently in another memory layout.
    same_layout = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(run([x], target=target), plain([same_layout]))
    assert not use.used and not use.shapes


def test_torch_computes_single_precision():
    layer = random_layer(torch.Generator().manual_seed(0), 32, 32, padding=1)
    with pytest.raises(KernelMissingError, match="half precision"):
        triton_conv.card_of(torch.device("cuda", 0), torch.float32)
    use = use_of(stand_in_kernels(), WIDE)
    x = torch.randn(1, 32, 5, 5)
    assert torch.equal(triton_layer(use, layer)([x]), torch_layer(layer)([x]))


@pytest.mark.parametrize(
    ("capability", "reason"), [((7, 5), "capability 8.0"), ((9, 0), "cannot be imported")]
)
def test_the_reason_for_not_using_the_kernel_is_reported(monkeypatch, capability, reason):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setitem(sys.modules, "triton", None)
    triton_conv.triton_version.cache_clear()
    with pytest.raises(KernelMissingError, match=reason):
        triton_conv.card_of(torch.device("cuda", 7), torch.float16)


def test_agree_accepts_rounding_and_rejects_faults():
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float16, torch.bfloat16):
        layer = random_layer(generator, 64, 32, "one", padding=1)
        x = torch.randn(1, 64, 30, 40, generator=generator)
        exact = torch_layer(layer)([x])
        layer.convolution.to(dtype)
        result = torch_layer(layer)([x.to(dtype)])
        assert agree(result, exact.to(dtype))
        shifted = result.roll(1, 3)
        for wrong in (shifted, result + 0.05, result.flip(1), result * 1.1, result * math.nan):
            assert not agree(wrong, exact.to(dtype))
        edge = result.clone()
        edge[:, :, 0] = 0
        assert not agree(edge, exact.to(dtype))
