from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.kernels.libraries import LIBRARIES, SHORTER
from upscale import Upscaler
from upscale.checkpoints import availability, catalog
from upscale.images import read_image
from upscale.kernels import compiled
from upscale.models import RRDBSpec, SRVGGSpec
from upscale.models.layers import torch_layer


@pytest.fixture
def only(monkeypatch):
    """Make the engine use one library."""

    def use(library):
        monkeypatch.setattr("upscale.kernels.compiled.library_for", lambda dtype: library)

    return use


def precision(library):
    """Return the precision of a library."""
    return "bf16" if library.dtype == torch.bfloat16 else "fp32"


@pytest.mark.parametrize("library", SHORTER)
@pytest.mark.parametrize(
    "spec",
    [
        RRDBSpec(blocks=2),
        RRDBSpec(blocks=2, unshuffle=2, features=32, growth=16),
        RRDBSpec(blocks=1, upsamples=1),
        SRVGGSpec(convolutions=5),
        SRVGGSpec(convolutions=3, scale=2, features=48),
    ],
    ids=lambda spec: spec.describe(),
)
@pytest.mark.parametrize("size", [(1, 1), (3, 50), (37, 41)])
@pytest.mark.parametrize("tile", [0, 16])
def test_compiled_kernels_give_the_same_image_for_every_tile(
    library, only, random_model, spec, size, tile
):
    only(library)
    model = random_model(spec)
    image = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    image = np.clip(image, 0.2, 0.8)
    whole = Upscaler(model, device="cpu", tile=0, kernels=False).upscale(image)
    result = Upscaler(model, device="cpu", tile=tile, precision=precision(library)).upscale(image)
    assert np.abs(result - whole).max() < (1e-5 if library.dtype == torch.float32 else 0.05)


@pytest.mark.parametrize("library", LIBRARIES[-1:])
@pytest.mark.parametrize("spec", [RRDBSpec(blocks=1), SRVGGSpec(convolutions=2)], ids=str)
def test_all_convolutions_use_the_compiled_kernels(library, only, random_model, spec, monkeypatch):
    computed = []

    def recorded(layer):
        def run(maps, residuals=(), target=None):
            computed.append(layer.convolution.in_channels)
            return torch_layer(layer)(maps, residuals, target)

        return run

    only(library)
    monkeypatch.setattr(compiled, "torch_layer", recorded)
    upscaler = Upscaler(random_model(spec), device="cpu", precision=precision(library))
    upscaler.upscale(np.zeros((9, 9, 3), np.uint8))
    assert computed == []


def test_torch_computes_without_a_library(random_model, monkeypatch):
    monkeypatch.setattr(compiled, "LIBRARIES", {})
    model, image = random_model(RRDBSpec(blocks=1)), np.full((5, 6, 3), 99, np.uint8)
    plain = Upscaler(model, device="cpu", kernels=False).upscale(image)
    assert np.array_equal(Upscaler(model, device="cpu").upscale(image), plain)


@pytest.mark.slow
@pytest.mark.parametrize("library", SHORTER)
@pytest.mark.parametrize(
    "name", ["realesrgan-x4plus", "realesrgan-x4plus-anime", "realesr-animevideov3"]
)
def test_photographs_differ_by_at_most_one_level_and_with_bf16_on_average(
    library, only, data, name
):
    if availability(catalog()[name]) == "absent":
        pytest.skip(f"{name} is not here")
    only(library)
    photo = read_image(sorted((data / "photos/scenes").glob("*.webp"))[0]).pixels[:90, :110, :3]
    whole = Upscaler(name, device="cpu", tile=0, kernels=False).upscale(photo)
    result = Upscaler(name, device="cpu", tile=48, precision=precision(library)).upscale(photo)
    levels = np.abs(result.astype(int) - whole)
    if library.dtype == torch.bfloat16:
        assert levels.mean() < 1
    else:
        assert levels.max() <= 1
        assert (levels > 0).mean() < 1e-3
