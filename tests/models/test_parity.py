"""Our networks compared with those of basicsr, on sizes down to one pixel."""

from __future__ import annotations

import pytest
import torch

from upscale import checkpoints
from upscale.models import RRDBSpec, SRVGGSpec, build, detect

SIZES = [(1, 1), (1, 7), (5, 3), (17, 23)]


def check(ours, theirs, image):
    with torch.inference_mode():
        left, right = ours(image), theirs(image)
    assert left.shape == right.shape
    assert (left - right).abs().max() < 1e-4
    levels = [(tensor.clamp(0, 1) * 255).round() for tensor in (left, right)]
    assert (levels[0] - levels[1]).abs().max() <= 1


def image_of(height, width):
    generator = torch.Generator().manual_seed(height * 100 + width)
    return torch.rand(1, 3, height, width, generator=generator)


@pytest.fixture(scope="module")
def official():
    """Load a catalogue model's hyper-parameters and official weights."""

    def load(name):
        entry = checkpoints.catalog()[name]
        return detect(checkpoints.read_state_dict(checkpoints.locate(entry)))

    return load


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "name, blocks", [("realesrgan-x4plus", 23), ("realesrgan-x4plus-anime", 6)]
)
def test_rrdbnet_with_the_official_weights(basicsr, official, name, blocks, size):
    detected = official(name)
    assert detected.spec == RRDBSpec(blocks=blocks)
    theirs = basicsr.RRDBNet(3, 3, scale=4, num_feat=64, num_block=blocks, num_grow_ch=32).eval()
    theirs.load_state_dict(detected.state)
    check(build(detected.spec, detected.state), theirs, image_of(*size))


@pytest.mark.parametrize("size", SIZES)
def test_srvgg_with_the_official_weights(basicsr, official, size):
    detected = official("realesr-animevideov3")
    theirs = basicsr.SRVGGNetCompact(3, 3, 64, 16, 4, "prelu").eval()
    theirs.load_state_dict(detected.state)
    check(build(detected.spec, detected.state), theirs, image_of(*size))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale, unshuffle", [(4, 1), (2, 2), (1, 4)])
def test_rrdbnet_with_random_weights(basicsr, random_network, scale, unshuffle, size):
    spec = RRDBSpec(blocks=3, features=24, growth=12, unshuffle=unshuffle)
    ours = random_network(spec)
    theirs = basicsr.RRDBNet(3, 3, scale, num_feat=24, num_block=3, num_grow_ch=12).eval()
    theirs.load_state_dict(ours.state_dict())
    check(ours, theirs, image_of(size[0] * unshuffle, size[1] * unshuffle))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_srvgg_with_random_weights(basicsr, random_network, scale, size):
    spec = SRVGGSpec(scale=scale, convolutions=5, features=24)
    ours = random_network(spec)
    theirs = basicsr.SRVGGNetCompact(3, 3, 24, 5, scale, "prelu").eval()
    theirs.load_state_dict(ours.state_dict())
    check(ours, theirs, image_of(*size))
