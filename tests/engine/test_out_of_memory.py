"""Memory that runs out once, at any place of a run, changes nothing in the result."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.budget import cases
from tests.memory_failures import ERRORS, assert_equal, failing, spread
from upscale.engine.colour_correction import keep_colour, keep_colour_tensor
from upscale.engine.loading import Model
from upscale.engine.mixing import MixedUpscaler
from upscale.engine.upscaler import Upscaler
from upscale.models import RRDBSpec, SRVGGSpec

X4 = RRDBSpec(blocks=1, features=8, growth=4)
X2 = RRDBSpec(blocks=1, features=8, growth=4, upsamples=2, unshuffle=2)
COMPACT = SRVGGSpec(scale=4, features=8, convolutions=2)


def image(dtype=np.uint8, channels=3, size=(21, 18)):
    values = np.random.default_rng(1).random((*size, channels), np.float32)
    return values if dtype == np.float32 else (values * np.iinfo(dtype).max).astype(dtype)


@pytest.fixture(scope="module")
def runs(random_network):
    """Functions that upscale something, by name."""

    models = {
        spec: Model.from_network("random", random_network(spec, seed))
        for seed, spec in enumerate((X4, X2, COMPACT))
    }

    def upscaler(spec=X4, blended=False, **options):
        model = models[spec]
        if blended:
            model = Model("random", Plain(model.network), model.scale, 3, False, "random")
        return Upscaler(model, device="cpu", **({"tile": 32, "kernels": False} | options))

    def corrected(array):
        large = upscaler().upscale(array)
        keep_colour(large, array)
        return large

    def corrected_tensor(source):
        large = upscaler().run_tensor(source, size=(50, 61))
        return keep_colour_tensor(large, source)

    def mixed():
        return MixedUpscaler([(upscaler(), 0.25), (upscaler(COMPACT), 0.75)])

    flips = {"tile": 32, "tta": True}
    floats = tensor()
    return {
        "image": lambda: upscaler().upscale(image()),
        "compiled kernels": lambda: upscaler(kernels=True).upscale(image()),
        "16 bits, unshuffle": lambda: upscaler(X2).upscale(image(np.uint16)),
        "float, grey": lambda: upscaler(COMPACT).upscale(image(np.float32, 1)),
        "repeating": lambda: upscaler(X2, tile=32).upscale(image(), seamless="xy"),
        "flips and turns": lambda: upscaler(COMPACT, **flips).upscale(image(np.uint16), scale=3),
        "tensor, flips": lambda: upscaler(COMPACT, **flips).run_tensor(floats),
        "blended": lambda: upscaler(blended=True, tile=128).upscale(image(size=(150, 70))),
        "colours": lambda: corrected(image()),
        "colours of a tensor": lambda: corrected_tensor(floats),
        "two networks": lambda: mixed().run(image(), scale=2.5).pixels,
        "two networks, tensor": lambda: mixed().run_tensor(floats, size=(50, 60)),
    }


class Plain(torch.nn.Module):
    """A network without layer groups."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, tile):
        return self.network(tile)


def tensor():
    return torch.from_numpy(image(np.float32)).permute(2, 0, 1)[None].contiguous()


NAMES = [
    "image",
    "compiled kernels",
    "16 bits, unshuffle",
    "float, grey",
    "repeating",
    "flips and turns",
    "tensor, flips",
    "blended",
    "colours",
    "colours of a tensor",
    "two networks",
    "two networks, tensor",
]


@pytest.fixture(scope="module")
def expected(runs):
    """Return the result of a run, and the allocations and copies in it."""

    @cache
    def of(name):
        result = runs[name]()
        with failing() as counter:
            runs[name]()
        return result, counter.places

    return of


def check(result, expected):
    if isinstance(result, torch.Tensor):
        result, expected = result.numpy(), expected.numpy()
    assert_equal(result, expected)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=cases(24))
@given(data=st.data())
def test_memory_that_runs_out_at_any_allocation_or_copy_changes_nothing(name, data, runs, expected):
    result, places = expected(name)
    place = data.draw(st.integers(0, len(places) - 1))
    with failing(place, data.draw(st.sampled_from(ERRORS))):
        check(runs[name](), result)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_memory_that_runs_out_all_along_a_run_changes_nothing(name, runs, expected):
    result, places = expected(name)
    for place in spread(len(places)):
        with failing(place, ERRORS[place % len(ERRORS)]):
            check(runs[name](), result)
