"""Images that repeat, against the middle of an image that is repeated beforehand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import cases
from tests.tiling.test_exact import Canvas, Store, local_specs, run_exact
from upscale.models import RRDBSpec, SRVGGSpec
from upscale.tiling.blended import BlendedRun
from upscale.tiling.exact import ExactRun
from upscale.tiling.group import IMAGE, LayerGroup
from upscale.tiling.schedule import NO_MINIMUM, MinimumTile, plan
from upscale.tiling.wrapping import Wrap, WrappedMargin, spans

BOTH = Wrap(rows=True, columns=True)
directions = st.sampled_from([Wrap(rows=True), Wrap(columns=True), BOTH])


def repeated(network, image, wrap, reach=30):
    """Return the network's output for the middle copy of an image that repeats."""
    copies = [
        2 * -(-reach * network.unshuffle // length) + 1 if wraps else 1
        for length, wraps in zip(image.shape[2:], (wrap.rows, wrap.columns), strict=True)
    ]
    whole = network(image.repeat(1, 1, *copies))
    height, width = (side * network.scale for side in image.shape[2:])
    top, left = copies[0] // 2 * height, copies[1] // 2 * width
    return whole[:, :, top : top + height, left : left + width]


@settings(max_examples=cases(60))
@given(
    spec=local_specs,
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    wrap=directions,
    tile=st.integers(4, 60),
    batch=st.sampled_from([1, 3]),
    fine=st.booleans(),
    minimum=st.sampled_from([NO_MINIMUM, MinimumTile(16, 24)]),
    seed=st.integers(0, 1000),
)
def test_tiles_equal_the_middle_of_a_repeated_image(
    random_network, spec, height, width, wrap, tile, batch, fine, minimum, seed
):
    network = random_network(spec, seed)
    side = network.unshuffle
    image = torch.rand(1, 3, height * side, width * side)
    whole = repeated(network, image, wrap, reach=80)
    canvas, run = run_exact(
        network, image, tile, wrap=wrap, batch=batch, fine=fine, minimum=minimum
    )
    assert canvas.result.shape == whole.shape
    assert (canvas.result - whole).abs().max() < 1e-4 * max(1, whole.abs().max())
    assert canvas.written == height * width
    assert run.stats.done == run.stats.total


def test_a_shifted_image_gives_the_shifted_result(random_network):
    network = random_network(RRDBSpec(blocks=3, features=8, growth=4))
    image = torch.rand(1, 3, 37, 29)
    result = run_exact(network, image, 12, wrap=BOTH)[0].result
    moved = run_exact(network, image.roll((11, -5), (2, 3)), 20, wrap=BOTH)[0].result
    assert (moved - result.roll((44, -20), (2, 3))).abs().max() < 1e-5


@pytest.mark.parametrize("offloads", [1, 2])
def test_memory_that_runs_out_changes_nothing(random_network, offloads):
    network = random_network(RRDBSpec(blocks=2, features=8, growth=4))
    image = torch.rand(1, 3, 60, 40)
    whole = repeated(network, image, BOTH)
    store = Store(offloads=offloads, limit=20)
    canvas, run = run_exact(network, image, 64, wrap=BOTH, store=store)
    assert (canvas.result - whole).abs().max() < 1e-4
    assert run.stats.halvings == 2
    assert store.offloads == offloads - 1


def test_only_first_rows_are_kept_besides_the_rows_between_groups(random_network):
    """The memory does not grow with the height of the image."""
    network = random_network(SRVGGSpec(2, convolutions=12, features=8))
    groups = network.layer_groups()
    plans = [plan(groups, height, 40, 16, wrap=BOTH) for height in (400, 4000)]
    assert plans[0] == plans[1]
    assert plans[0].carried == 2 * plan(groups, 400, 40, 16).carried
    store = Store()
    run_exact(network, torch.rand(1, 3, 400, 40), 16, wrap=BOTH, store=store)
    assert store.largest < 60


def test_spans_of_an_axis_that_repeats():
    assert spans(3, 7, 10) == [(3, 7)]
    assert spans(-2, 3, 10) == [(8, 10), (0, 3)]
    assert spans(28, 32, 10) == [(8, 10), (0, 2)]
    assert spans(-3, 4, 2) == [(1, 2), (0, 2), (0, 2), (0, 2)]


def test_a_halo_wider_than_the_image_goes_round_it_several_times():
    kernel = torch.rand(1, 1, 15, 15) / 100

    def blur(sources):
        return F.conv2d(sources[0], kernel, padding=7)

    groups = [LayerGroup(str(source), (source,), 7, 1, 1, 2, blur) for source in (IMAGE, 0)]
    image = torch.rand(1, 1, 3, 5)
    canvas = Canvas(image, 1)
    ExactRun(groups, canvas, Store(), height=3, width=5, tile=4, smallest=4, wrap=BOTH).run()
    whole = blur([blur([image.repeat(1, 1, 21, 13)])])
    assert torch.allclose(canvas.result, whole[:, :, 30:33, 30:35], rtol=1e-5)


@pytest.mark.parametrize("tile, error", [(200, 1e-6), (40, 0.1), (24, 0.1)])
def test_blended_windows_see_the_opposite_border(tile, error):
    """Windows that divide the image differ a little, at their borders and not at the image's."""
    kernel = torch.full((3, 1, 5, 5), 1 / 25)

    def network(x):
        return F.interpolate(F.conv2d(x, kernel, groups=3, padding=2), scale_factor=2)

    image = torch.rand(1, 3, 30, 50)
    canvas = Canvas(image, 2)
    extended = WrappedMargin(canvas, 30, 50, BOTH, margin=8, scale=2)
    assert (extended.height, extended.width) == (46, 66)
    BlendedRun(network, 2, extended, height=46, width=66, tile=tile, overlap=8).run()
    expected = network(image.repeat(1, 1, 3, 3))[:, :, 60:120, 100:200]
    assert (canvas.result - expected).abs().max() < error
    assert canvas.written == 30 * 50
