"""Networks for one image: resampling, exact tiles, and what training on the image gains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from upscale_training.degradation.resizing import resize
from upscale_training.zero_shot import (
    ZeroShotNetwork,
    ZeroShotSettings,
    ZeroShotSpec,
    train_on,
)
from upscale_training.zero_shot.fathers import Fathers
from upscale_training.zero_shot.resampling import (
    bicubic_kernel,
    downscale,
    upscale,
    upscaling_weights,
)

from benchmarks.blur import gaussian, halved
from benchmarks.zero_shot import psnr
from upscale import Upscaler
from upscale.engine.loading import Model
from upscale.errors import ImageError


@pytest.mark.parametrize("scale", [2, 4])
def test_resampling_is_bicubic_apart_from_the_border(scale):
    image = torch.rand(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    kernel = torch.from_numpy(bicubic_kernel(scale)).float()
    small, large = (
        resize(image, (48 // scale,) * 2, "bicubic"),
        resize(image, (48 * scale,) * 2, "bicubic"),
    )
    ours = downscale(image, kernel, scale)
    torch.testing.assert_close(ours[:, :, 3:-3, 3:-3], small[:, :, 3:-3, 3:-3])
    ours = F.pixel_shuffle(upscale(image, upscaling_weights(scale)), scale)
    inside = slice(3 * scale, -3 * scale)
    torch.testing.assert_close(ours[:, :, inside, inside], large[:, :, inside, inside])


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("projections", [0, 2])
def test_tiles_do_not_change_the_result(scale, projections):
    random = torch.Generator().manual_seed(1)
    kernel = torch.from_numpy(gaussian(1.5, 4, 0.5)).float()
    spec = ZeroShotSpec(scale, 16, 3, len(kernel), projections)
    network = ZeroShotNetwork(spec, kernel, random)
    model = Model.from_network("zero-shot", network.eval())
    image = np.random.default_rng(0).random((70, 50, 3), np.float32)
    whole = Upscaler(model, device="cpu", tile=0).upscale(image)
    tiled = Upscaler(model, device="cpu", tile=16).run(image)
    with torch.no_grad():
        planes = network(torch.from_numpy(image.transpose(2, 0, 1))[None])
    assert tiled.report.tiling == "exact"
    np.testing.assert_allclose(tiled.pixels, whole, atol=1e-5)
    expected = planes[0].permute(1, 2, 0).clamp(0, 1).numpy()
    np.testing.assert_allclose(whole, expected, atol=1e-4)


def test_back_projection_brings_the_result_nearer_to_the_image():
    image = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    kernel = torch.from_numpy(bicubic_kernel(2)).float()
    errors = []
    for projections in (0, 4):
        spec = ZeroShotSpec(2, 8, 2, len(kernel), projections)
        network = ZeroShotNetwork(spec, kernel, torch.Generator().manual_seed(1))
        with torch.no_grad():
            errors.append((downscale(network(image), kernel, 2) - image).abs().mean())
    assert errors[1] < 0.2 * errors[0]


def test_fathers_are_parts_of_the_image_in_many_sizes():
    image = np.random.default_rng(0).random((40, 60, 3), np.float32)
    fathers = Fathers(image, 16, 50, np.random.default_rng(1), turns=True)
    crops = [fathers.crop(number) for number in range(50)]
    assert {crop.shape for crop in crops} == {(16, 16, 3)}
    assert all(crop.min() >= 0 and crop.max() <= 1 for crop in crops)
    values = {value.tobytes() for value in image.reshape(-1, 3)}
    whole = [all(value.tobytes() in values for value in crop.reshape(-1, 3)) for crop in crops]
    assert 15 < sum(whole) < 35


def grid(side: int = 128) -> np.ndarray:
    """Windows of a house: lines that repeat."""
    rows, columns = np.mgrid[:side, :side]
    lines = ((rows + columns // 4) % 12 < 2) | ((columns - rows // 5) % 16 < 3)
    image = np.where(lines[..., None], (30, 40, 60), (200, 180, 150)).astype(np.uint8)
    return np.ascontiguousarray(image)


def upscaled(small: np.ndarray, **settings) -> np.ndarray:
    network = train_on(small, ZeroShotSettings(iterations=80, **settings))
    return Upscaler(Model.from_network("zero-shot", network), device="cpu").upscale(small)


def test_details_that_repeat_are_recovered():
    large = grid()
    planes = torch.from_numpy(large.transpose(2, 0, 1).astype(np.float32))[None]
    small = resize(planes, (64, 64), "bicubic").round().clamp(0, 255)
    bicubic = resize(small, (128, 128), "bicubic").round().clamp(0, 255)
    as_image = [each[0].permute(1, 2, 0).numpy().astype(np.uint8) for each in (small, bicubic)]
    assert psnr(upscaled(as_image[0]), large) > psnr(as_image[1], large) + 1.5


def test_a_known_kernel_is_better_than_bicubic():
    large, kernel = grid(), gaussian(1.5, 4, 0.5)
    small = halved(large, kernel)
    without, given = (psnr(upscaled(small, kernel=each), large) for each in (None, kernel))
    assert given > without + 0.5


def test_training_repeats_with_the_same_seed():
    image = np.random.default_rng(0).integers(0, 256, (32, 30, 1), np.uint8)
    states = [
        train_on(image, ZeroShotSettings(iterations=3, seed=seed)).state_dict()
        for seed in (5, 5, 6)
    ]
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key])
    assert not torch.equal(states[0]["body.0.weight"], states[2]["body.0.weight"])


def test_an_image_that_is_too_small_is_refused():
    with pytest.raises(ImageError, match=r"has 40x15 pixels.*at least 16"):
        train_on(np.zeros((15, 40, 3), np.uint8), ZeroShotSettings())
