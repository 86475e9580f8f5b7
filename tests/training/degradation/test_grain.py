from __future__ import annotations

import pytest
import torch
from upscale_training.degradation import Degradation, apply
from upscale_training.degradation.grain import add_grain
from upscale_training.degradation.operations import FilmGrain


def grey(level, side=128):
    return torch.full((1, 3, side, side), level)


@pytest.mark.parametrize("size", [0.0, 0.7, 2.0])
def test_the_deviation_in_midtones_is_the_strength_for_every_size(size):
    result = add_grain(grey(0.5, 256), [FilmGrain(10, size, False, 1)]) - 0.5
    assert result.std().item() * 255 == pytest.approx(10, rel=0.1)
    assert result.mean().abs() < 0.005


def test_grain_is_weaker_in_shadows_and_absent_in_black_and_white():
    grain = [FilmGrain(10, 0.5, True, 2)]
    noise = [add_grain(grey(level), grain) - level for level in (0.0, 0.1, 0.5, 1.0)]
    deviations = [each.std().item() for each in noise]
    assert deviations[0] == deviations[3] == 0
    assert deviations[1] == pytest.approx(0.6 * deviations[2], rel=0.05)


def test_coarse_grain_is_correlated_and_fine_grain_is_not():
    def neighbours(size):
        noise = add_grain(grey(0.5), [FilmGrain(10, size, True, 3)])[0, 0] - 0.5
        return (noise[:, 1:] * noise[:, :-1]).mean() / noise.square().mean()

    assert abs(neighbours(0.0)) < 0.05
    assert neighbours(2.0) > 0.8


def test_grey_grain_is_the_same_in_all_channels():
    red, green, _ = add_grain(grey(0.5), [FilmGrain(10, 1, True, 4)])[0]
    assert torch.equal(red, green)
    red, green, _ = add_grain(grey(0.5), [FilmGrain(10, 1, False, 4)])[0]
    assert not torch.equal(red, green)


def test_images_of_a_batch_do_not_influence_each_other_and_are_replayed():
    images = torch.rand(3, 3, 20, 31)
    grains = [Degradation((FilmGrain(8, 0.4 * n, n == 1, n),)) for n in range(3)]
    together = apply(images, grains)
    alone = torch.cat([apply(images[n : n + 1], grains[n : n + 1]) for n in range(3)])
    assert torch.equal(together, alone)
    assert torch.equal(
        together, apply(images, [Degradation.from_dict(g.as_dict()) for g in grains])
    )
