from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from upscale.errors import MemoryExhaustedError
from upscale.models import RRDBSpec, SRVGGSpec, Stage
from upscale.tiling.interfaces import PrecisionLossError
from upscale.tiling.schedule import NO_FLOOR, Floor
from upscale.tiling.staged import StagedRun


class Canvas:
    def __init__(self, planes, scale):
        self.planes, self.scale, self.result = planes, scale, None
        self.written = 0

    def read(self, rect):
        return self.planes[:, :, rect.top : rect.bottom, rect.left : rect.right]

    def write(self, rect, tile):
        if self.result is None:
            _, _, height, width = self.planes.shape
            shape = (1, tile.shape[1], height * self.scale, width * self.scale)
            self.result = torch.full(shape, torch.nan)
        self.written += rect.height * rect.width
        rect = rect.times(self.scale)
        self.result[:, :, rect.top : rect.bottom, rect.left : rect.right] = tile


class Store:
    """Fills planes with NaN before and after, so that a row read too early or too late shows."""

    def __init__(self, retreats=0, limit=None, dtype=torch.float32):
        self.retreats, self.limit, self.dtype = retreats, limit, dtype
        self.largest = 0

    def allocate(self, rows, width, channels):
        self.largest = max(self.largest, rows)
        if self.limit is not None and rows > self.limit:
            raise RuntimeError("DefaultCPUAllocator: not enough memory")
        return torch.full((rows, width, channels), torch.nan, dtype=self.dtype)

    def recycle(self, plane):
        plane.fill_(torch.nan)

    def load(self, view):
        return view

    def retreat(self):
        self.retreats -= 1
        self.limit = None
        return self.retreats >= 0


def run_staged(network, picture, tile, store=None, **options):
    planes = F.pixel_unshuffle(picture, network.unshuffle) if network.unshuffle > 1 else picture
    canvas = Canvas(planes, network.scale * network.unshuffle)
    options = {"stages": network.stages(fine=options.pop("fine", False))} | options
    run = StagedRun(
        canvas=canvas,
        store=store or Store(),
        height=planes.shape[2],
        width=planes.shape[3],
        tile=tile,
        **options,
    )
    run.run()
    return canvas, run


specs = st.one_of(
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
)


@settings(deadline=None, max_examples=60)
@given(
    spec=specs,
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    tile=st.integers(4, 80),
    batch=st.sampled_from([1, 3]),
    fine=st.booleans(),
    floor=st.sampled_from([NO_FLOOR, Floor(16, 24)]),
    seed=st.integers(0, 1000),
)
def test_tiles_give_what_the_whole_picture_gives(
    random_network, spec, height, width, tile, batch, fine, floor, seed
):
    network = random_network(spec, seed)
    side = network.unshuffle
    picture = torch.rand(1, 3, height * side, width * side)
    whole = network(picture)
    canvas, run = run_staged(network, picture, tile, batch=batch, fine=fine, floor=floor)
    assert canvas.result.shape == whole.shape
    assert (canvas.result - whole).abs().max() < 1e-4 * max(1, whole.abs().max())
    assert canvas.written == height * width
    assert run.tally.done == run.tally.total


@pytest.fixture(scope="module")
def network(random_network):
    return random_network(RRDBSpec(blocks=2, features=8, growth=4))


@pytest.fixture(scope="module")
def picture():
    return torch.rand(1, 3, 90, 70, generator=torch.Generator().manual_seed(1))


def wrapped(network, wrap, fine=False):
    """The network's stages with `wrap(index, stage, inputs)` instead of their `run`."""

    def rewired(index, stage):
        return Stage(
            stage.name,
            stage.sources,
            stage.halo,
            stage.scale,
            stage.channels,
            stage.workspace,
            lambda inputs: wrap(index, stage, inputs),
            stage.valid,
        )

    return [rewired(index, stage) for index, stage in enumerate(network.stages(fine=fine))]


@pytest.mark.parametrize("fine", [False, True])
def test_planes_hold_only_what_lies_between_writer_and_reader(random_network, fine):
    network = random_network(RRDBSpec(blocks=2, features=8, growth=4))
    store = Store()
    run_staged(network, torch.rand(1, 3, 400, 20), 32, store, fine=fine)
    assert store.largest <= 32 + 22


@pytest.mark.parametrize("spec", [RRDBSpec(blocks=2, features=8, growth=4), SRVGGSpec()], ids=str)
def test_fine_stages_compute_nothing_twice(random_network, spec):
    """Every convolution before the tail sees each pixel of the picture as a centre once."""
    network, centres = random_network(spec), {}

    def counting(index, stage, inputs):
        result = stage.run(inputs)
        if stage.valid:
            centres[index] = centres.get(index, 0) + result.shape[2] * result.shape[3]
        return result

    run_staged(network, torch.rand(1, 3, 50, 41), 16, stages=wrapped(network, counting, fine=True))
    assert set(centres.values()) == {50 * 41}
    assert len(centres) == (30 if isinstance(spec, RRDBSpec) else 17)


def test_out_of_memory_in_a_tile_halves_it_and_goes_on(network, picture):
    computed = []

    def hungry(index, stage, inputs):
        if index >= 3 and inputs[0].shape[2] * inputs[0].shape[3] > 42**2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        computed.append(index)
        return stage.run(inputs)

    canvas, run = run_staged(network, picture, 64, stages=wrapped(network, hungry))
    assert run.tally.halvings == 1
    assert run.schedule.tile == 32
    assert computed[:6] == [0, 0, 1, 1, 2, 3]  # what the large tile had done stays done
    assert run.tally.done == run.tally.total
    assert torch.allclose(canvas.result, network(picture), atol=1e-5)


def test_out_of_memory_for_a_plane_lowers_the_band(network, picture):
    canvas, run = run_staged(network, picture, 80, Store(limit=60))
    assert run.tally.halvings == 1
    assert torch.allclose(canvas.result, network(picture), atol=1e-5)


def test_a_floor_is_given_up_before_the_tile_is(network, picture):
    canvas, run = run_staged(network, picture, 20, Store(limit=45), floor=Floor(rows=60))
    assert (run.tally.halvings, run.schedule.floor) == (0, NO_FLOOR)
    assert run.tally.done == run.tally.total
    assert torch.allclose(canvas.result, network(picture), atol=1e-5)


def test_a_floor_below_the_tile_is_no_step_on_the_way(network, picture):
    tried = []

    def hungry(index, stage, inputs):
        tried.append(inputs[0].shape[2])
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return stage.run(inputs)

    _, run = run_staged(network, picture, 80, floor=Floor(rows=16), stages=wrapped(network, hungry))
    assert run.tally.halvings == 1
    assert tried[1] < tried[0], "the same tile is not tried again"


def test_a_shared_batch_is_given_up_before_the_tile_is(network, picture):
    def hungry(index, stage, inputs):
        if inputs[0].shape[0] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return stage.run(inputs)

    canvas, run = run_staged(network, picture, 20, batch=4, stages=wrapped(network, hungry))
    assert run.tally.halvings == 0
    assert torch.allclose(canvas.result, network(picture), atol=1e-5)


def test_planes_move_when_the_smallest_tile_does_not_fit(network, picture):
    store = Store(retreats=1, limit=30)
    canvas, run = run_staged(network, picture, 64, store, smallest=16)
    assert run.schedule.tile == 16
    assert store.retreats == 0
    assert torch.allclose(canvas.result, network(picture), atol=1e-5)


def test_it_fails_with_advice_when_nothing_is_left_to_try(network, picture):
    def full(index, stage, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(MemoryExhaustedError, match=r"smallest tile \(16\).*use"):
        run_staged(network, picture, 64, Store(retreats=2), stages=wrapped(network, full))


def test_other_errors_are_not_taken_for_memory(network, picture):
    def broken(index, stage, inputs):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        run_staged(network, picture, 64, stages=wrapped(network, broken))


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_a_tile_that_is_not_finite_is_computed_again_in_fp32(network, picture, poison):
    """A half-precision network that breaks on one tile of one stage."""
    seen = []

    def breaking(index, stage, inputs):
        result = stage.run([tensor.float() for tensor in inputs]).bfloat16()
        seen.append(index)
        if seen.count(4) == 2 and index == 4:
            result[0, 0, 3, 3] = poison
        return result

    canvas, run = run_staged(
        network,
        picture.bfloat16(),
        40,
        Store(dtype=torch.bfloat16),
        stages=wrapped(network, breaking),
        precise=network.stages,
    )
    assert run.tally.fp32_tiles == 1
    assert canvas.result.isfinite().all()
    assert (canvas.result - network(picture)).abs().max() < 0.05


def test_values_beyond_half_precision_are_reported_not_written(network, picture):
    def huge(index, stage, inputs):
        return torch.full_like(stage.run([t.float() for t in inputs]), 1e6).half()

    def precise():
        return wrapped(network, lambda i, stage, inputs: stage.run(inputs) + 1e6)

    with pytest.raises(PrecisionLossError):
        run_staged(
            network,
            picture.half(),
            40,
            Store(dtype=torch.float16),
            stages=wrapped(network, huge),
            precise=precise,
        )
