"""Operations on images of different sizes in few calls, as on a GPU, equal those one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from upscale_training.degradation import apply, chain, real_esrgan, sample
from upscale_training.degradation.jpeg import NARROW, jpeg, jpeg_together
from upscale_training.degradation.noise import add_poisson, add_poisson_together
from upscale_training.degradation.operations import Degradation, Jpeg, PoissonNoise

from benchmarks.degradation import CallCounter


@pytest.fixture
def images() -> list[torch.Tensor]:
    """Images of all kinds of sides, which end within and between blocks."""
    rng = np.random.default_rng(3)
    torch.manual_seed(3)
    sides = [(int(rng.integers(1, 50)), int(rng.integers(NARROW + 1, 50))) for _ in range(60)]
    return [torch.rand(1, 3, *side) for side in [*sides, (16, 16), (1, 5), (32, 17)]]


def test_jpeg(images):
    operations = [Jpeg(1 + index % 100) for index in range(len(images))]
    found = jpeg_together(images, operations)
    for image, operation, one in zip(images, operations, found, strict=True):
        assert torch.equal(one, jpeg(image, [operation]))


def test_poisson_noise(images):
    peaks = [None, None, 37.5]
    operations = [
        PoissonNoise(1.5, index % 2 == 0, index, peaks[index % 3]) for index in range(len(images))
    ]
    found = add_poisson_together(images, operations)
    for image, operation, one in zip(images, operations, found, strict=True):
        assert torch.equal(one, add_poisson(image, [operation]))


def test_whole_chains_give_the_same_pixels_in_half_as_many_calls(photographs, monkeypatch):
    batch = torch.cat([photographs, photographs.flip(2), photographs.flip(3)])[:8]
    degradations = sample(real_esrgan(), len(batch), np.random.default_rng(5))
    with CallCounter() as alone:
        expected = apply(batch, degradations)
    monkeypatch.setattr(chain, "counts_calls", lambda device: True)
    with CallCounter() as together:
        assert torch.equal(apply(batch, degradations), expected)
    assert together.calls < 0.6 * alone.calls
    for image, degradation, one in zip(batch, degradations, expected, strict=True):
        assert torch.equal(apply(image[None], [degradation])[0], one)  # replayed alone


def test_images_that_are_too_narrow_run_alone(monkeypatch):
    monkeypatch.setattr(chain, "counts_calls", lambda device: True)
    image = torch.rand(1, 3, 9, NARROW)
    found = apply(image, [Degradation((Jpeg(40),))])
    assert torch.equal(found, jpeg(image, [Jpeg(40)]))
