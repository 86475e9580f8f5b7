from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import cases
from upscale.errors import MemoryExhaustedError
from upscale.models import RCANSpec, RealPLKSRSpec, RRDBSpec, SPANSpec, SRVGGSpec
from upscale.tiling import exact
from upscale.tiling.exact import ExactRun
from upscale.tiling.group import IMAGE, LayerGroup
from upscale.tiling.interfaces import PrecisionLossError
from upscale.tiling.schedule import NO_MINIMUM, MinimumTile
from upscale.tiling.wrapping import Wrap


class Canvas:
    def __init__(self, image, scale):
        self.image, self.scale, self.result = image, scale, None
        self.written = 0

    def read(self, rect):
        return self.image[:, :, rect.top : rect.bottom, rect.left : rect.right]

    def write(self, rect, tile):
        if self.result is None:
            _, _, height, width = self.image.shape
            shape = (1, tile.shape[1], height * self.scale, width * self.scale)
            self.result = torch.full(shape, torch.nan)
        self.written += rect.height * rect.width
        rect = rect.times(self.scale)
        self.result[:, :, rect.top : rect.bottom, rect.left : rect.right] = tile


class Store:
    """Fill tensors with NaN before and after use, so that a row read too early or late shows."""

    def __init__(self, offloads=0, limit=None, dtype=torch.float32):
        self.offloads, self.limit, self.dtype = offloads, limit, dtype
        self.largest = 0

    def allocate(self, rows, width, channels):
        self.largest = max(self.largest, rows)
        if self.limit is not None and rows > self.limit:
            raise RuntimeError("DefaultCPUAllocator: not enough memory")
        return torch.full((rows, width, channels), torch.nan, dtype=self.dtype)

    def recycle(self, feature_map):
        feature_map.fill_(torch.nan)

    def load(self, view):
        return view

    def offload(self):
        self.offloads -= 1
        self.limit = None
        return self.offloads >= 0


class CountingStore(Store):
    """Store that counts the values it holds."""

    held = most = 0

    def allocate(self, rows, width, channels):
        self.held += rows * width * channels
        self.most = max(self.most, self.held)
        return super().allocate(rows, width, channels)

    def recycle(self, feature_map):
        self.held -= feature_map.numel()
        super().recycle(feature_map)


def run_exact(network, image, tile, store=None, **options):
    unshuffled = F.pixel_unshuffle(image, network.unshuffle) if network.unshuffle > 1 else image
    canvas = Canvas(unshuffled, network.scale * network.unshuffle)
    options = {"groups": network.layer_groups(fine=options.pop("fine", False))} | options
    options = {"smallest": 16} | options
    run = ExactRun(
        canvas=canvas,
        store=store or Store(),
        height=unshuffled.shape[2],
        width=unshuffled.shape[3],
        tile=tile,
        **options,
    )
    run.run()
    return canvas, run


local_specs = st.one_of(
    st.builds(
        RRDBSpec,
        blocks=st.integers(1, 4),
        features=st.sampled_from([4, 16]),
        growth=st.sampled_from([2, 8]),
        upsamples=st.integers(0, 3),
    ),
    st.builds(
        RRDBSpec,
        blocks=st.integers(1, 3),
        features=st.just(8),
        growth=st.just(4),
        unshuffle=st.sampled_from([2, 4]),
    ),
    st.builds(
        SRVGGSpec,
        scale=st.integers(1, 4),
        convolutions=st.integers(0, 9),
        features=st.sampled_from([4, 16]),
    ),
    st.builds(
        SPANSpec,
        scale=st.integers(1, 4),
        features=st.sampled_from([4, 16]),
        normalised=st.booleans(),
    ),
    st.builds(
        RealPLKSRSpec,
        scale=st.integers(1, 4),
        features=st.sampled_from([4, 16]),
        blocks=st.integers(1, 2),
        kernel=st.sampled_from([1, 7, 17]),
        partial=st.integers(1, 4),
        attention=st.booleans(),
    ),
)
"""Networks whose pixels depend on their surroundings alone."""

global_specs = st.builds(
    RCANSpec,
    scale=st.sampled_from([1, 2, 3, 4, 8]),
    groups=st.integers(1, 2),
    blocks=st.integers(1, 3),
    features=st.sampled_from([4, 16]),
    reduction=st.sampled_from([2, 4]),
)
"""Networks with means of whole feature maps."""


@settings(max_examples=cases(60))
@given(
    spec=st.one_of(local_specs, global_specs),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    tile=st.integers(4, 80),
    batch=st.sampled_from([1, 3]),
    fine=st.booleans(),
    minimum=st.sampled_from([NO_MINIMUM, MinimumTile(16, 24)]),
    seed=st.integers(0, 1000),
)
def test_tiled_output_equals_untiled_output(
    random_network, spec, height, width, tile, batch, fine, minimum, seed
):
    network = random_network(spec, seed)
    side = network.unshuffle
    image = torch.rand(1, 3, height * side, width * side)
    whole = network(image)
    canvas, run = run_exact(network, image, tile, batch=batch, fine=fine, minimum=minimum)
    assert canvas.result.shape == whole.shape
    assert (canvas.result - whole).abs().max() < 1e-4 * max(1, whole.abs().max())
    assert canvas.written == height * width
    assert run.stats.done == run.stats.total


@pytest.fixture(scope="module")
def network(random_network):
    return random_network(RRDBSpec(blocks=2, features=8, growth=4))


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, 90, 70, generator=torch.Generator().manual_seed(1))


def wrapped(network, wrap, fine=False):
    """Return the network's groups with `wrap(index, group, inputs)` in place of their `run`."""

    def rewired(index, group):
        return replace(group, run=lambda inputs: wrap(index, group, inputs), fill=None)

    return [rewired(index, group) for index, group in enumerate(network.layer_groups(fine=fine))]


@pytest.mark.parametrize("fine", [False, True])
def test_feature_maps_hold_only_the_rows_between_writer_and_reader(random_network, fine):
    network = random_network(RRDBSpec(blocks=2, features=8, growth=4))
    store = Store()
    run_exact(network, torch.rand(1, 3, 400, 20), 32, store, fine=fine)
    assert store.largest <= 32 + 22


@pytest.mark.parametrize("spec", [RRDBSpec(blocks=2, features=8, growth=4), SRVGGSpec()], ids=str)
def test_fine_groups_compute_nothing_twice(random_network, spec):
    """Every convolution before the tail computes each pixel of the image once."""
    network, centres = random_network(spec), {}

    def counting(index, group, inputs):
        result = group.run(inputs)
        if group.valid:
            centres[index] = centres.get(index, 0) + result.shape[2] * result.shape[3]
        return result

    run_exact(network, torch.rand(1, 3, 50, 41), 16, groups=wrapped(network, counting, fine=True))
    assert set(centres.values()) == {50 * 41}
    assert len(centres) == (30 if isinstance(spec, RRDBSpec) else 17)


def test_out_of_memory_in_a_tile_halves_it_and_continues(network, image):
    computed = []

    def hungry(index, group, inputs):
        if index >= 3 and inputs[0].shape[2] * inputs[0].shape[3] > 42**2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        computed.append(index)
        return group.run(inputs)

    canvas, run = run_exact(network, image, 64, groups=wrapped(network, hungry))
    assert run.stats.halvings == 1
    assert run.schedule.tile == 32
    assert computed[:6] == [0, 0, 1, 1, 2, 3]  # what the large tile had done stays done
    assert run.stats.done == run.stats.total
    assert torch.allclose(canvas.result, network(image), atol=1e-5)


def test_out_of_memory_for_a_feature_map_lowers_the_row_chunk(network, image):
    canvas, run = run_exact(network, image, 80, Store(limit=60))
    assert run.stats.halvings == 1
    assert torch.allclose(canvas.result, network(image), atol=1e-5)


def test_the_minimum_tile_is_given_up_before_the_tile_is_halved(network, image):
    canvas, run = run_exact(network, image, 20, Store(limit=45), minimum=MinimumTile(rows=60))
    assert (run.stats.halvings, run.schedule.minimum) == (0, NO_MINIMUM)
    assert run.stats.done == run.stats.total
    assert torch.allclose(canvas.result, network(image), atol=1e-5)


def test_a_minimum_below_the_tile_does_not_delay_halving(network, image):
    rows = []

    def hungry(index, group, inputs):
        rows.append(inputs[0].shape[2])
        if len(rows) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return group.run(inputs)

    _, run = run_exact(
        network, image, 80, minimum=MinimumTile(rows=16), groups=wrapped(network, hungry)
    )
    assert run.stats.halvings == 1
    assert rows[1] < rows[0], "the same tile is not repeated"


def test_a_batch_is_given_up_before_the_tile_is_halved(network, image):
    def hungry(index, group, inputs):
        if inputs[0].shape[0] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return group.run(inputs)

    canvas, run = run_exact(network, image, 20, batch=4, groups=wrapped(network, hungry))
    assert run.stats.halvings == 0
    assert torch.allclose(canvas.result, network(image), atol=1e-5)


def test_neighbouring_tiles_of_one_shape_share_a_batch(network, image):
    sizes = []

    def counting(index, group, inputs):
        assert len({tensor.shape[0] for tensor in inputs}) == 1
        sizes.append(inputs[0].shape[0])
        return group.run(inputs)

    canvas, run = run_exact(network, image, 10, batch=3, groups=wrapped(network, counting))
    assert max(sizes) == 3
    assert sum(sizes) == run.stats.done
    assert torch.allclose(canvas.result, network(image), atol=1e-5)


def toy(sources, run, halo=0, **options):
    """A layer group of 3 channels."""
    return LayerGroup("toy", sources, halo, 1, 3, 6, run, **options)


def run_toys(groups, image, tile, store=None):
    canvas = Canvas(image, 1)
    _, _, height, width = image.shape
    run = ExactRun(
        groups, canvas, store or Store(), height=height, width=width, tile=tile, smallest=4
    )
    run.run()
    return canvas.result


def test_rows_are_released_after_their_last_reader_even_if_other_sources_are_read_later():
    class Counter(Store):
        held = most = 0

        def allocate(self, rows, width, channels):
            self.held += rows
            self.most = max(self.most, self.held)
            return super().allocate(rows, width, channels)

        def recycle(self, feature_map):
            self.held -= feature_map.shape[0]
            super().recycle(feature_map)

    def first(inputs):
        return inputs[0]

    def add(inputs):
        return inputs[0] + inputs[1]

    groups = [toy((IMAGE,), first), toy((0,), first), toy((0, 1), add), toy((0, 2), add)]
    image, store = torch.rand(1, 3, 200, 9), Counter()
    assert torch.equal(run_toys(groups, image, 8, store), 3 * image)
    assert store.most <= 4 * 8 + 2
    assert store.held == 0


@pytest.mark.parametrize("tile", [5, 100])
def test_groups_without_padding_read_exact_zeros_around_the_image(tile):
    image = torch.rand(1, 3, 12, 11) + 1
    padded = F.pad(image, (1, 1, 1, 1))
    corners = []

    def valid(inputs):
        values = inputs[0][0, 0]
        corners.append(values.numel())
        assert bool(((values == 0) | (values >= 1)).all())
        return inputs[0][:, :, :-2, :-2] + 10 * inputs[0][:, :, 2:, 2:]

    groups = [toy((IMAGE,), lambda inputs: inputs[0]), toy((0,), valid, halo=1, valid=True)]
    result = run_toys(groups, image, tile)
    assert corners
    assert torch.equal(result, padded[:, :, :-2, :-2] + 10 * padded[:, :, 2:, 2:])


def test_feature_maps_are_offloaded_when_the_smallest_tile_does_not_fit(network, image):
    store = Store(offloads=1, limit=30)
    canvas, run = run_exact(network, image, 64, store, smallest=16)
    assert run.schedule.tile == 16
    assert store.offloads == 0
    assert torch.allclose(canvas.result, network(image), atol=1e-5)


def test_out_of_memory_in_a_write_is_recovered_and_no_tile_is_written_twice(network, image):
    class Scarce(Canvas):
        failed = False

        def write(self, rect, tile):
            if self.written > 1000 and not self.failed:
                self.failed = True
                raise torch.OutOfMemoryError("CUDA out of memory")
            super().write(rect, tile)

    canvas = Scarce(image, network.scale)
    run = ExactRun(
        network.layer_groups(), canvas, Store(), height=90, width=70, tile=16, smallest=4, batch=3
    )
    run.run()
    assert canvas.failed and canvas.written == 90 * 70
    assert run.stats.done == run.stats.total
    assert torch.allclose(canvas.result, network(image), atol=1e-5)


class StoreFailingOnce(Store):
    """Memory that runs out at one allocation, or at all of them until it is offloaded twice."""

    def __init__(self, place=None, refused=False):
        super().__init__(offloads=2)
        self.place, self.refused, self.count = place, refused, 0

    def allocate(self, rows, width, channels):
        self.count += 1
        if self.count - 1 == self.place:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.refused and self.count > 4 and self.offloads > 0:
            raise RuntimeError("CUDA error: out of memory")
        return super().allocate(rows, width, channels)


@pytest.mark.parametrize("wrap", [Wrap(), Wrap(rows=True, columns=True)], ids=["plain", "wrap"])
@pytest.mark.parametrize("fine", [False, True], ids=["coarse", "fine"])
def test_out_of_memory_in_each_allocation_of_a_feature_map_is_recovered(random_network, fine, wrap):
    network = random_network(RRDBSpec(blocks=1, features=4, growth=2))
    image, store = torch.rand(1, 3, 24, 20), StoreFailingOnce()
    expected, _ = run_exact(network, image, 16, store, fine=fine, wrap=wrap, smallest=8)
    assert store.count > 8
    for place in range(store.count):
        canvas, run = run_exact(
            network, image, 16, StoreFailingOnce(place), fine=fine, wrap=wrap, smallest=8
        )
        assert run.stats.halvings == 1
        assert torch.allclose(canvas.result, expected.result, atol=1e-5)


def test_feature_maps_that_cannot_be_moved_are_moved_on(network, image):
    store = StoreFailingOnce(refused=True)
    canvas, _ = run_exact(network, image, 16, store)
    assert store.offloads == 0
    assert torch.allclose(canvas.result, network(image), atol=1e-5)


@pytest.mark.parametrize("fine", [False, True])
def test_margins_are_cleared_only_for_groups_that_read_them(network, image, fine, monkeypatch):
    cleared, clear = [], exact._clear
    monkeypatch.setattr(exact, "_clear", lambda part: (cleared.append(part.shape), clear(part)))
    canvas, run = run_exact(network, image, 40, fine=fine)
    assert bool(cleared) == any(group.valid for group in run.groups) == fine
    assert torch.allclose(canvas.result, network(image), atol=1e-5)


def test_memory_exhausted_error_gives_advice(network, image):
    def full(index, group, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(MemoryExhaustedError, match=r"smallest tile \(16\).*use"):
        run_exact(network, image, 64, Store(offloads=2), groups=wrapped(network, full))


def test_other_runtime_errors_are_not_treated_as_out_of_memory(network, image):
    def broken(index, group, inputs):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_exact(network, image, 64, groups=wrapped(network, broken))


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_a_tile_that_is_not_finite_is_computed_again_in_fp32(network, image, poison):
    """A half-precision network that breaks on one tile of one group."""
    seen = []

    def breaking(index, group, inputs):
        result = group.run([tensor.float() for tensor in inputs]).bfloat16()
        seen.append(index)
        if seen.count(4) == 2 and index == 4:
            result[0, 0, 3, 3] = poison
        return result

    canvas, run = run_exact(
        network,
        image.bfloat16(),
        40,
        Store(dtype=torch.bfloat16),
        groups=wrapped(network, breaking),
        fp32_groups=network.layer_groups,
    )
    assert run.stats.fp32_fallbacks == 1
    assert canvas.result.isfinite().all()
    assert (canvas.result - network(image)).abs().max() < 0.05


def test_every_tile_computed_again_in_fp32_is_counted(network, image):
    seen = []

    def breaking(index, group, inputs):
        result = group.run([tensor.float() for tensor in inputs]).bfloat16()
        seen.append(index)
        if index == 4 and seen.count(4) in (1, 3, 4):
            result[0, 0, 3, 3] = torch.inf
        return result

    _, run = run_exact(
        network,
        image.bfloat16(),
        30,
        Store(dtype=torch.bfloat16),
        groups=wrapped(network, breaking),
        fp32_groups=network.layer_groups,
    )
    assert run.stats.fp32_fallbacks == 3


@pytest.mark.parametrize("checks_tiles", [False, True])
def test_tiles_are_written_in_place_only_if_they_are_not_checked(network, image, checks_tiles):
    filled = []

    def counting(group):
        if group.fill is None:
            return group

        def fill(inputs, target):
            filled.append(group.name)
            group.fill(inputs, target)

        return replace(group, fill=fill)

    groups = [counting(group) for group in network.layer_groups(fine=True)]
    fp32_groups = network.layer_groups if checks_tiles else None
    canvas, _ = run_exact(network, image, 40, groups=groups, fp32_groups=fp32_groups)
    assert bool(filled) != checks_tiles
    assert torch.allclose(canvas.result, network(image), atol=1e-5)


def test_values_beyond_half_precision_are_reported_not_written(network, image):
    def huge(index, group, inputs):
        return torch.full_like(group.run([t.float() for t in inputs]), 1e6).half()

    def fp32_groups():
        return wrapped(network, lambda i, group, inputs: group.run(inputs) + 1e6)

    with pytest.raises(PrecisionLossError):
        run_exact(
            network,
            image.half(),
            40,
            Store(dtype=torch.float16),
            groups=wrapped(network, huge),
            fp32_groups=fp32_groups,
        )
