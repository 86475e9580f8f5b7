from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.signal import convolve2d
from upscale_training.losses import PixelLoss, focal_frequency, ms_ssim


def images(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    one = torch.rand((2, 3, side, side), generator=random)
    smooth = torch.nn.functional.avg_pool2d(one, 5, 1, 2)
    return smooth, (smooth + 0.05 * torch.rand(one.shape, generator=random)).clamp(0, 1)


def reference_ms_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """MS-SSIM of two images (H, W), written out from the paper."""
    axis = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(axis, axis) / axis.sum() ** 2
    result = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mean, variance = {}, {}
        for name, value in (("x", one), ("y", other)):
            mean[name] = convolve2d(value, window, "valid")
            variance[name] = convolve2d(value**2, window, "valid") - mean[name] ** 2
        both = convolve2d(one * other, window, "valid") - mean["x"] * mean["y"]
        terms = (2 * both + 9e-4) / (variance["x"] + variance["y"] + 9e-4)
        if scale == 4:
            terms = terms * (2 * mean["x"] * mean["y"] + 1e-4)
            terms = terms / (mean["x"] ** 2 + mean["y"] ** 2 + 1e-4)
        result *= terms.mean() ** weight
        one, other = (
            image.reshape(len(image) // 2, 2, -1, 2).mean((1, 3)) for image in (one, other)
        )
    return result


def test_ms_ssim_is_that_of_the_paper():
    one, other = images(192)
    expected = [
        reference_ms_ssim(*(each[image, channel].double().numpy() for each in (one, other)))
        for image in range(2)
        for channel in range(3)
    ]
    assert 1 - ms_ssim(one, other).item() == pytest.approx(np.mean(expected), abs=1e-5)


def test_ms_ssim_grows_with_the_difference_and_has_finite_gradients():
    one, other = images(64)
    far = torch.rand(other.shape, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert 0 < ms_ssim(one, other) < ms_ssim(one, far) <= 1
    ms_ssim(one, far).backward()
    assert far.grad is not None and far.grad.isfinite().all()
    assert ms_ssim(one, one).item() == pytest.approx(0, abs=1e-6)


def test_the_focal_frequency_loss_is_the_weighted_mean_over_the_spectrum():
    one, other = images(8)
    expected = []
    for image in range(2):
        for channel in range(3):
            difference = torch.zeros(8, 8, dtype=torch.complex128)
            for u in range(8):
                for v in range(8):
                    rows = torch.exp(-2j * torch.pi * u * torch.arange(8) / 8)
                    columns = torch.exp(-2j * torch.pi * v * torch.arange(8) / 8)
                    pixels = (one - other)[image, channel].to(torch.complex128)
                    difference[u, v] = (rows[:, None] * columns * pixels).sum() / 8
            size = difference.abs()
            expected.append((size / size.max() * size**2).mean())
    assert focal_frequency(one, other).item() == pytest.approx(
        torch.stack(expected).mean().item(), rel=1e-4
    )


def test_the_weight_of_the_focal_frequency_loss_has_no_gradient():
    one = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    target = torch.zeros(1, 1, 8, 8)
    focal_frequency(one, target).backward()
    with torch.no_grad():
        spectrum = torch.fft.fft2(one, norm="ortho")
        weight = spectrum.abs() / spectrum.abs().max()
        expected = 2 * torch.fft.ifft2(weight * spectrum, norm="ortho").real / 64
    assert torch.allclose(one.grad, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["ms-ssim", "focal-frequency"])
def test_recipes_can_use_them(kind):
    one, other = images(32)
    assert PixelLoss(kind, weight=2.0)(one, other) > 0
