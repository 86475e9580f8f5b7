from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from upscale_training.codecs import VideoCompression, WebP
from upscale_training.degradation import real_esrgan, sample
from upscale_training.degradation.operations import (
    Blur,
    FilmGrain,
    GaussianNoise,
    Jpeg,
    PoissonNoise,
    Resize,
)
from upscale_training.recipe import DegradationRecipe

from upscale.errors import UsageError


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        (GaussianNoise(10, True, 1), GaussianNoise(15, True, 1)),
        (PoissonNoise(2, False, 1), PoissonNoise(3, False, 1)),
        (FilmGrain(4, 0.5, False, 1), FilmGrain(6, 0.5, False, 1)),
        (Jpeg(80), Jpeg(70)),
        (Jpeg(20), Jpeg(1)),
        (WebP(80), WebP(70)),
        (WebP(0), WebP(0)),
        (VideoCompression(20, 1, 2), VideoCompression(30, 1, 2)),
        (VideoCompression(40), VideoCompression(51)),
        (Blur("iso", 7), Blur("iso", 7)),
        (Resize("area", 0.5), Resize("area", 0.5)),
    ],
    ids=str,
)
def test_noise_and_losses_are_multiplied_inside_their_ranges(operation, expected):
    assert operation.stronger(1.5) == expected


def test_the_same_decisions_are_sampled_at_every_strength():
    plain, strong = (
        sample(replace(real_esrgan(4), strength=strength), 20, np.random.default_rng(0))
        for strength in (1.0, 1.3)
    )
    assert plain == sample(real_esrgan(4), 20, np.random.default_rng(0))
    for one, other in zip(plain, strong, strict=True):
        assert tuple(each.stronger(1.3) for each in one.operations) == other.operations
    assert plain != strong


def test_a_recipe_passes_its_strength_on_and_the_official_mode_has_none():
    assert DegradationRecipe(strength=1.3).settings(4).strength == 1.3
    with pytest.raises(ValueError, match="must be 1 in the mode official"):
        DegradationRecipe(mode="official", strength=1.3)
    with pytest.raises(UsageError, match="strength"):
        replace(real_esrgan(4, "official"), strength=2)
