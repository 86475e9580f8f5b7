"""KernelGAN: its parts against independent computations; benchmarks/ measures estimates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from upscale_training.data.pixels import read_rgb
from upscale_training.kernel_files import aligned, centre_of_mass
from upscale_training.kernel_gan import EstimateSettings, estimate_kernel
from upscale_training.kernel_gan.cleaning import applied_twice, degradation_kernel
from upscale_training.kernel_gan.networks import (
    KERNEL,
    LinearGenerator,
    PatchDiscriminator,
    downscale,
)
from upscale_training.kernel_gan.regularisation import Regularisation, bicubic_kernel
from upscale_training.kernel_gan.structure import StructureLoss, structure_function
from upscale_training.zero_shot import resampling

from benchmarks.blur import gaussian
from upscale.errors import ImageError


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_the_kernel_is_that_of_all_layers_in_a_row(random):
    generator = LinearGenerator(random)
    image = torch.rand(1, 3, 64, 64, generator=random)
    x = image.transpose(0, 1)
    for number, weights in enumerate(generator.layers, 1):
        x = F.conv2d(x, weights, stride=2 if number == len(generator.layers) else 1)
    ours = downscale(image, generator.kernel())
    assert generator.kernel().shape == (KERNEL, KERNEL)
    assert ours.shape == (1, 3, 26, 26)
    torch.testing.assert_close(ours / ours.abs().max(), x.transpose(0, 1) / x.abs().max())


def test_networks_have_as_many_parameters_as_the_authors(random):
    counts = [
        sum(parameter.numel() for parameter in network.parameters())
        for network in (LinearGenerator(random), PatchDiscriminator(random))
    ]
    assert counts == [150_656, 30_977]


def test_each_image_is_judged_alone(random):
    discriminator = PatchDiscriminator(random)
    images = torch.rand(2, 3, 26, 26, generator=random)
    for _ in range(50):
        both = discriminator(images)
    alone = torch.cat([discriminator(image[None]) for image in images])
    assert both.shape == (2, 400)
    torch.testing.assert_close(both, alone, atol=1e-3, rtol=0)


def test_the_bicubic_kernel_is_the_plausible_one():
    kernel = bicubic_kernel()
    expected = torch.from_numpy(resampling.bicubic_kernel(2)).float()
    torch.testing.assert_close(kernel[2:-2, 2:-2], expected)
    regularisation = Regularisation(torch.device("cpu"))
    for other in (kernel.roll(3, 0), kernel * 1.5, torch.full_like(kernel, 1 / KERNEL**2)):
        assert regularisation.loss(kernel) < regularisation.loss(other)


def spectrum(kernel, frequency):
    """Return the value at (frequency, frequency / 3), around the centre of mass."""
    rows, columns = (np.arange(len(kernel)) - centre for centre in centre_of_mass(kernel))
    row, column = (
        np.exp(-2j * np.pi * part * places)
        for part, places in ((frequency, rows), (frequency / 3, columns))
    )
    return row @ kernel @ column


@pytest.mark.parametrize("variances", [(0.8, 0.8, 0.0), (1.0, 2.5, 0.4), (3.0, 1.5, 1.2)])
def test_the_kernel_of_an_image_times_its_stretched_blur_is_that_blur(variances):
    """The kernel of the generator repeats the blur that the image has already."""
    generator = gaussian(*variances)
    blur = degradation_kernel(generator)
    assert blur.min() >= 0 and blur.sum() == pytest.approx(1)
    for frequency in (0.05, 0.1, 0.2, 0.3):
        expected = spectrum(generator, frequency) * spectrum(blur, frequency / 2)
        assert spectrum(blur, frequency) == pytest.approx(expected, abs=3e-3)


def test_an_image_without_blur_has_a_kernel_of_one_pixel():
    blur = degradation_kernel(np.pad([[1.0]], 6))
    assert blur[10, 10] == pytest.approx(1)


def test_a_kernel_applied_twice_is_five_times_as_wide():
    kernel = gaussian(1.5, 1.5, 0)
    twice = applied_twice(kernel)
    centre = np.array(centre_of_mass(twice)) - len(twice) // 2
    axis = np.arange(len(twice))
    variance = twice.sum(1) @ axis**2 - centre_of_mass(twice)[0] ** 2
    np.testing.assert_allclose(centre, 1.5, atol=1e-3)
    assert variance == pytest.approx(7.5, abs=0.05)


def self_similar(side, variances):
    """Return noise whose details look alike at all sizes, blurred with a Gaussian."""
    down, across = np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side)[None]
    spectrum = 1 / np.maximum(np.hypot(down, across), 1 / side)
    blur = np.exp(-2 * np.pi**2 * (variances[0] * down**2 + variances[1] * across**2))
    noise = np.random.default_rng(5).standard_normal((side, side))
    return np.fft.ifft2(np.fft.fft2(noise) * spectrum * blur).real


def narrow_gaussian(variances):
    """Return a Gaussian kernel of the generator's size."""
    places = np.arange(KERNEL) - KERNEL / 2
    rows, columns = (np.exp(-(places**2) / (2 * variance)) for variance in variances)
    return torch.from_numpy(np.outer(rows / rows.sum(), columns / columns.sum())).float()


def test_pixels_differ_more_the_further_they_are_apart():
    image = self_similar(160, (1.0, 1.0))
    found = structure_function(image, 3)
    assert found[3, 3] == pytest.approx(0, abs=1e-9)
    assert np.all(np.diff(found[3, 3:]) > 0)
    turned = structure_function(image.T, 3)
    np.testing.assert_allclose(turned, found.T, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(structure_function(image + 7, 3), found, rtol=1e-6, atol=1e-9)


def test_differences_of_a_downscaled_image_are_predicted_from_the_image():
    """The weights of areas are the same, because noise has the same contrast everywhere."""
    image, kernel = self_similar(400, (0.5, 1.0)), narrow_gaussian((2.0, 1.0))
    small = downscale(torch.from_numpy(image).float()[None, None], kernel)[0, 0].numpy()
    measured = np.log(structure_function(small.astype(np.float64), 2).ravel()[:12])
    expected = np.log(structure_function(image, 2).ravel()[:12])
    difference = measured - measured.mean() - (expected - expected.mean())
    predicted = StructureLoss(image, torch.device("cpu"))(kernel).item()
    assert predicted == pytest.approx(20 * np.mean(difference**2), rel=0.15)


@pytest.mark.parametrize("variances", [(0.5, 0.5), (0.4, 1.0)])
def test_the_structure_tells_the_widths_of_the_blur(variances):
    """The missing part of a blur has three quarters of its variance, in pixels of the image."""
    loss = StructureLoss(self_similar(400, variances), torch.device("cpu"))
    # A blur of v squared pixels of the image is one of 4 * v before the image was downscaled.
    right = [0.75 * 4 * variance for variance in variances]
    best = loss(narrow_gaussian(right))
    for factors in ((1.5, 1), (1, 1.5), (0.6, 1), (1, 0.6), (1.5, 0.6)):
        wrong = [factor * variance for factor, variance in zip(factors, right, strict=True)]
        assert loss(narrow_gaussian(wrong)) > best + 0.01


def test_an_image_without_detail_has_no_opinion():
    loss = StructureLoss(np.full((90, 90), 3.0), torch.device("cpu"))
    assert torch.isfinite(loss(narrow_gaussian((1.0, 1.0))))


def test_estimates_repeat_with_the_same_seed_and_are_aligned(data):
    image = read_rgb(data / "photos" / "kitten.webp")[:120, :100]
    settings = EstimateSettings(iterations=4)
    first, again = (estimate_kernel(image, settings) for _ in range(2))
    other = estimate_kernel(image, EstimateSettings(iterations=4, seed=1))
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)
    np.testing.assert_allclose(np.array(centre_of_mass(first)) - len(first) // 2, 0.5, atol=1e-6)
    quarter = estimate_kernel(image, EstimateSettings(4, iterations=4))
    assert len(quarter) == 3 * len(first) - 2 - 2 * (len(first) // 2)


def test_a_training_that_goes_astray_does_not_decide(data, monkeypatch):
    """The kernel is the median of the trainings, each with a seed of its own."""
    from upscale_training.kernel_gan import estimation

    true = narrow_gaussian((1.5, 1.5)).numpy()
    astray = np.zeros_like(true)
    astray[0, 0] = 1.0
    seeds: list[int] = []

    def trained(image, settings, progress):
        seeds.append(settings.seed)
        progress(settings.iterations)
        return astray if len(seeds) == 2 else true

    monkeypatch.setattr(estimation, "_trained_kernel", trained)
    done: list[tuple[int, int]] = []
    settings = EstimateSettings(iterations=7, seed=3, runs=5)
    image = read_rgb(data / "photos" / "kitten.webp")
    found = estimate_kernel(image, settings, lambda *counts: done.append(counts))
    expected = aligned(true / true.sum(), 0.5)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert seeds == [15, 16, 17, 18, 19]
    assert done == [(7, 35), (14, 35), (21, 35), (28, 35), (35, 35)]


def test_images_that_are_too_small_are_refused():
    with pytest.raises(ImageError, match=r"has 85x200 pixels.*at least 86"):
        estimate_kernel(np.zeros((200, 85, 3), np.uint8), EstimateSettings(iterations=1))
