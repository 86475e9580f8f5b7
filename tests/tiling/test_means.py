"""Groups that read the mean of a whole feature map, as channel attention does."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.budget import cases
from tests.tiling.test_exact import (
    Canvas,
    CountingStore,
    Store,
    StoreFailingOnce,
    global_specs,
    run_exact,
    run_toys,
    toy,
    wrapped,
)
from upscale.models import RCANSpec
from upscale.tiling.exact import ExactRun
from upscale.tiling.group import IMAGE, LayerGroup
from upscale.tiling.schedule import plan
from upscale.tiling.wrapping import Wrap

SPEC = RCANSpec(2, groups=2, blocks=2, features=8, reduction=4)


@pytest.fixture(scope="module")
def network(random_network):
    return random_network(SPEC)


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, 90, 70, generator=torch.Generator().manual_seed(1))


def circular(network):
    """Return the network with convolutions that go round the image."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.padding_mode = "circular"
    return network


@settings(max_examples=cases(30))
@given(
    spec=global_specs,
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    tile=st.integers(4, 60),
    batch=st.sampled_from([1, 3]),
    fine=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_an_image_that_repeats_has_the_mean_of_one_period(
    random_network, spec, height, width, tile, batch, fine, seed
):
    network = random_network(spec, seed)
    image = torch.rand(1, 3, height, width)
    wrap = Wrap(rows=True, columns=True)
    canvas, _ = run_exact(network, image, tile, wrap=wrap, batch=batch, fine=fine)
    # The tail goes round the upscaled image there, which is the same for these networks.
    expected = circular(network)(image)
    assert (canvas.result - expected).abs().max() < 1e-4 * max(1, expected.abs().max())


@pytest.mark.parametrize("store", [Store, lambda: Store(offloads=1, limit=30)])
def test_a_mean_does_not_depend_on_the_tiles(network, image, store):
    def means(tile):
        seen = {}

        def noting(index, group, inputs):
            if group.means:
                seen.setdefault(index, inputs[-1].clone())
                assert torch.equal(inputs[-1], seen[index])
            return group.run(inputs)

        run_exact(network, image, tile, store(), groups=wrapped(network, noting))
        return seen

    first, second = means(24), means(100)
    assert len(first) == 4
    assert {mean.shape for mean in first.values()} == {(1, 8, 1, 1)}
    # Convolutions of other tiles differ in the last bits, and their means with them.
    assert all((first[index] - second[index]).abs().max() < 1e-5 for index in first)


def test_the_mean_of_the_image_is_summed_in_fp64():
    """In fp32, the ones would be lost beside the large numbers."""
    image = torch.tensor([1e9, 1, -1e9]).repeat(1, 3, 100, 30)
    seen = []

    def spread(inputs):
        seen.append(inputs[1])
        return inputs[0] * 0 + inputs[1]

    groups = [toy((IMAGE,), lambda inputs: inputs[0]), toy((0,), spread, means=(0,))]
    result = run_toys(groups, image, 32)
    assert torch.equal(result, torch.tensor(1 / 3).expand_as(result))
    assert all(torch.equal(mean, seen[0]) for mean in seen)


def test_a_map_of_which_only_the_mean_is_read_is_released():
    image, held = torch.rand(1, 3, 40, 9), []

    class Counter(Store):
        def allocate(self, rows, width, channels):
            held.append(rows)
            return super().allocate(rows, width, channels)

        def recycle(self, feature_map):
            held.append(-len(feature_map))
            super().recycle(feature_map)

    groups = [
        toy((IMAGE,), lambda inputs: inputs[0] * 2),
        toy((IMAGE,), lambda inputs: inputs[0] + inputs[1], means=(0,)),
    ]
    result = run_toys(groups, image, 8, Counter())
    assert torch.allclose(result, image + 2 * image.mean((2, 3), keepdim=True))
    assert sum(held) == 0


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("tile", [16, 48])
def test_no_more_values_are_held_than_planned(random_network, fine, tile):
    network = random_network(replace(SPEC, blocks=3))
    store = CountingStore()
    run_exact(network, torch.rand(1, 3, 400, 30), tile, store, fine=fine)
    planned = plan(network.layer_groups(fine=fine), 400, 30 + 2, tile)
    assert 0.7 * planned.feature_maps < store.most <= planned.feature_maps
    assert planned.carried > 400 * 30 * 3 * 8, "three whole maps"
    assert store.held == 0


@pytest.mark.parametrize("wrap", [Wrap(), Wrap(rows=True, columns=True)], ids=["plain", "wrap"])
@pytest.mark.parametrize("fine", [False, True], ids=["coarse", "fine"])
def test_out_of_memory_in_each_allocation_of_a_feature_map_is_recovered(random_network, fine, wrap):
    network = random_network(RCANSpec(1, groups=1, blocks=2, features=4, reduction=2))
    image, store = torch.rand(1, 3, 24, 20), StoreFailingOnce()
    expected, _ = run_exact(network, image, 16, store, fine=fine, wrap=wrap, smallest=8)
    assert store.count > 8
    for place in range(store.count):
        canvas, run = run_exact(
            network, image, 16, StoreFailingOnce(place), fine=fine, wrap=wrap, smallest=8
        )
        assert run.stats.halvings == 1
        assert torch.allclose(canvas.result, expected.result, atol=1e-5)


def test_out_of_memory_in_a_mean_is_recovered(network, image):
    class Scarce(Store):
        failures = 0

        def load(self, view):
            if view.shape[:2] == (1, 1) and self.failures < 3:
                self.failures += 1
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().load(view)

    store = Scarce(offloads=1)
    canvas, run = run_exact(network, image, 40, store, smallest=10)
    assert (store.failures, run.stats.halvings, store.offloads) == (3, 2, 0)
    assert run.stats.done == run.stats.total
    assert torch.allclose(canvas.result, network(image), atol=1e-5)


@pytest.mark.parametrize("offloads", [1, 2])
def test_whole_maps_are_offloaded_when_the_smallest_tile_does_not_fit(network, image, offloads):
    class Full(Store):
        count = 0

        def allocate(self, rows, width, channels):
            self.count += 1
            if self.count > 20 and self.offloads > 0:
                raise RuntimeError("CUDA error: out of memory")
            return super().allocate(rows, width, channels)

    store = Full(offloads=offloads)
    canvas, run = run_exact(network, image, 16, store, smallest=16)
    assert store.offloads == 0
    assert run.stats.done == run.stats.total
    assert torch.allclose(canvas.result, network(image), atol=1e-5)


def test_a_tile_computed_again_in_fp32_reads_the_mean_in_fp32(network, image):
    kinds = []

    def breaking(index, group, inputs):
        result = group.run([tensor.float() for tensor in inputs]).bfloat16()
        if group.means and len(kinds) < 1:
            kinds.append(inputs[-1].dtype)
            result[0, 0, 0, 0] = torch.inf
        return result

    def fp32_groups():
        def noting(index, group, inputs):
            kinds.extend(tensor.dtype for tensor in inputs)
            return group.run(inputs)

        return wrapped(network, noting)

    canvas, run = run_exact(
        network,
        image.bfloat16(),
        40,
        Store(dtype=torch.bfloat16),
        groups=wrapped(network, breaking),
        fp32_groups=fp32_groups,
    )
    assert run.stats.fp32_fallbacks == 1
    assert kinds == [torch.bfloat16, *[torch.float32] * 3]
    assert (canvas.result - network(image)).abs().max() < 0.05


def test_squeeze_and_excitation_needs_no_engine_of_its_own():
    """Another network with global pooling, after Hu et al. (arXiv 1709.01507), figure 2."""
    torch.manual_seed(0)
    squeeze = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 3), nn.Sigmoid())
    convolution = nn.Conv2d(3, 3, 3, padding=1)

    def excite(inputs):
        deep, mean = inputs
        return deep * squeeze(mean[:, :, 0, 0])[:, :, None, None]

    groups = [
        LayerGroup("convolution", (IMAGE,), 1, 1, 3, 6, lambda inputs: convolution(inputs[0])),
        LayerGroup("excitation", (0,), 0, 1, 3, 6, excite, means=(0,)),
    ]
    image = torch.rand(1, 3, 50, 40)
    canvas = Canvas(image, 1)
    with torch.inference_mode():
        ExactRun(groups, canvas, Store(), height=50, width=40, tile=8, smallest=4).run()
        deep = convolution(image)
        expected = excite([deep, deep.mean((2, 3), keepdim=True)])
    assert (canvas.result - expected).abs().max() < 1e-6
