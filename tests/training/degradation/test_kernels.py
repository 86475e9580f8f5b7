"""Kernels against basicsr's formulas and random numbers (Real-ESRGAN, sections 3.1 and 3.3)."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from upscale_training.degradation.filters import stack_kernels
from upscale_training.degradation.kernels import kernel
from upscale_training.degradation.operations import Blur
from upscale_training.degradation.steps import BlurStep

SHAPES = [(0.2, 3.0, 0.7), (1.3, 0.6, -2.0), (3.0, 2.9, math.pi)]
OFFICIAL_NAMES = ["iso", "aniso", "generalized_iso", "generalized_aniso"]
OFFICIAL_NAMES += ["plateau_iso", "plateau_aniso"]


class BasicsrRandomness:
    """Random numbers from the two global streams, as in basicsr."""

    def choose(self, weights):
        return random.choices(list(weights), list(weights.values()))[0]

    def pick(self, options):
        return random.choice(options)

    def uniform(self, low, high):
        return np.random.uniform(low, high)

    def chance(self, probability):
        return np.random.uniform() < probability


def seed_both(seed):
    random.seed(seed)
    np.random.seed(seed)


def same(ours, theirs):
    assert np.abs(ours.numpy() - theirs).max() < 1e-6


@pytest.mark.parametrize("size", [7, 21])
@pytest.mark.parametrize("sigma_x, sigma_y, rotation", SHAPES)
def test_gaussians_follow_equation_2(basicsr, size, sigma_x, sigma_y, rotation):
    theirs = basicsr.degradations.bivariate_Gaussian
    ours = Blur("iso", size, sigma_x, sigma_y, rotation)
    same(kernel(ours), theirs(size, sigma_x, sigma_y, rotation, isotropic=True))
    ours = Blur("aniso", size, sigma_x, sigma_y, rotation)
    same(kernel(ours), theirs(size, sigma_x, sigma_y, rotation, isotropic=False))


@pytest.mark.parametrize("beta", [0.5, 1, 3.7])
@pytest.mark.parametrize("sigma_x, sigma_y, rotation", SHAPES)
@pytest.mark.parametrize("family", ["generalised", "plateau"])
def test_generalised_and_plateau_kernels(basicsr, family, sigma_x, sigma_y, rotation, beta):
    theirs = {
        "generalised": basicsr.degradations.bivariate_generalized_Gaussian,
        "plateau": basicsr.degradations.bivariate_plateau,
    }[family]
    for isotropic in (True, False):
        name = f"{family}_{'iso' if isotropic else 'aniso'}"
        ours = Blur(name, 15, sigma_x, sigma_y, rotation, beta)
        same(kernel(ours), theirs(15, sigma_x, sigma_y, rotation, beta, isotropic=isotropic))


@pytest.mark.parametrize("size", [7, 13, 21])
@pytest.mark.parametrize("cutoff", [math.pi / 5, 1.9, math.pi])
def test_sinc_filters(basicsr, size, cutoff):
    ours = Blur("sinc", size, cutoff=cutoff)
    same(kernel(ours), basicsr.degradations.circular_lowpass_kernel(cutoff, size))


def test_mixed_kernels_come_in_the_official_order_from_the_official_streams(basicsr):
    step = BlurStep()
    for seed in range(200):
        seed_both(seed)
        theirs = basicsr.degradations.random_mixed_kernels(
            OFFICIAL_NAMES,
            list(step.families.weights().values()),
            21,
            step.sigma,
            step.sigma,
            step.rotation,
            step.generalised_beta,
            step.plateau_beta,
        )
        seed_both(seed)
        same(kernel(step.sample_shape(BasicsrRandomness(), 21)), theirs)


def test_kernels_sum_to_one_and_are_padded_evenly():
    stacked = stack_kernels([Blur("iso", 7, 2.0), Blur("sinc", 21, cutoff=1.0)])
    assert stacked.shape == (2, 21, 21)
    assert torch.allclose(stacked.sum((1, 2)), torch.ones(2, dtype=torch.float64))
    assert torch.equal(stacked[0, 7:14, 7:14], kernel(Blur("iso", 7, 2.0)))
    assert torch.equal(stacked[0], stacked[0].flip(0, 1))
    assert stacked[0, :7].abs().max() == 0
