"""Whole chains: replayed, independent, and in official mode equal to basicsr."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from upscale_training.degradation import (
    Degradation,
    apply,
    classical,
    generic,
    real_esrgan,
    sample,
    sharpen,
)
from upscale_training.degradation.filters import stack_kernels
from upscale_training.degradation.operations import Blur, GaussianNoise, Jpeg, PoissonNoise, Resize

SETTINGS = [real_esrgan(), real_esrgan(1), real_esrgan(4, "official"), classical(2), generic()]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_batch_becomes_8_bit_images_of_the_results_size(photographs, settings):
    found = apply(photographs, sample(settings, 4, np.random.default_rng(1)))
    assert found.shape == (4, 3, 96 // settings.scale, 128 // settings.scale)
    assert found.dtype == torch.float32 and found.is_contiguous()
    assert found.min() >= 0 and found.max() <= 1
    assert torch.equal((found * 255).round() / 255, found)


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_description_restored_from_json_gives_the_same_pixels(photographs, settings):
    degradations = sample(settings, 4, np.random.default_rng(2))
    again = [Degradation.from_dict(json.loads(json.dumps(each.as_dict()))) for each in degradations]
    torch.manual_seed(1)
    first = apply(photographs, degradations)
    torch.manual_seed(2)
    assert torch.equal(apply(photographs, again), first)


def test_each_image_is_degraded_on_its_own(photographs):
    degradations = sample(real_esrgan(), 4, np.random.default_rng(3))
    together = apply(photographs, degradations)
    for place in range(4):
        alone = apply(photographs[place : place + 1], degradations[place : place + 1])
        # Sums in another order may turn a rounding, which JPEG can make larger; rarely.
        levels = (alone[0] - together[place]).abs() * 255
        assert (levels > 0.5).float().mean() < 0.01
    order = [2, 0, 3, 1]
    shuffled = apply(photographs[order], [degradations[place] for place in order])
    assert ((shuffled - together[order]).abs() * 255 > 0.5).float().mean() < 0.01


def test_degradations_differ_between_images_of_a_batch(photographs):
    same = photographs[:1].expand(4, -1, -1, -1)
    found = apply(same, sample(real_esrgan(), 4, np.random.default_rng(4)))
    for place in range(1, 4):
        assert (found[0] - found[place]).abs().mean() > 1 / 255


@pytest.mark.parametrize("mode", ["corrected", "official"])
# Every height in .ci/run, else every fifth and the smallest.
@pytest.mark.parametrize(
    "height",
    [
        pytest.param(height, marks=[pytest.mark.slow] if height > 4 and height % 5 else [])
        for height in range(1, 41)
    ],
)
def test_odd_and_small_images(smooth, height, mode):
    settings, width = real_esrgan(4, mode), 41 - height
    for seed in range(6):
        found = apply(smooth(2, height, width), sample(settings, 2, np.random.default_rng(seed)))
        assert found.shape == (2, 3, max(height // 4, 1), max(width // 4, 1))
        assert found.isfinite().all()


def test_kernels_of_one_pixel_and_the_ends_of_quality(photographs):
    only = [Blur("iso", 1), Blur("sinc", 1), Jpeg(100)]
    kept = apply(photographs, [Degradation(tuple(only))] * 4)
    assert (kept - photographs).abs().mean() * 255 < 1.5  # but for JPEG's halved chroma
    worst = apply(photographs, [Degradation((Jpeg(1),))] * 4)
    assert (worst - photographs).abs().mean() * 255 > 10
    assert worst.isfinite().all()


def test_an_empty_batch_is_no_error(photographs):
    assert len(apply(photographs[:0], sample(real_esrgan(), 0, np.random.default_rng(0)))) == 0


def test_integer_levels_raise_an_error(photographs):
    for work in (sharpen, lambda images: apply(images, [Degradation(())] * 4)):
        with pytest.raises(ValueError, match="not torch"):
            work((photographs * 255).byte())


@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
def test_other_floats_are_taken_as_single_precision(photographs, kind):
    degradations = sample(real_esrgan(), 4, np.random.default_rng(9))
    found = apply(photographs.to(kind), degradations)
    assert torch.equal(found, apply(photographs.to(kind).float(), degradations))


def test_the_callers_images_and_layout_are_left_alone(photographs):
    degradations = sample(real_esrgan(), 4, np.random.default_rng(5))
    given = photographs.clone()
    expected = apply(given, degradations)
    assert torch.equal(given, photographs)
    last = photographs.contiguous(memory_format=torch.channels_last)
    assert torch.equal(apply(last, degradations), expected)
    turned = photographs.transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(apply(turned, degradations), expected)


def test_gradients_and_autocast_stay_out(photographs):
    degradations = sample(real_esrgan(), 4, np.random.default_rng(6))
    expected = apply(photographs, degradations)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = apply(photographs.clone().requires_grad_(), degradations)
    assert not found.requires_grad
    assert torch.equal(found, expected)


def test_precision_settings_of_the_caller_are_kept(photographs):
    backend = torch.backends.cuda.matmul
    before = backend.fp32_precision
    try:
        backend.fp32_precision = "tf32"
        apply(photographs, sample(real_esrgan(), 4, np.random.default_rng(7)))
        assert backend.fp32_precision == "tf32"
    finally:
        backend.fp32_precision = before


def test_counts_and_sizes_that_do_not_fit_raise_an_error(photographs):
    degradations = sample(real_esrgan(), 3, np.random.default_rng(8))
    with pytest.raises(ValueError, match="3 degradations for 4 images"):
        apply(photographs, degradations)
    mixed = [Degradation((Resize("area", factor),)) for factor in (1, 0.5, 1, 1)]
    with pytest.raises(ValueError, match="different sizes"):
        apply(photographs, mixed)


class Scripted:
    """Replaces `random` and `np.random` in basicsr's model with given numbers."""

    def __init__(self, answers):
        self.answers = list(answers)

    def next(self, *_, **__):
        return self.answers.pop(0)

    choices = choice = uniform = next


def answers_for(operations):
    """Return the random numbers, in the order of `feed_data`, that lead to these operations."""
    found, noises = [], 0
    for place, operation in enumerate(operations):
        if isinstance(operation, Blur) and place == 4:
            found.append(0.0)  # no skipping of the second blur
        if isinstance(operation, Resize):
            if place == 4:
                found.append(1.0)  # the second blur was skipped
            if noises < 2:
                way = "keep" if operation.factor == 1 else "up" if operation.factor > 1 else "down"
                found += [[way]] + ([] if way == "keep" else [operation.factor])
            found.append(operation.kind)
        if isinstance(operation, GaussianNoise | PoissonNoise):
            noises += 1
            found.append(0.0 if isinstance(operation, GaussianNoise) else 1.0)
            if noises == 2:  # which comes first: the last resize, or JPEG
                found.append(0.0 if isinstance(operations[place + 1], Resize) else 1.0)
    return found


def basicsr_feeds(basicsr, monkeypatch, images, degradations):
    """Degrade a batch by basicsr's own `RealESRGANModel.feed_data` with these random numbers."""
    model, rows = basicsr.model, [each.operations for each in degradations]
    columns = list(zip(*rows, strict=True))
    noises = [c for c in columns if isinstance(c[0], GaussianNoise | PoissonNoise)]
    qualities = [[each.quality for each in c] for c in columns if isinstance(c[0], Jpeg)]
    blurs = [stack_kernels(c).float() for c in columns if isinstance(c[0], Blur)]

    def noisy(kind):
        def add(image, **_):
            sampled = noises.pop(0)
            torch.manual_seed(sampled[0].seed)
            grey = torch.tensor([float(each.grey) for each in sampled])
            if kind is GaussianNoise:
                sigma = torch.tensor([each.sigma for each in sampled])
                return basicsr.degradations.add_gaussian_noise_pt(image, sigma, grey)
            scale = torch.tensor([each.scale for each in sampled])
            return basicsr.degradations.add_poisson_noise_pt(image, scale, gray_noise=grey)

        return add

    script = Scripted(answers_for(rows[0]))
    monkeypatch.setattr(model, "random", script)
    monkeypatch.setattr(model, "np", SimpleNamespace(random=script))
    monkeypatch.setattr(model, "random_add_gaussian_noise_pt", noisy(GaussianNoise))
    monkeypatch.setattr(model, "random_add_poisson_noise_pt", noisy(PoissonNoise))
    jpeg = basicsr.DiffJPEG(False)
    numbers = dict.fromkeys(("gray_noise_prob", "gray_noise_prob2", "second_blur_prob"), 0.5)
    numbers |= dict.fromkeys(("gaussian_noise_prob", "gaussian_noise_prob2"), 0.5)
    ranges = ("resize_range", "resize_range2", "noise_range", "noise_range2", "jpeg_range")
    ranges += ("jpeg_range2", "poisson_scale_range", "poisson_scale_range2")
    feeding = SimpleNamespace(
        is_train=True,
        device="cpu",
        opt=numbers
        | dict.fromkeys(ranges, (1, 2))
        | {"scale": 4, "gt_size": 96, "resize_prob": None, "resize_prob2": None},
        usm_sharpener=basicsr.USMSharp(50, 0),
        jpeger=lambda image, quality: jpeg(image, torch.tensor(qualities.pop(0))).contiguous(),
        _dequeue_and_enqueue=lambda: None,
    )
    kernels = {"kernel1": blurs[0], "kernel2": blurs[1], "sinc_kernel": blurs[-1]}
    model.RealESRGANModel.feed_data(feeding, {"gt": images, **kernels})
    assert not script.answers and not qualities and not noises
    return feeding.lq


@pytest.mark.parametrize(
    "seed",
    [pytest.param(seed, marks=[pytest.mark.slow] if seed > 3 else []) for seed in range(12)],
)
def test_official_mode_is_basicsrs_feed_data(basicsr, monkeypatch, photographs, seed):
    """The whole second-order process (section 3.2), run by basicsr's own code."""
    images = photographs[..., :96]
    degradations = sample(real_esrgan(4, "official"), 4, np.random.default_rng(seed))
    degradations = [with_both_sincs(each) for each in degradations]
    ours = apply(sharpen(images), degradations)
    theirs = basicsr_feeds(basicsr, monkeypatch, images, degradations)
    levels = (ours - theirs).abs() * 255
    assert (levels > 0.5).float().mean() < 1e-3


def with_both_sincs(degradation):
    """Add the blurs that basicsr always has a kernel for, so that orders are known."""
    operations = list(degradation.operations)
    place = next(i for i, each in enumerate(operations) if isinstance(each, Resize) and i > 5)
    if place + 1 == len(operations) or not isinstance(operations[place + 1], Blur):
        operations.insert(place + 1, Blur("iso", 1))
    return Degradation(tuple(operations), degradation.mode)
