from __future__ import annotations

import numpy as np
import pytest
import torch
from upscale_training.loop.mixes import mixed
from upscale_training.recipe import MixSettings


@pytest.fixture
def pairs():
    """Pairs whose LR images are the HR images, reduced by area averaging, and darker."""
    hr = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.avg_pool2d(hr, 2) / 2, hr


def mix(pairs, seed=0, **probabilities):
    return mixed(*pairs, MixSettings(**probabilities), np.random.default_rng(seed))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_lr_and_hr_images_are_mixed_alike(pairs, kind):
    for seed in range(20):
        lr, hr = mix(pairs, seed, **{kind: 1})
        assert (torch.nn.functional.avg_pool2d(hr, 2) / 2 - lr).abs().max() < 1e-6
    assert (hr != pairs[1]).any()


def test_cutmix_takes_a_rectangle_of_another_image(pairs):
    lr, hr = mix(pairs, 1, cutmix=1)
    changed = (lr != pairs[0]).any(1)
    for image, mask in zip(
        hr, changed.repeat_interleave(2, 1).repeat_interleave(2, 2), strict=True
    ):
        assert any(torch.equal(image[:, mask], other[:, mask]) for other in pairs[1])
    assert 0 < changed.float().mean() < 0.6


def test_cutblur_puts_a_reduced_hr_image_into_the_lr_image(pairs):
    lr, hr = mix(pairs, 2, cutblur=1)
    assert torch.equal(hr, pairs[1])
    changed = (lr != pairs[0]).any(1, keepdim=True).expand_as(lr)
    assert 0 < changed.float().mean() < 0.6
    assert torch.allclose(lr[changed], 2 * pairs[0][changed])
    rows, columns = changed[0, 0].any(1), changed[0, 0].any(0)
    assert changed[0, 0].sum() == rows.sum() * columns.sum()


def test_each_mixture_comes_as_often_as_asked_for(pairs):
    kinds = {"hr": 0, "lr": 0, "none": 0}
    for seed in range(400):
        lr, hr = mix(pairs, seed, mixup=0.1, cutmix=0.1, cutblur=0.3)
        kinds["hr" if hr is not pairs[1] else "lr" if lr is not pairs[0] else "none"] += 1
    assert kinds["hr"] == pytest.approx(80, abs=25)
    assert kinds["lr"] == pytest.approx(120, abs=30)


def test_probabilities_above_1_are_refused():
    with pytest.raises(ValueError, match="more than 1"):
        MixSettings(mixup=0.6, cutblur=0.6)
