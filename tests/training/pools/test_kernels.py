"""The step `kernel`: the arithmetic of KernelGAN, replayed, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch
from upscale_training.degradation import Degradation, DegradationSettings, apply, classical, sample
from upscale_training.degradation.operations import Resize
from upscale_training.degradation.steps import EitherOrder, JpegStep, ResizeStep
from upscale_training.pools.kernels import KernelStep, PoolKernel

from tests.training.pools.conftest import shifted_gaussian
from upscale.errors import TrainingError, UsageError

KEEP = ResizeStep(up=0, down=0, keep=1, kinds=("nearest",), of="result")


def chain(pool, scale=4):
    return DegradationSettings((KernelStep(pool=pool), KEEP), scale)


def one(settings, seed=0):
    return sample(settings, 1, np.random.default_rng(seed))[0]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_lr_image_is_that_of_kernelgans_code(tmp_path, photographs, scale):
    """Correlation with the kernel, of which the pixels 0, s, 2s, ... are kept."""
    kernel = shifted_gaussian(scale)
    kernel[4, 9] += 0.05  # so that it is no correlation of a symmetric kernel
    kernel /= kernel.sum()
    middle = [(kernel.sum(axis) @ np.arange(15)) for axis in (1, 0)]
    np.save(tmp_path / "k.npy", kernel)
    hr = photographs[:1, :, :96, :96]
    lr = apply(hr, [one(chain(tmp_path / "k.npy", scale), 1)])
    for channel in range(3):
        # The reference moves the image where the code moves the kernel.
        offset = [place - 7 - (scale - 1) / 2 for place in middle]
        moved = scipy.ndimage.fourier_shift(np.fft.fft2(hr[0, channel]), offset)
        wanted = scipy.ndimage.correlate(np.fft.ifft2(moved).real, kernel, mode="reflect")
        error = (lr[0, channel].numpy() - wanted[::scale, ::scale])[4:-4, 4:-4]
        assert np.abs(error).max() * 255 < 1.5


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("offset", [0.0, 0.5, 1.5])
def test_lr_images_are_aligned_wherever_the_kernel_is_in_its_file(tmp_path, scale, offset):
    """A chirp gets the phase that bicubic downscaling gives it, to 0.05 pixels of the LR image."""
    axis = np.arange(19) - 9 - offset
    values = np.exp(-(axis**2) / (2 * 1.5**2))
    np.save(tmp_path / "k.npy", np.outer(values, values))
    along = torch.arange(384)
    wave = (0.5 + 0.4 * torch.sin(along**2 * (2 * np.pi / 20000))).expand(1, 3, 384, 384)
    for hr in (wave, wave.transpose(2, 3)):
        found = apply(hr, [one(chain(tmp_path / "k.npy", scale))])[0, 0]
        expected = apply(hr, [one(classical(scale))])[0, 0]
        line, other = (x[50] if hr is wave else x[:, 50] for x in (found, expected))
        slope = (other[2:] - other[:-2])[8:-8] / 2
        shift = ((line - other)[9:-9] * slope).sum() / slope.square().sum()
        assert abs(shift) < 0.05


def test_every_kernel_of_a_pool_is_sampled_equally_often(kernels):
    degradations = sample(chain(kernels), 600, np.random.default_rng(0))
    counts = Counter((each.operations[0].file, each.operations[0].index) for each in degradations)
    assert len(counts) == 3
    assert max(counts.values()) < 260 and min(counts.values()) > 140


def test_a_description_gives_the_same_pixels_again(kernels, photographs):
    degradations = sample(chain(kernels), 4, np.random.default_rng(3))
    again = [Degradation.from_dict(json.loads(json.dumps(each.as_dict()))) for each in degradations]
    assert again == list(degradations)
    assert torch.equal(apply(photographs, again), apply(photographs, degradations))
    assert str(again[0]).startswith("kernel ")


def test_kernels_of_different_sizes_share_a_batch(kernels, photographs):
    degradations = sample(chain(kernels), 4, np.random.default_rng(3))
    together = apply(photographs, degradations)
    for place in range(4):
        alone = apply(photographs[place : place + 1], degradations[place : place + 1])
        assert ((alone[0] - together[place]).abs() * 255).max() < 1.01


def operation(kernels, **changes):
    values = one(chain(kernels)).as_dict()
    values["operations"][0] |= changes
    return Degradation.from_dict(values)


def test_a_file_that_changed_is_not_replayed(kernels, photographs):
    described = operation(kernels, file=str(kernels / "pair.npy"), sha256="0" * 64)
    with pytest.raises(TrainingError, match=r"pair\.npy: has changed since it was described"):
        apply(photographs[:1], [described])


def test_a_kernel_that_is_not_there_is_named(kernels, photographs):
    first = sample(chain(kernels / "pair.npy"), 1, np.random.default_rng(0))[0].operations[0]
    beyond = PoolKernel(first.file, 2, first.sha256, 4)
    with pytest.raises(TrainingError, match="has 2 kernels, so there is no kernel 2"):
        apply(photographs[:1], [Degradation((beyond, Resize("nearest", 1, 4)))])


@pytest.mark.parametrize(
    "steps",
    [
        (
            ResizeStep(up=0, down=0, keep=1, kinds=("nearest",), of="result"),
            KernelStep(pool=Path("k")),
        ),
        (KernelStep(pool=Path("k")), ResizeStep(up=0, down=0, keep=1, of="result")),
        (KernelStep(pool=Path("k")), JpegStep(), KEEP),
        (EitherOrder(one=(KernelStep(pool=Path("k")),), other=(JpegStep(),)), KEEP),
    ],
)
def test_one_pixel_of_each_square_must_be_kept_next(steps):
    with pytest.raises(UsageError, match="must be followed by"):
        DegradationSettings(steps, 4)


def test_the_official_mode_has_no_kernels(kernels):
    with pytest.raises(UsageError, match="basicsr cannot do kernel"):
        DegradationSettings((KernelStep(pool=kernels), KEEP), 4, "official")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nowhere", "nowhere: cannot be read"), ("empty", "empty: contains no kernels")],
)
def test_a_pool_without_kernels_is_named(tmp_path, name, reason):
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match=reason):
        chain(tmp_path / name).prepare()


def test_a_damaged_kernel_ends_the_preparation(kernels):
    (kernels / "bad.mat").write_bytes(b"nothing of the kind")
    with pytest.raises(TrainingError, match=r"bad\.mat: no kernel can be read"):
        chain(kernels).prepare()
