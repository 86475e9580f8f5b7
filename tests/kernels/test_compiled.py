from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import cases
from tests.kernels.layers import in_double, random_layer, within_nan
from tests.kernels.libraries import LIBRARIES
from upscale.kernels import compiled
from upscale.kernels.compiled import KernelMissingError, Library, compiled_layer


def accuracy(dtype):
    """Return the tolerance for results around one."""
    return 3e-5 if dtype == torch.float32 else 2**-8


@pytest.mark.parametrize("library", LIBRARIES)
@settings(max_examples=cases(150))
@given(
    channels=st.lists(st.sampled_from([16, 32, 48, 64, 80]), min_size=1, max_size=5),
    outputs=st.integers(1, 70),
    height=st.integers(1, 33),
    width=st.integers(1, 90),
    padding=st.integers(0, 1),
    upsample=st.integers(1, 2),
    slope=st.sampled_from(["none", "one", "each"]),
    residuals=st.integers(0, 2),
    threads=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_any_layer_agrees_with_torch_and_writes_nothing_else(
    library, channels, outputs, height, width, padding, upsample, slope, residuals, threads, seed
):
    dtype = library.dtype
    generator = torch.Generator().manual_seed(seed)
    height, width = (max(side, 3) if padding == 0 else side for side in (height, width))
    layer = random_layer(
        generator, sum(channels), outputs, slope, padding=padding, upsample=upsample, scale=0.3
    )
    layer.convolution.to(dtype)
    maps = [torch.randn(1, c, height, width, generator=generator).to(dtype) for c in channels]
    edge = 2 * padding - 2
    extent = (1, outputs, height * upsample + edge, width * upsample + edge)
    added = [torch.randn(extent, generator=generator).to(dtype) for _ in range(residuals)]
    expected = in_double(layer)(
        [tensor.double() for tensor in maps], [tensor.double() for tensor in added]
    )
    target, place = within_nan(torch.zeros(extent, dtype=dtype))
    before, count = target.clone(), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        run = compiled_layer(library, layer)
        run([within_nan(tensor)[1] for tensor in maps], [within_nan(x)[1] for x in added], place)
    finally:
        torch.set_num_threads(count)
    assert (place - expected).abs().max() < accuracy(dtype) * max(1, expected.abs().max())
    place.copy_(torch.zeros(extent))
    assert torch.equal(target.nan_to_num(7), before.nan_to_num(7))


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_number_of_threads_changes_nothing(library):
    generator = torch.Generator().manual_seed(0)
    layer = random_layer(generator, 96, 64, "one", padding=1)
    layer.convolution.to(library.dtype)
    x = torch.randn(1, 96, 130, 90, generator=generator).to(library.dtype)
    count, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 9):
            torch.set_num_threads(threads)
            results.append(compiled_layer(library, layer)([x]))
    finally:
        torch.set_num_threads(count)
    assert all(torch.equal(result, results[0]) for result in results)


def bits(tensor):
    return tensor.permute(0, 2, 3, 1).view(torch.int16).numpy()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_forked_process_computes_without_its_parents_threads(library):
    layer = random_layer(torch.Generator().manual_seed(0), 32, 32, padding=1)
    layer.convolution.to(library.dtype)
    run = compiled_layer(library, layer)
    x = torch.ones(1, 32, 64, 64, dtype=library.dtype).to(memory_format=torch.channels_last)
    count = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        expected = run([x])
        child = os.fork()
        if child == 0:  # torch's own threads would hang here
            os._exit(int(not np.array_equal(bits(run([x])), bits(expected))))
        assert os.waitpid(child, 0)[1] == 0
    finally:
        torch.set_num_threads(count)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("reusable", [False, True])
def test_only_reusable_buffers_are_reused(library, reusable, monkeypatch):
    layer = random_layer(torch.Generator().manual_seed(0), 16, 16, padding=1, reusable=reusable)
    layer.convolution.to(library.dtype)
    run = compiled_layer(library, layer)
    image = torch.rand(1, 16, 20, 30).to(library.dtype)
    first, expected = run([image]), run([image]).clone()
    assert (run([image]).data_ptr() == first.data_ptr()) == reusable
    smaller = run([image[:, :, :12]])
    assert (smaller.data_ptr() == first.data_ptr()) == reusable
    assert torch.equal(smaller[:, :, :11], expected[:, :, :11])
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run, [image]).result().data_ptr() != first.data_ptr()
    monkeypatch.setattr(compiled, "MAX_KEPT", 16 * 20 * 30 - 1)
    assert run([image]).data_ptr() != first.data_ptr()


@pytest.mark.parametrize("library", LIBRARIES)
def test_several_threads_compute_at_once(library):
    generator = torch.Generator().manual_seed(0)
    layer = random_layer(generator, 64, 32, "one", padding=1)
    layer.convolution.to(library.dtype)
    run = compiled_layer(library, layer)
    maps = [torch.randn(1, 64, 50, 60 + i, generator=generator) for i in range(8)]
    maps = [each.to(library.dtype) for each in maps]
    expected = [run([each]) for each in maps]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda each: run([each]), maps * 5))
    assert all(torch.equal(one, other) for one, other in zip(results, expected * 5, strict=True))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(
    ("channels", "dtype", "batch"),
    [
        (24, torch.float32, 1),
        (3, torch.float32, 1),
        (32, torch.float32, 2),
        (32, torch.bfloat16, 1),
    ],
)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_any_channels_batch_and_precision_are_computed(library, channels, layout, dtype, batch):
    generator = torch.Generator().manual_seed(0)
    layer = random_layer(generator, channels, 32, "one", padding=1)
    layer.convolution.to(dtype)
    x = torch.randn(batch, channels, 9, 11, generator=generator).to(dtype)
    x = x.contiguous(memory_format=layout)
    expected = F.leaky_relu(layer.convolution(x), 0.2)
    result = compiled_layer(library, layer)([x])
    assert result.dtype == dtype
    assert (result.float() - expected.float()).abs().max() < 10 * accuracy(dtype)


@pytest.mark.parametrize("library", LIBRARIES)
def test_planar_maps_are_supported(library, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    layer = random_layer(generator, 32, 32, padding=1)
    layer.convolution.to(library.dtype)
    maps = [torch.randn(1, 16, 9, 11, generator=generator).to(library.dtype) for _ in range(2)]
    expected = layer.convolution(torch.cat(maps, 1)) + maps[0].repeat(1, 2, 1, 1)
    monkeypatch.setattr(compiled, "torch_layer", lambda layer: None)
    result = compiled_layer(library, layer)(maps, [maps[0].repeat(1, 2, 1, 1)])
    assert (result - expected).abs().max() < 10 * accuracy(library.dtype)


@pytest.mark.parametrize("library", LIBRARIES)
def test_packing_keeps_the_values_of_the_networks_weights(library):
    layer = random_layer(torch.Generator().manual_seed(0), 64, 64, padding=1)
    layer.convolution.to(library.dtype)
    before = layer.convolution.weight.clone()
    compiled_layer(library, layer)
    assert torch.equal(layer.convolution.weight, before)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("library", LIBRARIES)
def test_values_that_are_not_finite_stay_so(library, value):
    layer = random_layer(torch.Generator().manual_seed(0), 16, 16, padding=1)
    layer.convolution.to(library.dtype)
    image = torch.ones(1, 16, 9, 9, dtype=library.dtype)
    image[0, 3, 4, 4] = value
    assert not torch.isfinite(compiled_layer(library, layer)([image])[:, :, 3:6, 3:6]).any()


def test_bf16_needs_no_matrix_registers(monkeypatch):
    names = {key: file for key, file in compiled.LIBRARIES.items() if key != compiled.AMX}
    monkeypatch.setattr(compiled, "LIBRARIES", names)
    if all(each.values[0] is None for each in LIBRARIES):
        pytest.skip("the kernels cannot be compiled here")
    library = compiled.library_for(torch.bfloat16)
    generator = torch.Generator().manual_seed(0)
    layer = random_layer(generator, 32, 16, "one", padding=1)
    layer.convolution.to(torch.bfloat16)
    x = torch.randn(1, 32, 20, 20, generator=generator).to(torch.bfloat16)
    result, exact = compiled_layer(library, layer)([x]), in_double(layer)([x.double()])
    rounding = (exact.to(torch.bfloat16) - exact).abs().mean()
    assert result.dtype == torch.bfloat16
    assert (result - exact).abs().mean() < 1.01 * rounding  # the sums themselves are exact


def test_a_library_built_from_other_sources_is_rejected(monkeypatch):
    if all(each.values[0] is None for each in LIBRARIES):
        pytest.skip("the kernels cannot be compiled here")
    monkeypatch.setattr(compiled, "_Job", compiled._Map)
    with pytest.raises(KernelMissingError, match="reinstall the package"):
        Library.load(compiled.cpu_capability())


@pytest.mark.parametrize("machine", ["aarch64", "arm64", "ARM64"])
def test_arm64_has_a_library_for_fp32_only(machine, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: machine)
    with pytest.raises(KernelMissingError, match="made for AVX2, AVX-512 and NEON, not for NEON"):
        compiled.library_for(torch.bfloat16)
    monkeypatch.setattr(Library, "load", lambda ability: ability)
    assert compiled.library_for(torch.float32) == compiled.NEON
