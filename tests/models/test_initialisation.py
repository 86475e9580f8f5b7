"""Networks whose weights follow at once are built without random values."""

from __future__ import annotations

import torch

from upscale.models import RRDBSpec, build, detect
from upscale.models.initialisation import WithoutRandomValues

SPEC = RRDBSpec(features=8, blocks=1, growth=4)


def test_loading_draws_no_random_values_and_sets_all_weights():
    expected = build(SPEC).state_dict()
    before = torch.get_rng_state()
    detected = detect(expected)
    network = build(detected.spec, detected.state)
    assert torch.equal(torch.get_rng_state(), before)
    loaded = network.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key], expected[key]) for key in expected)
    assert not any(loaded[key].data_ptr() == expected[key].data_ptr() for key in expected)


def test_a_new_network_has_random_values():
    weights = build(SPEC).state_dict()["conv_first.weight"]
    assert len(weights.unique()) == weights.numel()


def test_constants_are_still_set():
    with WithoutRandomValues():
        norm = torch.nn.GroupNorm(2, 4)
        ones = torch.nn.init.constant_(torch.empty(3), 1.0)
    assert torch.equal(norm.weight, torch.ones(4)) and torch.equal(ones, torch.ones(3))
