"""Noise against basicsr's functions, and its statistics."""

from __future__ import annotations

import pytest
import torch
from upscale_training.degradation import noise, official
from upscale_training.degradation.operations import GaussianNoise, PoissonNoise

SIGMAS, SCALES = (1, 30), (0.05, 3)


def sampled_levels(count, low, high, grey, generator):
    """The first random numbers of basicsr's random_add_*_noise_pt."""
    strength = torch.rand(count, generator=generator) * (high - low) + low
    return strength.tolist(), (torch.rand(count, generator=generator) < grey).tolist()


@pytest.fixture
def continued(monkeypatch):
    """Makes official noise go on with a stream instead of starting one from a seed."""

    def set_to(generator):
        monkeypatch.setattr(official, "seeded", lambda seed, device: generator)

    return set_to


@pytest.mark.parametrize("grey", [0, 0.4, 1])
@pytest.mark.parametrize("seed", range(3))
def test_official_gaussian_noise_under_a_fixed_seed(basicsr, photographs, continued, grey, seed):
    torch.manual_seed(seed)
    add = basicsr.degradations.random_add_gaussian_noise_pt
    theirs = add(photographs, sigma_range=SIGMAS, gray_prob=grey)
    generator = torch.Generator().manual_seed(seed)
    strengths, greys = sampled_levels(len(photographs), *SIGMAS, grey, generator)
    continued(generator)
    noises = [GaussianNoise(s, g, 0) for s, g in zip(strengths, greys, strict=True)]
    assert (official.add_gaussian(photographs, noises) - theirs).abs().max() < 1e-6


@pytest.mark.parametrize("grey", [0, 0.4, 1])
@pytest.mark.parametrize("seed", range(3))
def test_official_poisson_noise_under_a_fixed_seed(basicsr, photographs, continued, grey, seed):
    torch.manual_seed(seed)
    add = basicsr.degradations.random_add_poisson_noise_pt
    theirs = add(photographs, scale_range=SCALES, gray_prob=grey)
    generator = torch.Generator().manual_seed(seed)
    strengths, greys = sampled_levels(len(photographs), *SCALES, grey, generator)
    continued(generator)
    noises = [PoissonNoise(s, g, 0) for s, g in zip(strengths, greys, strict=True)]
    assert (official.add_poisson(photographs, noises) - theirs).abs().max() < 1e-6


def test_peaks_are_counts_of_levels_rounded_up_to_powers_of_two():
    images = torch.zeros(10, 3, 16, 16)
    expected = []
    for place, count in enumerate([1, 2, 3, 4, 5, 64, 65, 128, 129, 256]):
        images[place] = (torch.arange(768) % count).view(3, 16, 16) / 255
        expected.append(2 ** (count - 1).bit_length())
    assert noise.peaks_of(images).flatten().tolist() == expected


def test_gaussian_noise_is_as_strong_as_it_says():
    flat = torch.full((2, 3, 128, 128), 0.5)
    noises = [GaussianNoise(5, False, 1), GaussianNoise(20, True, 2)]
    field = (noise.add_gaussian(flat, noises) - 0.5) * 255
    assert abs(field[0].std() - 5) < 0.1
    assert abs(field[1].std() - 20) < 0.4
    assert field.mean((1, 2, 3)).abs().max() < 0.3


def test_poisson_noise_is_as_strong_as_it_says():
    flat = torch.full((3, 3, 128, 128), 128 / 255)
    noises = [PoissonNoise(1, False, 1, 100), PoissonNoise(0.5, True, 2, 50)]
    noises.append(PoissonNoise(1, False, 3, 1e6))
    field = noise.add_poisson(flat, noises) - flat
    assert abs(field[0].std() / (0.502 / 100) ** 0.5 - 1) < 0.03
    assert abs(field[1].std() / (0.502 / 50) ** 0.5 / 0.5 - 1) < 0.03
    assert field[2].abs().max() < 0.005


@pytest.mark.parametrize(
    "add, noises",
    [
        (noise.add_gaussian, [GaussianNoise(9, True, 1), GaussianNoise(9, True, 2)]),
        (noise.add_poisson, [PoissonNoise(1, True, 1), PoissonNoise(1, True, 2)]),
    ],
)
def test_grey_noise_is_the_same_in_channels_and_differs_between_images(add, noises, smooth):
    flat = torch.full((2, 3, 32, 32), 0.5)
    flat[:, :, :, 16:] = 0.55
    field = add(flat, noises) - flat
    assert torch.allclose(field[:, 0], field[:, 1], atol=1e-6)
    assert torch.allclose(field[:, 0], field[:, 2], atol=1e-6)
    assert not torch.allclose(field[0], field[1])


@pytest.mark.parametrize("kind", [GaussianNoise, PoissonNoise])
def test_noise_does_not_depend_on_the_rest_of_the_batch(kind, photographs):
    add = noise.add_gaussian if kind is GaussianNoise else noise.add_poisson
    noises = [kind(2, place % 2 == 0, place) for place in range(4)]
    together = add(photographs, noises)
    for place in range(4):
        alone = add(photographs[place : place + 1], noises[place : place + 1])
        assert torch.equal(alone[0], together[place])


def test_noise_leaves_the_global_stream_alone(photographs):
    before = torch.get_rng_state()
    noise.add_gaussian(photographs, [GaussianNoise(2, False, 1)] * 4)
    noise.add_poisson(photographs, [PoissonNoise(2, False, 1)] * 4)
    assert torch.equal(torch.get_rng_state(), before)
