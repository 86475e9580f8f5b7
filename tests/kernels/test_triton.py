"""The Triton convolution, as Triton's interpreter computes it on a CPU."""

from __future__ import annotations

import importlib
import math
import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.budget import cases
from tests.kernels.layers import in_double, random_layer, within_nan
from upscale.kernels import KernelMissingError, triton_conv
from upscale.kernels.autotune import agree
from upscale.kernels.triton_conv import TILE_CONFIGS, Autotuner, TileConfig, triton_layer
from upscale.models import RRDBSpec, SRVGGSpec
from upscale.models.layers import torch_layer

KERNEL = "upscale.kernels.triton_kernel"
NARROW, WIDE = TileConfig(16, 16, 1), TileConfig(64, 32, 1)


@pytest.fixture(scope="module")
def kernel():
    pytest.importorskip("triton", reason="no Triton, which comes with torch's builds for CUDA")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        sys.modules.pop(KERNEL, None)
        yield importlib.import_module(KERNEL)
    sys.modules.pop(KERNEL, None)


def autotuner(kernel, *configs):
    """Return an autotuner that selects the first correct tile config."""
    order = iter(range(1000))
    return Autotuner(kernel, seconds=lambda work: next(order), side=5, configs=configs or (WIDE,))


def in_half(layer):
    slope = layer.slope.half() if isinstance(layer.slope, torch.Tensor) else layer.slope
    return replace(layer, convolution=layer.convolution.half(), slope=slope)


def check(kernel, config, layer, maps, added):
    """Check a layer's half-precision result, written into surroundings of NaN."""
    tuner = autotuner(kernel, config)
    run = triton_layer(tuner, layer)
    expected = in_double(layer)([x.double() for x in maps], [x.double() for x in added])
    target, place = within_nan(torch.zeros(expected.shape))
    target = target.half()
    place = target.as_strided(place.shape, place.stride(), place.storage_offset())
    before = target.clone()
    run(maps, added, place)
    torch.testing.assert_close(place.double(), expected, rtol=6e-4, atol=1e-4)
    assert list(tuner._best.values()) == [config]
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
    config=st.sampled_from([NARROW, WIDE]),
    seed=st.integers(0, 1000),
)
def test_any_layer_agrees_with_torch_and_writes_nothing_else(
    kernel, channels, outputs, height, width, padding, upsample, slope, residuals, config, seed
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
    check(kernel, config, layer, maps, added)


@pytest.mark.parametrize("config", TILE_CONFIGS, ids=str)
@pytest.mark.parametrize("channels", [(64,), (64, 32), (64, 96)])
def test_every_tile_config_is_correct(kernel, config, channels):
    generator = torch.Generator().manual_seed(0)
    layer = in_half(random_layer(generator, sum(channels), 32, "one", padding=1))
    maps = [torch.randn(1, c, 17, 23, generator=generator).half() for c in channels]
    check(kernel, config, layer, maps, [])


def test_a_batch_of_tiles_is_one_call(kernel):
    generator = torch.Generator().manual_seed(0)
    layer = in_half(random_layer(generator, 64, 32, "each", padding=1, scale=0.2))
    maps = [torch.randn(3, c, 5, 7, generator=generator).half() for c in (32, 32)]
    residual = torch.randn(3, 32, 5, 7, generator=generator).half()
    run = triton_layer(autotuner(kernel), layer)
    together = run(maps, [residual])
    for i in range(3):
        alone = run([x[i : i + 1] for x in maps], [residual[i : i + 1]])
        assert torch.equal(together[i : i + 1], alone)
    assert agree(together, torch_layer(layer)(maps, [residual]))


def test_a_layer_writes_beside_what_it_reads(kernel):
    """As in a dense block: later channels of the tensor whose first ones are read."""
    generator = torch.Generator().manual_seed(0)
    layer = in_half(random_layer(generator, 96, 32, "one", padding=1))
    x = torch.randn(1, 64, 9, 11, generator=generator).half()
    grown = torch.randn(1, 9, 11, 128, generator=generator).half().permute(0, 3, 1, 2)
    expected = torch_layer(layer)([x, grown[:, :32]])
    rest = grown.clone()
    triton_layer(autotuner(kernel), layer)([x, grown[:, :32]], target=grown[:, 32:64])
    assert agree(grown[:, 32:64], expected)
    assert torch.equal(grown[:, :32], rest[:, :32]) and torch.equal(grown[:, 64:], rest[:, 64:])


def test_values_beyond_half_precision_stay_visible(kernel):
    generator = torch.Generator().manual_seed(0)
    layer = in_half(random_layer(generator, 32, 32, "one", padding=1))
    x = torch.randn(1, 32, 6, 6, generator=generator).half()
    x[0, 3, 2, 2] = 6e4
    large = replace(layer, convolution=layer.convolution.float())
    large.convolution.weight.data *= 100
    assert not triton_layer(autotuner(kernel), in_half(large))([x]).isfinite().all()
    x[0, 3, 2, 2] = math.nan
    result = triton_layer(autotuner(kernel), layer)([x])
    assert result.isnan()[0, :, 1:4, 1:4].all() and result.isnan().sum() == 32 * 9


@pytest.mark.parametrize(
    "spec",
    [RRDBSpec(blocks=1), RRDBSpec(blocks=1, unshuffle=2, features=32, growth=16),
     SRVGGSpec(convolutions=3, features=48)],
    ids=lambda spec: spec.describe(),
)  # fmt: skip
def test_networks_groups_agree_with_torch(kernel, random_network, spec):
    network = random_network(spec).half()
    tuner = autotuner(kernel)
    plain = network.layer_groups()
    fast = network.layer_groups(make=lambda layer: triton_layer(tuner, layer))
    generator = torch.Generator().manual_seed(0)
    for group, other in zip(plain, fast, strict=True):
        channels = [plain[i].channels if i >= 0 else 3 * spec_side(spec) ** 2
                    for i in group.sources]  # fmt: skip
        planes = [torch.rand(1, c, 7, 9, generator=generator).half() - 0.5 for c in channels]
        planes = [x.contiguous(memory_format=torch.channels_last) for x in planes]
        assert agree(other.run(planes), group.run(planes)), group.name
    assert all(tuner._best.values())


def spec_side(spec):
    return getattr(spec, "unshuffle", 1)


class Timed:
    """A stopwatch that returns given times."""

    def __init__(self, *times):
        self.times = list(times)

    def __call__(self, work):
        work()
        return self.times.pop(0)


def test_each_shape_is_autotuned_once(kernel):
    generator = torch.Generator().manual_seed(0)
    timed = Timed(3.0, 1.0, 2.0, 5.0)
    tuner = Autotuner(kernel, timed, 5, [NARROW, WIDE])
    first, other = (in_half(random_layer(generator, 32, 32, padding=1)) for _ in range(2))
    wide = in_half(random_layer(generator, 48, 32, padding=1))
    x = torch.randn(1, 48, 6, 6, generator=generator).half()
    for layer in (first, other):
        triton_layer(tuner, layer)([x[:, :32]])
    triton_layer(tuner, wide)([x])
    assert timed.times == []
    assert list(tuner._best.values()) == [WIDE, NARROW]


class Faulty:
    """A kernel module whose kernel calls `fault`."""

    def __init__(self, fault):
        self.convolve = self
        self.fault = fault

    def __getitem__(self, grid):
        return lambda *arguments, **options: self.fault(arguments, options)


def raising(arguments, options):
    raise RuntimeError("out of resource: shared memory")


def writing_ones(arguments, options):
    arguments[7].fill_(1)


@pytest.mark.parametrize("fault", [raising, writing_ones, lambda arguments, options: None])
def test_tile_configs_that_fail_or_are_wrong_are_never_used(fault):
    generator = torch.Generator().manual_seed(0)
    layer = in_half(random_layer(generator, 32, 32, "one", padding=1))
    tuner = Autotuner(Faulty(fault), lambda work: 1.0, 5, TILE_CONFIGS)
    x = torch.randn(1, 32, 6, 6, generator=generator).half()
    assert torch.equal(triton_layer(tuner, layer)([x]), torch_layer(layer)([x]))
    assert list(tuner._best.values()) == [None]


def test_the_kernel_is_launched_with_the_pipeline_stages_and_warps_of_its_tile_config():
    """Triton rejects unknown options, which would silently disable the kernel."""
    launched = []

    def record(arguments, options):
        launched.append(options)
        arguments[7].fill_(math.nan)

    layer = in_half(random_layer(torch.Generator().manual_seed(0), 32, 32, padding=1))
    tuner = Autotuner(Faulty(record), lambda work: 1.0, 5, TILE_CONFIGS)
    triton_layer(tuner, layer)([torch.zeros(1, 32, 6, 6).half()])
    assert [options["num_stages"] for options in launched] == [4, 3, 4]
    assert {options["num_warps"] for options in launched} == {triton_conv.WARPS}
    assert {name for options in launched for name in options if name.startswith("num_")} == {
        "num_stages",
        "num_warps",
    }


def test_a_kernel_that_fails_later_is_not_used_again(kernel, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    layer = in_half(random_layer(generator, 32, 32, padding=1))
    run = triton_layer(autotuner(kernel), layer)
    x = torch.randn(1, 32, 6, 6, generator=generator).half()
    run([x])
    calls = []
    monkeypatch.setattr(run, "launch", lambda *_: calls.append(1) or raising(None, None))
    for _ in range(3):
        assert torch.equal(run([x]), torch_layer(layer)([x]))
    assert len(calls) == 1


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()], ids=type
)
def test_out_of_memory_is_raised_to_the_tile_engine(kernel, monkeypatch, error):
    layer = in_half(random_layer(torch.Generator().manual_seed(0), 32, 32, padding=1))
    run = triton_layer(autotuner(kernel), layer)

    def launch(*_):
        raise error

    x = torch.zeros(1, 32, 6, 6).half()
    run([x])
    monkeypatch.setattr(run, "launch", launch)
    with pytest.raises(type(error)):
        run([x])
    assert not run._broken


def test_torch_computes_what_the_kernel_does_not_support(kernel):
    generator = torch.Generator().manual_seed(0)
    layer = in_half(random_layer(generator, 32, 32, "one", padding=1))
    tuner = autotuner(kernel)
    run, plain = triton_layer(tuner, layer), torch_layer(layer)
    x = torch.randn(2, 32, 6, 7, generator=generator).half()
    residual = torch.randn(1, 32, 6, 7, generator=generator).half()
    for residuals in ([residual], [x] * 3):
        assert torch.equal(run([x], residuals), plain([x], residuals))
    target = torch.empty(2, 32, 6, 7).half()
    # In half precision, torch may round differently in another memory layout.
    same_layout = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(run([x], target=target), plain([same_layout]))
    assert tuner._best == {}


def test_torch_computes_single_precision(kernel):
    layer = random_layer(torch.Generator().manual_seed(0), 32, 32, padding=1)
    with pytest.raises(KernelMissingError, match="half precision"):
        triton_conv.layer_maker(torch.device("cuda", 0), torch.float32)
    tuner = autotuner(kernel)
    x = torch.randn(1, 32, 5, 5)
    assert torch.equal(triton_layer(tuner, layer)([x]), torch_layer(layer)([x]))


@pytest.mark.parametrize(
    ("capability", "reason"), [((7, 5), "capability 8.0"), ((9, 0), "cannot be imported")]
)
def test_the_reason_for_not_using_the_kernel_is_reported(monkeypatch, capability, reason):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setitem(sys.modules, "triton", None)
    triton_conv.triton_version.cache_clear()
    with pytest.raises(KernelMissingError, match=reason):
        triton_conv.layer_maker(torch.device("cuda", 7), torch.float16)


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
